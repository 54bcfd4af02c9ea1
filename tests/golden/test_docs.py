"""What the documents show is what the code does: examples are golden files, tables name every claim."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from tallystick.activation.core.ports import IncidentKind
from tallystick.domain.rules import LINES_MAX, RESERVED_LINES_MAX
from tallystick.protocol import envelope, keys, messages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GOLDEN = Path(__file__).parent / "v1"
PROTOCOL = (DOCS / "protocol" / "README.md").read_text("utf-8")
RECEIPTS = (DOCS / "receipts.md").read_text("utf-8")
INCIDENTS = (DOCS / "incidents.md").read_text("utf-8")
EXAMPLES = re.findall(r"<!-- golden: (\S+) (\d+)( \w+)? -->\n```\w+\n(.*?)\n```", PROTOCOL, re.DOTALL)
TABLES = dict(re.findall(r"<!-- table: (\w+) -->\n((?:\|.*\n)+)", PROTOCOL))
STRUCTS = {
    kind.__name__: kind
    for kind in (
        keys.KeysetClaims,
        messages.Request,
        messages.Grant,
        messages.LicenseClaim,
        messages.Refusal,
        messages.Credit,
        messages.EntitlementCertificate,
        messages.EntitlementLine,
    )
}
ROOT_FINGERPRINT = "YNIvjrG4wM03Inx8O65S-vJsiLrwYyFwNK6U42qkeXQ"


def decoded(compact: str, part: int) -> dict:
    text = compact.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.mark.parametrize(("name", "line", "how", "shown"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_is_a_golden_message(name, line, how, shown):
    lines = [text for text in (GOLDEN / f"{name}.tally").read_text("utf-8").splitlines() if text]
    compact = lines[int(line) - 1]
    match how.strip():
        case "compact":
            assert shown == compact
        case "claims":
            assert json.loads(shown) == decoded(compact, 1)
        case "":
            header, payload = shown.split("\n}\n{")
            assert json.loads(header + "}") == decoded(compact, 0)
            assert json.loads("{" + payload) == decoded(compact, 1)


def test_every_kind_of_message_has_an_example_and_a_heading():
    shown = {decoded((GOLDEN / f"{name}.tally").read_text("utf-8").split()[0], 0)["typ"] for name, *_ in EXAMPLES}
    kinds = {value for name, value in vars(messages).items() if isinstance(value, str) and value.endswith("+jwt")}
    kinds.remove(messages.ROOT)  # travels only inside of keysets
    assert f"`{messages.ROOT}`" in (DOCS / "protocol" / "keys.md").read_text("utf-8")
    assert shown == kinds
    assert set(re.findall(r"^### `(\S+\+jwt)`$", PROTOCOL, re.MULTILINE)) == kinds


@pytest.mark.parametrize("name", STRUCTS)
def test_a_table_names_every_claim_and_no_other(name):
    rows = TABLES[name].splitlines()[2:]
    shown = {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert shown == {field.encode_name for field in msgspec.structs.fields(STRUCTS[name])}


def test_the_limits_are_those_of_the_code():
    assert f"{envelope.LINE_BYTES_MAX:,} bytes" in PROTOCOL
    assert f"up to {messages.QUANTITY_MAX:,}" in PROTOCOL
    assert f"| {LINES_MAX}; {RESERVED_LINES_MAX} with those" in PROTOCOL
    assert f"fit in {messages.REASON_BYTES_MAX:,} bytes" in PROTOCOL
    assert envelope.INTEGER_MAX == 2**53 - 1
    assert messages.EPOCH_MAX == 2**48


def test_every_kind_of_incident_has_its_section_and_its_row():
    kinds = {str(kind) for kind in IncidentKind}
    assert set(re.findall(r"^## (\S+)$", INCIDENTS, re.MULTILINE)) == kinds
    assert set(re.findall(r"^\| \[`(\S+)`\]", INCIDENTS, re.MULTILINE)) == kinds
    sections = {section.partition("\n")[0]: section for section in INCIDENTS.split("\n## ")}
    for section in (sections[kind] for kind in kinds):
        for part in ("**What it means.**", "**What happens by itself.**", "**What a person can do.**"):
            assert part in section


def console(marker: str) -> tuple[str, str, str]:
    """Which files, and the command and what it printed, as the page shows it."""
    found = re.search(rf"<!-- {marker}: (\S+) (\S+) -->\n```console\n(.*?)```", RECEIPTS, re.DOTALL)
    assert found is not None
    return found[1], found[2], found[3]


def check(keyset: Path, receipt: Path) -> str:
    done = subprocess.run(
        [ROOT / "tools" / "verify-receipt.sh", keyset, receipt, ROOT_FINGERPRINT],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_receipts_page_shows_what_the_script_prints():
    keyset, receipt, shown = console("verify")
    command, printed = shown.split("\n", 1)
    assert command == (
        f"$ tools/verify-receipt.sh tests/golden/v1/{keyset}.tally tests/golden/v1/{receipt}.tally {ROOT_FINGERPRINT}"
    )
    assert printed == check(GOLDEN / f"{keyset}.tally", GOLDEN / f"{receipt}.tally")


def test_the_receipts_page_shows_what_an_altered_receipt_gets(tmp_path):
    keyset, receipt, shown = console("verify-altered")
    altered = tmp_path / "altered.tally"
    header, payload, signature = (GOLDEN / f"{receipt}.tally").read_text("utf-8").split(".")
    altered.write_text(f"{header}.{payload.replace('w', 'x', 1)}.{signature}")
    assert shown.split("\n", 1)[1] == check(GOLDEN / f"{keyset}.tally", altered)


def test_the_steps_of_the_receipts_page_work_as_they_stand(tmp_path):
    """All shell blocks, one after another, on the credit that the page speaks of."""
    steps = "\n".join(re.findall(r"```sh\n(.*?)```", RECEIPTS, re.DOTALL))
    (tmp_path / "credit.tally").write_bytes((GOLDEN / "returns-08-relinquish.reply.tally").read_bytes())
    done = subprocess.run(
        ["bash", "-euc", steps], cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Signature Verified Successfully\n")
    kid = decoded((GOLDEN / "returns-08-relinquish.reply.tally").read_text("utf-8"), 0)["kid"]
    assert f"{kid}Signature Verified" in done.stdout


@pytest.mark.parametrize(
    "page",
    [path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] != "reference"],
    ids=lambda path: str(path.relative_to(DOCS)),
)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            whole = path.read_text("utf-8")
            headings = {
                re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
                for heading in re.findall(r"^#+ (.+)$", whole, re.MULTILINE)
            }
            assert anchor in headings or f'id="{anchor}"' in whole, target
