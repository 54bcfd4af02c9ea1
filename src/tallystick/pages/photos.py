"""The texts of the QR codes in a photograph, where the optional libraries for it are installed.

Guarantees: this process never decodes a picture. Another one does, of limited memory and time, and few of those at
once; whatever is wrong with the bytes, or becomes of that process, ends in one error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from typing import Final

from tallystick.errors import Error
from tallystick.pages.photo_process import EXIT_UNREADABLE, PIXELS_MAX, READER_SECONDS
from tallystick.sentences import _

PHOTO_BYTES_MAX: Final = 16 * 1024 * 1024
CODES_MAX: Final = 40
READERS_MAX: Final = 2  # at once; others wait
_SEEN_MAX: Final = 200
_NEEDED: Final = ("PIL", "zxingcpp")

_readers: Final = threading.BoundedSemaphore(READERS_MAX)


def read_photo(data: bytes) -> list[str]:
    """The texts of all QR codes in it, one or more. Raises ``Error`` (``photo-unreadable``, ``photos-not-installed``)."""
    if any(find_spec(name) is None for name in _NEEDED):
        raise Error("photos-not-installed", expected=_("tallystick[photos]"), seen=_("an installation without it"))
    # -P: the directory that this was started in is no place to import from.
    command = [sys.executable, "-P", "-m", "tallystick.pages.photo_process"]
    # One heap is enough for one thread, and each counts against the limit.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with _readers:
        try:
            done = subprocess.run(
                command, input=data, capture_output=True, timeout=READER_SECONDS, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            raise _unreadable(
                _("one that takes more than {reader_seconds:g} seconds", reader_seconds=READER_SECONDS)
            ) from None
        except OSError as error:
            raise _unreadable(_("no process to read it in: {strerror}", strerror=error.strerror)) from None
    if done.returncode == EXIT_UNREADABLE:
        raise _unreadable(done.stdout.decode("utf-8", "replace")[:_SEEN_MAX])
    if done.returncode != 0:  # killed by its limits, or by a fault of a library
        raise _unreadable(_("one that takes more memory than a photograph does"))
    texts = [text for text in json.loads(done.stdout) if isinstance(text, str)][:CODES_MAX]
    if not texts:
        raise _unreadable(_("a picture without a readable code"))
    return texts


def _unreadable(seen: str) -> Error:
    return Error(
        "photo-unreadable",
        expected=_("a JPEG or PNG of at most {pixels_max:,} pixels with a code", pixels_max=PIXELS_MAX),
        seen=seen,
    )
