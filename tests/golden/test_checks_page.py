"""The page of checks and its readers say the same: codes, claims and limits, in Python, C, Go and JavaScript.

What a reader does with them is for the vectors (tests/clients); here no table can drift from another without being seen.
"""

import json
import re
from pathlib import Path

import msgspec
import pytest

from support import golden
from tallystick.domain import verdict
from tallystick.protocol import answers, envelope, keys, messages
from tallystick.protocol.problems import BY_CODE

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "protocol" / "checks.md").read_text("utf-8")
C, HEADER, MANUAL = ((CHECKOUT / "clients" / "c" / f"tallystick.{end}").read_text("utf-8") for end in ("c", "h", "3"))
GO, JAVASCRIPT = (
    (CHECKOUT / "docs" / "clients" / f"{name}.md").read_text("utf-8").partition("file=check.")[2].partition("\n```")[0]
    for name in ("go", "javascript")
)
FIRMWARE = (CHECKOUT / "docs" / "integration" / "firmware.md").read_text("utf-8")


def table(name: str) -> list[list[str]]:
    """The cells of its rows."""
    text = PAGE.partition(f"<!-- table: {name} -->\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()[2:]]


def codes_of_the_page() -> list[str]:
    """In the order in which they are decided, each once; ``licensed`` last."""
    steps = PAGE.partition("## How a program decides")[2].partition("The **moment**")[0]
    rows = [row.strip("|").split("|") for row in steps.splitlines() if re.match(r"\| *\d* *\|", row)]
    return list(dict.fromkeys(code for row in rows for code in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", row[-1])))


CODES = codes_of_the_page()
READ_LATER = {"expired", "too-few", "not-licensed", "licensed"}


def test_the_page_was_read_whole():
    assert len(CODES) == 17
    assert (CODES[0], CODES[-1]) == ("check-wrong", "licensed")
    assert set(re.findall(r"`([a-z]+-[a-z-]+)`", FIRMWARE)) & set(CODES) > {"other-issuer", "agent-absent"}


def test_every_code_but_licensed_is_a_problem_with_a_next_step():
    for code in CODES[:-1]:
        assert BY_CODE[code].title, code
        assert BY_CODE[code].next_step, code


def test_the_python_readers_have_the_codes_of_the_page_and_no_other():
    source = "".join(
        (CHECKOUT / "src" / "tallystick" / name).read_text("utf-8")
        for name in ("protocol/answers.py", "fieldserver/asking.py")
    )
    said = set(re.findall(r'(?:_RefusedError|_TroubleError)\(\s*"([a-z-]+)"', source))
    said |= set(re.findall(r'code="([a-z-]+)"', source)) | set(
        re.findall(r'\("([a-z]+-[a-z-]+)", (?:f"|error)', source)
    )
    said -= {"invariant", "not-found"}  # a fault of ours, and the agent's own
    assert said | {str(standing) for standing in verdict.Standing} == set(CODES)


def test_the_header_of_the_c_library_has_the_codes_of_the_page():
    named = re.findall(r'^#define TALLYSTICK_([A-Z_]+) "([a-z-]+)"$', HEADER, re.MULTILINE)
    assert {code for _name, code in named} == set(CODES)
    assert all(name == code.upper().replace("-", "_") for name, code in named)
    used = re.findall(r"^static const char ([A-Z_]+)\[\] = TALLYSTICK_([A-Z_]+);$", C, re.MULTILINE)
    assert sorted(used) == sorted((name, name) for name, _code in named)


def test_the_manual_of_the_c_library_has_the_codes_of_the_page():
    assert set(re.findall(r"^\.It Li ([a-z-]+)$", MANUAL, re.MULTILINE)) == set(CODES)


@pytest.mark.parametrize("source", [GO, JAVASCRIPT], ids=["Go", "JavaScript"])
def test_the_pages_of_other_languages_have_the_codes_of_the_page_and_no_other(source):
    words = set(re.findall(r"[\"']([a-z]+(?:-[a-z]+)*)[\"']", source))
    assert set(CODES) <= words
    assert {word for word in words - set(CODES) if "-" in word} <= {"content-length", "transfer-encoding", "utf-8"}


def test_the_guide_says_what_to_do_at_every_code():
    section = FIRMWARE.partition('## At "not')[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", section))
    told |= {code for code in CODES if code.startswith("answer-") and "`answer-...`" in section}
    assert set(CODES) - {"licensed"} <= told


def test_the_table_of_claims_is_the_answer():
    fields = {field.encode_name for field in msgspec.structs.fields(answers.Answer)}
    assert {row[0].strip("`") for row in table("Answer")} == fields
    assert all(f'text_is(name, "{field}")' in C.partition("answer_read(")[2].partition("\n}")[0] for field in fields)
    claims = GO.partition("answerClaims = ")[2].partition("})")[0]
    assert set(re.findall(r'"(\w+)":', claims)) == fields
    claims = JAVASCRIPT.partition("'tally-answer+jwt': object({")[2].partition("})")[0]
    assert set(re.findall(r"(\w+): ", claims)) == fields


def c(name: str) -> int:
    """A number of the library, or of its header."""
    (found,) = re.findall(rf"^#define {name} (\d+)u?\b", C + HEADER, re.MULTILINE)
    return int(found)


LIMITS = {
    "roots that a program names": (answers.ROOTS_MAX, c("TALLYSTICK_ROOTS_MAX"), "len(c.Roots) <= {}", "this.roots.length <= {}"),
    "bytes of the path of a socket": (answers.SOCKET_PATH_BYTES_MAX, None, "len(socket) <= {}", "Buffer.byteLength(path) <= {}"),
    "bytes of a head, of the question and of the reply": (answers.HEAD_BYTES_MAX, c("HEAD_MAX"), "headMax     = {:_}", "HEAD_MAX = {:_}"),
    "bytes of an answer": (answers.ANSWER_BYTES_MAX, c("BODY_MAX"), "bodyMax     = {:_}", "BODY_MAX = {:_}"),
    "bytes of an envelope": (envelope.LINE_BYTES_MAX, c("ENVELOPE_MAX"), "lineMax     = {:_}", "LINE_MAX = {:_}"),
    "envelopes of an answer": (answers._ENVELOPES_MAX, None, "len(lines) <= {}", "lines.length <= {}"),
    "symbols of a feature": (32, c("FEATURE_MAX"), "`^[A-Za-z0-9._-]{{1,{}}}$`", "/^[A-Za-z0-9._-]{{1,{}}}$/"),
    "symbols of a nonce": (64, None, "`^[A-Za-z0-9_-]{{22,{}}}$`", "/^[A-Za-z0-9_-]{{22,{}}}$/"),
    "units that are required; quantity of a license, and count of a feature": (
        messages.QUANTITY_MAX,
        c("QUANTITY_MAX"),
        "quantityMax = {:_}",
        "QUANTITY_MAX = {:_}",
    ),
    "whole numbers, and the sum of what is licensed": (verdict.SUM_MAX, c("INTEGER_MAX"), "integerMax  = 1<<53 - 1", "Number.MAX_SAFE_INTEGER"),
    "keys of a keyset": (keys.KEYS_MAX, c("KEYS_MAX"), "list(1, {}, object(", "list(1, {}, object("),
    "hand-overs of a keyset": (keys.HANDOVERS_MAX, c("HANDOVERS_MAX"), "list(0, {}, word(", "list(0, {}, (value)"),
    "licenses of a grant": (messages.LICENSES_MAX, c("LICENSES_MAX"), "list(0, {}, object(", "list(0, {}, object("),
    "features of a license": (8, c("FEATURES_MAX"), "len(found) <= {}", "value.size <= {}"),
    "milliseconds for a whole check, where the program says nothing": (
        round(answers.DEADLINE_SECONDS * 1000),
        c("TALLYSTICK_DEADLINE_DEFAULT"),
        "{} * time.Millisecond",
        "deadline = {}",
    ),
}  # fmt: skip


def test_the_table_of_limits_was_read_whole():
    assert [row[0] for row in table("limits")] == list(LIMITS)


@pytest.mark.parametrize(("limit", "shown"), table("limits"), ids=lambda value: value)
def test_a_limit_of_the_page_is_that_of_every_reader(limit, shown):
    in_python, in_c, in_go, in_javascript = LIMITS[limit]
    value = int(shown.replace(",", ""))
    assert in_python == value
    assert in_c in {None, value}
    assert in_go.format(value) in GO
    assert in_javascript.format(value) in JAVASCRIPT


def test_limits_of_features_nonces_and_numbers_are_those_that_python_checks():
    for text, is_right in (("a" * 32, True), ("a" * 33, False)):
        assert answers.is_check(text, 1) is is_right
    assert envelope.INTEGER_MAX == verdict.SUM_MAX
    for count, is_right in ((64, True), (65, False)):
        assert (answers._NONCE.fullmatch("A" * count) is not None) is is_right
    (features,) = (field for field in msgspec.structs.fields(messages.LicenseClaim) if field.name == "features")
    schema = msgspec.json.schema(features.type)
    assert schema["maxProperties"] == 8


def test_the_example_of_the_page_is_a_golden_answer():
    (name,) = re.findall(r"<!-- golden: (\S+) -->", PAGE)
    shown = re.search(r"<!-- golden: \S+ -->\n```json\n(.*?)\n```", PAGE, re.DOTALL)[1]
    first = golden.record(name)["envelopes"][0]
    header, claims = shown.split("\n}\n{")
    assert json.loads(header + "}") == {"alg": "EdDSA", "typ": first["typ"], "jwk": first["jwk"]}
    assert json.loads("{" + claims) == first["claims"]
