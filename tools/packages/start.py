"""What ``tallystick-admin.pyz`` begins with: it unpacks the wheels that fit this Python, once, and starts Device Administrator.

Without a word it opens the pages, as a double click wants it. An older Python has to be able to read this file, or nobody is told
what is missing.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import zipfile

ARCHIVE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        said = json.loads(archive.read("said.json").decode("utf-8"))
        python = "%d.%d" % sys.version_info[:2]
        is_system = sys.platform == said["platform"] and platform.machine().lower() == said["machine"].lower()
        if python not in said["pythons"] or not is_system:
            sys.exit(
                "This file is for Python %s on %s (%s); here is Python %s on %s (%s).\nNext: take the file for this system, or: pipx install tallystick[administrator]"
                % (
                    ", ".join(said["pythons"]),
                    said["platform"],
                    said["machine"],
                    python,
                    sys.platform,
                    platform.machine(),
                )
            )
        where = unpacked(archive, python, said["version"])
    sys.path[:] = [where] + [place for place in sys.path if os.path.abspath(place) != ARCHIVE]
    if len(sys.argv) == 1:
        sys.argv.append("web")
    sys.argv.insert(1, "admin")

    from tallystick.cli import main as command

    command()


def unpacked(archive: zipfile.ZipFile, python: str, version: str) -> str:
    """The directory with what it holds for this Python; a version beside another one has its own."""
    names = [name for name in archive.namelist() if name.startswith(("wheels/any/", "wheels/%s/" % python))]
    digest = hashlib.sha256(repr([(name, archive.getinfo(name).CRC) for name in names]).encode()).hexdigest()[:16]
    above = os.path.join(cache_directory(), "tallystick", "pyz")
    where = os.path.join(above, "%s-%s-%s" % (version, python, digest))
    if os.path.isdir(where):
        return where
    os.makedirs(above, mode=0o700, exist_ok=True)
    beside = tempfile.mkdtemp(prefix=".unpacking-", dir=above)
    try:
        for name in names:
            with archive.open(name) as packed, zipfile.ZipFile(packed) as wheel:
                wheel.extractall(beside)
        os.rename(beside, where)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not os.path.isdir(where):  # somebody else may have been quicker
            sys.exit(
                "Unpacking into %s failed: %s.\nNext: make room there, or name another place in XDG_CACHE_HOME."
                % (above, error)
            )
    return where


def cache_directory() -> str:
    """Of this person, and nobody else."""
    if os.environ.get("XDG_CACHE_HOME"):
        return os.environ["XDG_CACHE_HOME"]
    if sys.platform == "win32":
        return os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    return os.path.expanduser("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")


if __name__ == "__main__":
    main()
