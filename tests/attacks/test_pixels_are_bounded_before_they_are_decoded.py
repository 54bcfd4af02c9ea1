"""Rule 14: pixels are bounded before they are decoded, and decoded in a process with a memory limit.

A picture of a few hundred kilobytes can say that it is gigabytes. No process that serves anybody decodes one.
"""

import ast
import json
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import pytest
import segno

import tallystick
from tallystick.pages import photo_process, photos

SOURCE = Path(tallystick.__file__).parent
MEBIBYTE = 1024 * 1024
DECODERS = {"PIL", "zxingcpp", "cv2", "imageio", "pyzbar"}


def png(width, height, *, color=6, depth=8, chunks=()):
    """A PNG of one color, as small as it can be."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    row = b"\0" + bytes(width * channels * depth // 8)
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    more = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


SERVING = """
import json, resource, sys
from tallystick.errors import Error
from tallystick.pages import photos

def most(who):
    return resource.getrusage(who).ru_maxrss * 1024

data, before = sys.stdin.buffer.read(), most(resource.RUSAGE_SELF)
try:
    said = photos.read_photo(data)
except Error as error:
    said = error.code
print(json.dumps([said, most(resource.RUSAGE_SELF) - before, most(resource.RUSAGE_CHILDREN)]))
"""


def outcome(data):
    """What a process that serves says; how much its memory grew, and how much that of its reader is."""
    done = subprocess.run([sys.executable, "-c", SERVING], input=data, capture_output=True, check=True, timeout=300)
    return json.loads(done.stdout)


HOSTILE = {
    "as many pixels as the limit lets through": lambda: png(4000, 4000),
    "more pixels than the limit": lambda: png(8000, 8000),
    "sixteen bits of each color": lambda: png(4000, 4000, depth=16),
    "more than anything has": lambda: png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 2**30, 2**30)),
    "a text that unpacks to gigabytes": lambda: png(
        8, 8, chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(128 * MEBIBYTE), 6))]
    ),
    "a profile that unpacks to gigabytes": lambda: png(
        8, 8, chunks=[(b"iCCP", b"a\0\0" + zlib.compress(bytes(128 * MEBIBYTE), 6))]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_takes_little_memory_here_and_bounded_memory_there(name):
    data = HOSTILE[name]()
    assert len(data) < MEBIBYTE
    said, here, there = outcome(data)
    assert said == "photo-unreadable"
    assert here < 16 * MEBIBYTE
    assert there < photo_process.MEMORY_BYTES_MAX


def test_the_limits_hold_for_whatever_runs_in_that_process(tmp_path):
    """The sizes are looked at first, but the limit does not depend on anybody's looking."""
    code = (
        "from tallystick.pages import photo_process as p; p.limit()\n"
        "try: bytes(p.MEMORY_BYTES_MAX)\n"
        "except MemoryError: print('stopped')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped\n"


def test_an_honest_photograph_is_read():
    out = BytesIO()
    segno.make("TALLY").save(out, kind="png", scale=12)
    assert photos.read_photo(out.getvalue()) == ["TALLY"]


def test_no_other_part_of_tallystick_decodes_pictures():
    """A new place that decodes is found here, whatever it is called."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = (
                [name.name for name in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if DECODERS & {name.split(".")[0] for name in names}:
                found.add(path.relative_to(SOURCE).as_posix())
    assert found == {"pages/photo_process.py"}
