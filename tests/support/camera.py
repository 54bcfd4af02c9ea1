"""A camera that sees what a page shows: pictures of its codes become a film, which Chromium plays as its camera."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 640, 480
RATE = 8  # pictures a second
SHOWN = 3  # pictures of each code
ROOM = b"\x60" * (WIDTH * HEIGHT)  # what it sees otherwise: grey


def arguments(film: Path) -> list[str]:
    """What Chromium is started with; the film may be another one whenever the camera is started."""
    return [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]


def photograph(page: Any) -> dict[int, bytes]:
    """Each code that a page shows, by its number, as a PNG picture of the screen."""
    if page.locator("[data-codes].playing").count():
        page.get_by_role("button", name="All at once").click()
    found = page.locator(".frames > li")
    return {
        int(found.nth(place).get_attribute("id").removeprefix("code-")): found.nth(place).locator(".qr").screenshot()
        for place in range(found.count())
    }


def film(path: Path, pictures: list[bytes]) -> None:
    """Pictures, one after the other, as an uncompressed film (YUV4MPEG2) that is played without end."""
    grey = b"\x80" * (WIDTH * HEIGHT // 2)
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for picture in [None, *pictures]:
            shown = ROOM if picture is None else _held(picture)
            for _ in range(SHOWN):
                file.write(b"FRAME\n" + shown + grey)


def _held(picture: bytes) -> bytes:
    """A code as a hand holds it in front of the camera: not straight, not in the middle."""
    with Image.open(BytesIO(picture)) as code:
        small = code.convert("L").resize((420, 420), Image.Resampling.BILINEAR)
    room = Image.frombytes("L", (WIDTH, HEIGHT), ROOM)
    turned = small.rotate(4, resample=Image.Resampling.BICUBIC, expand=True, fillcolor=0x60)
    room.paste(turned, (120, 12))
    return room.tobytes()
