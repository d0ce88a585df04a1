"""Pictures with one machine-readable code of which the place is known to the pixel, for `u2s bench detect`."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image

from u2s_datasets.cli.bench.scenes import Scene

KINDS = ("QRCode", "DataMatrix", "Aztec", "PDF417", "Code128", "EAN13", "EAN8")
MODULES = (2, 3, 5)
"""Pixels to a module, the narrowest bar or the smallest square, before the code is turned."""
TURNS = (0, 90, 180, 270, 10, 30, 45, 60)
_TEXTS = ("https://example.org/t/{:08d}", "Margaret Hollis {:06d}", "TRK{:010d}")
_DETAIL = 8  # pixels to a module before the code is turned and made small, so that its edges are soft as in a photo
_INKS = (((0, 0, 0), (255, 255, 255)), ((24, 30, 60), (232, 226, 214)), ((245, 245, 245), (20, 22, 28)))


def code_scenes(photos: Sequence[np.ndarray], rows: int) -> Iterator[Scene]:
    """`rows` pictures for each kind of code and size, with turns, places, photos and inks that change from one to the
    next; of three codes one is printed light on dark, if its kind may be.

    Args:
        photos: (H, W, 3) uint8 RGB, which must hold no code of their own.
        rows: pictures per cell, 1 or more.
    """
    for kind in KINDS:
        for module in MODULES:
            rng = np.random.default_rng([KINDS.index(kind), module])
            for row in range(rows):
                photo, turn = photos[row % len(photos)], TURNS[row % len(TURNS)]
                yield paste_code(photo, kind, module, turn, rng, f"{kind}, {module} px", row)


def paste_code(
    photo: np.ndarray, kind: str, module: float, turn: float, rng: np.random.Generator, cell: str = "", row: int = 0
) -> Scene:
    """The photo with a code in it, and where that is; enlarged first if the code would fill more than half of it."""
    inks = _INKS[row % len(_INKS)] if kind in ("QRCode", "DataMatrix", "Aztec") else _INKS[row % 2]
    paper, corners = _turned(_symbol(kind, int(rng.integers(10**6))), module, turn, inks)
    picture = Image.fromarray(photo)
    least = 2 * max(paper.width / picture.width, paper.height / picture.height)
    if least > 1:
        picture = picture.resize((round(picture.width * least), round(picture.height * least)))
    x = int(rng.integers(picture.width - paper.width + 1))
    y = int(rng.integers(picture.height - paper.height + 1))
    picture.paste(paper, (x, y), paper)
    return Scene(np.asarray(picture), cell or kind, corners + np.array([x, y]), f"{turn}°")


def is_code_read(image: np.ndarray) -> bool:
    """Whether zxing-cpp or one of OpenCV's readers, as they are out of the box, reads a code in (H, W, 3) uint8 RGB."""
    import zxingcpp

    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    if zxingcpp.read_barcodes(grey):
        return True
    readers = (cv2.barcode.BarcodeDetector(), cv2.QRCodeDetector())
    return any(any(texts) for there, texts, *_ in (r.detectAndDecodeMulti(grey) for r in readers) if there)


def _symbol(kind: str, number: int) -> np.ndarray:
    """(H, W) bool, True where a module is dark; linear codes are as tall as half their width, at 60 modules most."""
    import zxingcpp

    digits = {"EAN13": 12, "EAN8": 7}.get(kind)
    text = _TEXTS[number % len(_TEXTS)].format(number) if digits is None else f"{number:0{digits}d}"
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    dark = np.asarray(code.to_image(scale=1, add_quiet_zones=False, add_hrt=False)) < 128
    if kind in ("Code128", "EAN13", "EAN8"):
        dark = np.repeat(dark[:1], min(dark.shape[1] // 2, 60), axis=0)
    return dark


def _turned(
    dark: np.ndarray, module: float, turn: float, inks: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Image.Image, np.ndarray]:
    """A code on its paper as (RGBA image, (4, 2) corners of the code without its paper, in the image's pixels)."""
    quiet = 10 if dark.shape[0] < dark.shape[1] else 4  # modules of bare paper around it
    marks = np.pad(dark, quiet).repeat(_DETAIL, 0).repeat(_DETAIL, 1)
    colours = np.array(inks[::-1], np.uint8)[marks.astype(int)]
    paper = Image.fromarray(colours).convert("RGBA")
    height, width = marks.shape
    turned = paper.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    scale = module / _DETAIL
    size = max(round(turned.width * scale), 1), max(round(turned.height * scale), 1)
    edge = quiet * _DETAIL
    corners = np.array(
        [[edge, edge], [width - edge, edge], [width - edge, height - edge], [edge, height - edge]], float
    )
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
    placed = (corners - (width / 2, height / 2)) @ rotation.T + (turned.width / 2, turned.height / 2)
    return turned.resize(size, Image.Resampling.BOX), placed * (size[0] / turned.width, size[1] / turned.height)
