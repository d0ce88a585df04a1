"""Machine-readable codes: QR, DataMatrix, Aztec, PDF417, MaxiCode and bar codes, by zxing-cpp and by OpenCV.

zxing-cpp reads square codes at any turn, and bars only if they run nearly along the rows or columns of pixels. OpenCV
sees where bars are at any turn. So whatever either of them sees and does not read is turned upright, enlarged and read
again by zxing-cpp. A code that was read flags its image, and so does one with a QR or Aztec finder pattern, which
nothing else in a photo resembles. Bars that nobody can read are hidden where the image is flagged anyway.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_ranges

_READ, _SEEN, _WEAK = 1.0, 0.6, 0.3  # scores: of what was read, of a finder pattern, of bars that nobody reads
_FINDERS = ("QRCode", "MicroQRCode", "RMQRCode", "Aztec", "AztecCode", "MaxiCode")
_BARS = ("PDF417", "CompactPDF417", "MicroPDF417")  # besides linear codes
_TURNS = (0, 15, 30, 45, 60, 75)  # degrees by which a second look turns; zxing-cpp adds quarter turns and ±10 degrees
_SECOND_AT_MOST = 8  # candidates looked at again per image; those beyond keep their first score
_LARGEST_ENLARGED = 16_000_000  # pixels
_TILE, _STEP = 1024, 768  # OpenCV makes what it looks at small: of a larger image, it sees tiles as well
_SECOND_SIDE = 1024  # pixels of the longer side that a second look enlarges to, at most threefold
_LIKENESS = 0.5  # correlation from which a row of pixels shows the same bars as the one that was read
_GROW = 0.12  # of the code's shorter side: edges that the reader's corners cut, and part of the quiet zone


def grow_code(box: Box) -> Box:
    """From a code's corners to its edges and some of its quiet zone. Not clipped to the image."""
    x0, y0, x1, y1 = box
    by = max(_GROW * min(x1 - x0, y1 - y0), 2.0)
    return x0 - by, y0 - by, x1 + by, y1 + by


CODE = Category(
    "code",
    "QR, DataMatrix, Aztec, PDF417 and bar codes that zxing-cpp or OpenCV reads",
    "code",
    "codes",
    grow=grow_code,
    criterion="text",
    covers=("codes",),
    aliases=("barcode", "qr_code"),
)


class _Seen(NamedTuple):
    """A code or what looks like one: (4, 2) corners from the top left on, its text, a score, whether it has bars."""

    quad: np.ndarray
    text: str
    score: float
    has_bars: bool = False


@dataclass(frozen=True)
class Codes(Detector):
    """Machine-readable codes; what they say is in `Detection.text`.

    Args:
        enlarge: the factor, in [1, 4], at which square codes are looked for a second time; 1 saves that pass. Images
            above 16 million pixels are not enlarged.
        flag_threshold: score in (0, 1) from which a code flags its image: 1 is read, 0.6 a finder pattern without a
            reading, 0.3 bars without one.
    """

    enlarge: float = 1.5
    flag_threshold: float = 0.5

    categories = (CODE,)
    shipped = Shipped("zxing-cpp, which reads codes", "apache-2.0", "zxing-cpp")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "zxing-cpp")

    def check(self) -> None:
        """Raise `SetupError` without zxing-cpp, or for a number out of its range."""
        check_ranges(self, enlarge=(1, 4), flag_threshold=(0, 0.99))
        if importlib.util.find_spec("zxingcpp") is None:
            raise SetupError("zxing-cpp is not installed, and codes need it; run: pip install 'zxing-cpp>=3.0'")

    def load(self) -> Readers:
        """Both readers."""
        self.check()
        return Readers()

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Codes that were read and weaker candidates; see `Detector.detect`."""
        return [self._detections(image, self._look(_grey(image))) for image in images]

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """Codes that can still be read anywhere in the image, by more readers than `detect` asks.

        All of it is read: a reader takes a code's parts from wherever they are.
        """
        found = []
        for image in images:
            grey = _grey(image)
            seen = [*self._look(grey), *self.loaded.read(grey, other_binarizer=True), *self.loaded.read_by_opencv(grey)]
            found.append(self._detections(image, [s for s in seen if s.score >= self.flag_threshold]))
        return found

    def _look(self, grey: np.ndarray) -> list[_Seen]:
        readers = self.loaded
        seen = readers.read(grey)
        if self.enlarge > 1 and grey.size <= _LARGEST_ENLARGED:
            larger = cv2.resize(grey, None, fx=self.enlarge, fy=self.enlarge, interpolation=cv2.INTER_CUBIC)
            scale = (grey.shape[1] / larger.shape[1], grey.shape[0] / larger.shape[0])
            seen += [s._replace(quad=s.quad * scale) for s in readers.read(larger, square_only=True)]
        seen += [bars for bars in readers.bars(grey) if not any(_overlap(bars, s) > 0.5 for s in seen if s.text)]
        read = [s for s in seen if s.score == _READ]
        unread = sorted((s for s in seen if s.score < _READ), key=lambda s: -s.score)
        return [*read, *(readers.read_again(grey, s) for s in unread[:_SECOND_AT_MOST]), *unread[_SECOND_AT_MOST:]]

    def _detections(self, image: np.ndarray, seen: Sequence[_Seen]) -> list[Detection]:
        """The upright boxes of what was seen, each once, best first."""
        grey = _grey(image)
        kept: list[_Seen] = []
        for new in sorted((_whole_bars(grey, s) if s.has_bars else s for s in seen), key=lambda s: -s.score):
            if new.score > 0 and not any(_overlap(new, old) > 0.7 for old in kept):
                kept.append(new)
        boxes = [(_box(s.quad, image), s) for s in kept]
        return [Detection("code", box, s.score, s.text) for box, s in boxes if box is not None]


class Readers:
    """zxing-cpp and OpenCV's readers."""

    def __init__(self) -> None:
        import zxingcpp

        formats = zxingcpp.BarcodeFormat
        self._zxing: Any = zxingcpp
        self._square = [formats.QRCode, formats.DataMatrix, formats.Aztec]
        self._bars = cv2.barcode.BarcodeDetector()
        self._qr = cv2.QRCodeDetector()

    def read(self, grey: np.ndarray, square_only: bool = False, other_binarizer: bool = False) -> list[_Seen]:
        """What zxing-cpp reads in (H, W) uint8, and what it recognises as a code and cannot read.

        Args:
            grey: the image.
            square_only: QR, DataMatrix and Aztec alone, in half the time.
            other_binarizer: one threshold for a row of pixels, instead of one for each neighbourhood.
        """
        options: dict[str, Any] = {"return_errors": True}
        if square_only:
            options["formats"] = self._square
        if other_binarizer:
            options["binarizer"] = self._zxing.Binarizer.GlobalHistogram
        return [self._seen(code) for code in self._zxing.read_barcodes(grey, **options)]

    def _seen(self, code: Any) -> _Seen:
        place = code.position
        corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
        quad = np.array([(p.x, p.y) for p in corners], float)
        name = code.format.name
        has_bars = name in _BARS or not (name in _FINDERS or name == "DataMatrix")
        score = _READ if code.valid else _SEEN if name in _FINDERS else _WEAK if has_bars else 0.0
        return _Seen(quad, code.text if code.valid else "", score, has_bars)

    def bars(self, grey: np.ndarray) -> list[_Seen]:
        """Where OpenCV sees bars, at any turn, with what it reads there."""
        found = []
        for tile, origin, scale in _tiles(grey):
            _, texts, quads, *_ = self._bars.detectAndDecodeMulti(tile)  # the first says whether any of them was read
            for text, quad in zip(texts, quads, strict=True) if quads is not None else ():
                corners = quad.reshape(4, 2)[[1, 2, 3, 0]]  # it begins at the bottom left
                found.append(_Seen(corners / scale + origin, text, _READ if text else _WEAK, True))
        return found

    def read_again(self, grey: np.ndarray, seen: _Seen) -> _Seen:
        """What is read there, once turned upright and enlarged; the same as before if that is nothing."""
        for turn in _TURNS:
            crop, matrix = _upright(grey, seen.quad, turn)
            read = [s for s in map(self._seen, self._zxing.read_barcodes(crop)) if s.score == _READ]
            if read:
                back = cv2.invertAffineTransform(matrix)
                return read[0]._replace(quad=read[0].quad @ back[:, :2].T + back[:, 2])
        return seen

    def read_by_opencv(self, grey: np.ndarray) -> list[_Seen]:
        """What OpenCV itself reads."""
        found = []
        for detector, has_bars in ((self._bars, True), (self._qr, False)):
            there, texts, quads, *_ = detector.detectAndDecodeMulti(grey)
            for text, quad in zip(texts, quads, strict=True) if there else ():
                if text:
                    found.append(_Seen(np.asarray(quad, float).reshape(4, 2), text, _READ, has_bars))
        return found


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def _tiles(grey: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """(part, (x, y) of its origin, its scale): the whole, the whole at half its size, and tiles of a large image."""
    yield grey, np.zeros(2), 1.0
    if min(grey.shape) >= 64:
        yield cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.zeros(2), 0.5
    if min(grey.shape) > _TILE:
        for top in range(0, grey.shape[0] - _TILE + _STEP, _STEP):
            for left in range(0, grey.shape[1] - _TILE + _STEP, _STEP):
                yield np.ascontiguousarray(grey[top : top + _TILE, left : left + _TILE]), np.array([left, top]), 1.0


def _upright(grey: np.ndarray, quad: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """A square around the quad, enlarged, turned so that the quad's first side lies level, and then by `turn` more.

    Returns:
        The square, and the (2, 3) matrix that takes a place in the image to its place in the square.
    """
    along = quad[1] - quad[0]
    angle = float(np.degrees(np.arctan2(along[1], along[0]))) + turn
    side = 1.3 * max(float(np.hypot(*np.ptp(quad, axis=0))), 16.0)
    scale = min(max(_SECOND_SIDE / side, 0.5), 3.0)
    x, y = quad.mean(axis=0)
    matrix = np.asarray(cv2.getRotationMatrix2D((float(x), float(y)), angle, scale), float)
    pixels = max(int(side * scale), 1)
    matrix[:, 2] += pixels / 2 - np.array([x, y])
    size = (pixels, pixels)
    crop = cv2.warpAffine(grey, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return crop, matrix


def _whole_bars(grey: np.ndarray, seen: _Seen) -> _Seen:
    """The same with corners at the ends of its bars: zxing-cpp's lie on the rows of pixels that it read."""
    middle = (seen.quad[0] + seen.quad[3]) / 2, (seen.quad[1] + seen.quad[2]) / 2
    along = middle[1] - middle[0]
    length = float(np.hypot(*along))
    if length < 8:
        return seen
    across = np.array([-along[1], along[0]]) / length
    reach = int(length)
    start = middle[0] - across * reach
    matrix = np.stack([along / length, across, start], axis=1)
    strip = cv2.warpAffine(
        grey,
        matrix.astype(np.float64),
        (max(int(length), 1), 2 * reach + 1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    ).astype(np.float32)
    strip -= strip.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(strip, axis=1).clip(1e-6)
    alike = strip @ strip[reach] / (norms * norms[reach]) >= _LIKENESS
    up, down = (_run(side) for side in (alike[reach::-1], alike[reach:]))
    ends = [middle[0] - across * up, middle[1] - across * up, middle[1] + across * down, middle[0] + across * down]
    # Whatever the pixels say, the corners that the reader gave are in it.
    offsets = (np.concatenate([ends, seen.quad]) - middle[0]) @ np.stack([along / length, across], axis=1)
    (x0, y0), (x1, y1) = offsets.min(axis=0), offsets.max(axis=0)
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return seen._replace(quad=middle[0] + corners @ np.stack([along / length, across]))


def _run(alike: np.ndarray) -> int:
    """How far from the first row on the rows are alike; up to two that are not, such as a scratch, are passed over."""
    misses = 0
    for row, same in enumerate(alike.tolist()):
        misses = 0 if same else misses + 1
        if misses > 2:
            return row - 2
    return len(alike) - 1


def _box(quad: np.ndarray, image: np.ndarray) -> Box | None:
    """The upright box around a quad in whole pixels, inside the image; None if it lies outside."""
    height, width = image.shape[:2]
    x0, y0 = np.floor(quad.min(axis=0)).clip(0)
    x1, y1 = np.minimum(np.ceil(quad.max(axis=0)) + 1, (width, height))
    return (float(x0), float(y0), float(x1), float(y1)) if x0 < x1 and y0 < y1 else None


def _overlap(a: _Seen, b: _Seen) -> float:
    """Of the boxes around both: the intersection over the first, in [0, 1]."""
    low, high = np.maximum(a.quad.min(0), b.quad.min(0)), np.minimum(a.quad.max(0), b.quad.max(0))
    return float((high - low).clip(0).prod() / max(np.ptp(a.quad, axis=0).prod(), 1e-9))
