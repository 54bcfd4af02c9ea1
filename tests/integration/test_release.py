"""A release can be checked by the commands of the page, and nothing of it can be changed without showing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "release.md"
pytestmark = pytest.mark.slow


def run(*words, **options):
    return subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, **options)


def build(into, **environment):
    known = os.environ | {"PYTHONPATH": str(ROOT / "tools"), "DIST": str(into)} | environment
    return run(sys.executable, "-m", "packages", "wheel", "release", cwd=ROOT, env=known)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    place = tmp_path_factory.mktemp("release")
    key = place / "key.pem"
    assert run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key).returncode == 0
    done = build(place / "dist", RELEASE_KEY=str(key))
    assert done.returncode == 0, done.stderr
    return place / "dist"


@pytest.fixture
def got(released, tmp_path):
    return Path(shutil.copytree(released, tmp_path / "got"))


def check(place):
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return run("bash", "-ec", commands, cwd=place)


def test_the_commands_of_the_page_accept_it(got):
    done = check(got)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout


def test_every_file_is_covered(got):
    named = {line.split()[1] for line in (got / "SHA256SUMS").read_text("ascii").splitlines()}
    assert {file.name for file in got.iterdir()} - named == {"SHA256SUMS", "SHA256SUMS.sig", "release-key.pem"}


def test_a_changed_file_shows_whichever_it_is(got):
    for file in sorted(got.iterdir()):
        before = file.read_bytes()
        file.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
        assert check(got).returncode, file.name
        file.write_bytes(before)
    assert check(got).returncode == 0


def test_the_bill_names_every_package_of_every_list_with_its_hashes(got):
    (bill,) = got.glob("*.cdx.json")
    found = json.loads(bill.read_text("utf-8"))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    said = {(one["name"], one["version"]): {item["value"] for item in one["properties"]} for one in found["components"]}
    for listed in ("activation", "administrator", "fieldserver"):
        text = (got / next(got.glob(f"*-{listed}.txt")).name).read_text("ascii")
        for name, version, rest in re.findall(r"^([a-z0-9][^=\s]*)==([^\s;]+)((?:.*\\\n)+.*)", text, re.MULTILINE):
            hashes = set(re.findall(r"--hash=(\S+)", rest))
            assert hashes
            assert hashes | {listed} <= said[name, version], name


def test_the_same_commit_gives_the_same_bill_and_sums(got, tmp_path):
    key = tmp_path / "other.pem"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key)
    assert build(tmp_path / "again", RELEASE_KEY=str(key)).returncode == 0
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (got / "SHA256SUMS").read_bytes()


def test_without_a_key_nothing_is_signed(tmp_path):
    done = build(tmp_path / "dist", RELEASE_KEY=str(tmp_path / "none.pem"))
    assert done.returncode
    assert "RELEASE_KEY" in done.stderr
    assert not (tmp_path / "dist" / "SHA256SUMS").exists()


def test_the_notes_are_those_of_the_changelog(got):
    (notes,) = got.glob("*-notes.md")
    text = notes.read_text("utf-8")
    assert "### " in text
    assert "\n## " not in text
