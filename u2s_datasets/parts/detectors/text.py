"""Text: words, licence plates and screens, found by a network and confirmed by reading them.

Hysteresis decides. A photo is flagged by a region that is read, twice, as two letters or digits at least: no false
alarm in a photo without text manages that. Once a photo is flagged, its weak regions are hidden too, unless they are
large: large text is legible, so a large region that cannot be read is not text.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, Outline, cover_line, grow_line
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_ranges
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine

DETECTOR, RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"

# Sizes in pixels. A tile is what the detection network sees at once: it bounds memory, to about 1 GB above the photo.
TILE = 1536
OVERLAP = 128  # of neighbouring tiles: a word cut by one seam is whole in the next tile
MARGIN = 16  # border added around the photo, in network pixels: the network misses words that touch its own edge
# Sides of tiles are multiples of STEP, and lines are read at few widths (a longer one is squeezed into the last), since
# OpenVINO compiles every new shape, which takes 0.1 to 0.6 s.
STEP = 160
WIDTHS = (96, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560)
# Growth of the second crop. A real word reads the same from it; a word imagined in a pattern does not.
SECOND_LOOK = 0.15
LINE_HEIGHT = 96  # up to this shorter side, an edited box counts as one line and is read as such by `residue`

Quad = np.ndarray
"""(4, 2) float32 corners in image pixels, clockwise from the top left of the text."""

Region = tuple[Quad, float]
"""Where the detection network sees text, and its mean probability there in [0, 1]."""

TEXT = Category(
    "text",
    "printed text, licence plates included, of at least two letters or digits",
    "piece of text",
    "pieces of text",
    grow=grow_line,
    shape=cover_line,
    criterion="text",
    aliases=("plate",),
)


@dataclass(frozen=True)
class Text(Detector):
    """Finds and reads text with PP-OCRv6 small, whose weights the rapidocr wheel carries.

    Args:
        short_side: the photo is enlarged until its shorter side has this many pixels, ...
        max_scale: ... but by no more than this factor: beyond it, the network sees text in texture.
        map_threshold, box_threshold: probabilities in (0, 1) from which a pixel, a region counts as text.
        max_weak_area: largest share of the photo, in [0, 1], that an unread region may take and still be hidden.
        grow: every box is grown on all sides by this share of its height, so that no letter sticks out.
        flag_threshold: confidence in [0, 1] of both readings from which a word flags its photo.
        engine: "onnxruntime" (survives a fork) or "openvino" (twice as fast).
        threads: threads of one network call.
    """

    short_side: int = 1440
    max_scale: float = 2.0
    map_threshold: float = 0.2
    box_threshold: float = 0.3
    max_weak_area: float = 0.02
    grow: float = 0.15
    flag_threshold: float = 0.6
    engine: str = "onnxruntime"
    threads: int = 1

    categories = (TEXT,)
    shipped = Shipped("PP-OCR detection and recognition", "apache-2.0", "rapidocr")
    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = ("rapidocr",)

    def check(self) -> None:
        """Raise `SetupError` for an unknown engine, missing weights or a number out of its range."""
        check_engine(self.engine)
        check_ranges(self, map_threshold=(0, 0.99), box_threshold=(0, 0.99), flag_threshold=(0, 0.99))
        check_ranges(self, short_side=(32, 16_384), max_scale=(0.05, 8), max_weak_area=(0, 1), grow=(0, 8))
        check_int("threads", self.threads, 1, 1024)
        model_path(DETECTOR)
        model_path(RECOGNISER)

    def load(self) -> TextNetworks:
        """Both networks."""
        return TextNetworks(self.engine, self.threads, self.map_threshold, self.box_threshold)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Every region to hide if its image is flagged; see `Detector.detect`."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> list[Detection]:
        short = min(image.shape[:2])
        # Enlarged for small words, then quarter by quarter for words too large to be seen as one.
        scales = [min(max(self.short_side / short, 1.0), self.max_scale)]
        while short * scales[-1] / 4 >= 80:
            scales.append(scales[-1] / 4)
        regions = _without_duplicates(self.loaded.regions(image, scales, *contrast(image)))
        judged = [(quad, *self._judge(image, quad, score)) for quad, score in regions]
        largest = self.max_weak_area * image.shape[0] * image.shape[1]
        return [detection for quad, detection, is_word in judged if is_word or _area(quad) <= largest]

    def read(self, image: np.ndarray, boxes: Sequence[Box]) -> list[str]:
        """What the recogniser reads in each box, taken as one line; "" for nothing.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: in pixels of `image`.
        """
        return [self.loaded.read(straighten(image, _quad(box)))[0] for box in boxes]

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """Words that can still be read in and around the edited boxes; see `Detector.residue`.

        A box of one line's height is first read with its surroundings, and searched by the detection network only if
        that reads as a word; a larger box is searched at once. The network looks at another scale than in `detect`.
        """
        found = []
        for image, boxes in zip(images, edited, strict=True):
            words = [word for box in boxes for word in self._words_near(image, box)]
            found.append(list({word.box: word for word in words}.values()))
        return found

    def _judge(self, image: np.ndarray, quad: Quad, score: float) -> tuple[Detection, bool]:
        """A region with its text, and whether at least one of two readings is a word.

        Its score reaches `flag_threshold` only if both are.
        """
        text, confidence = self._read_word(image, quad, 0.0)
        is_word = confidence >= self.flag_threshold
        if is_word:
            confidence = min(confidence, self._read_word(image, quad, SECOND_LOOK)[1])
        if confidence < self.flag_threshold:
            confidence = 0.99 * self.flag_threshold * score
        grown = grow_quad(quad, self.grow)
        return Detection("text", _box(grown, image), confidence, text, _outline(grown)), is_word

    def _read_word(self, image: np.ndarray, quad: Quad, grow: float) -> tuple[str, float]:
        """The text in a region and its confidence, which is 0 for fewer than two letters or digits."""
        text, confidence = self.loaded.read(straighten(image, quad, grow))
        return text, confidence if sum(c.isalnum() for c in text) >= 2 else 0.0

    def _words_near(self, image: np.ndarray, box: Box) -> list[Detection]:
        """Words in an edited box and its surroundings."""
        x0, y0, x1, y1 = box
        height = min(x1 - x0, y1 - y0)
        wide, tall = 0.35 * height, 2 * height
        if x1 - x0 >= y1 - y0:
            wide, tall = tall, wide  # letters stick out along the line
        window = _box(_quad((x0 - wide, y0 - tall, x1 + wide, y1 + tall)), image)
        part = image[int(window[1]) : int(window[3]), int(window[0]) : int(window[2])]
        if part.size == 0 or np.ptp(part) < 16:
            return []  # one flat colour: what a solid fill leaves
        if height <= LINE_HEIGHT and self._read_word(image, _quad(window), 0.0)[1] < self.flag_threshold:
            return []
        scale = min(1.5 * self.max_scale * 24 / max(height, 24), 640 / max(part.shape[:2]))
        origin = np.array(window[:2], np.float32).round()
        judged = [self._judge(image, quad + origin, score)[0] for quad, score in self.loaded.regions(part, [scale])]
        return [detection for detection in judged if detection.score >= self.flag_threshold]


def _quad(box: Box) -> Quad:
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def _box(quad: Quad, image: np.ndarray) -> Box:
    """The upright box around `quad` in whole pixels, inside `image`, at least one pixel wide and high."""
    height, width = image.shape[:2]
    x0, y0 = np.floor(quad.min(0)).clip(0, (width - 1, height - 1))
    x1, y1 = np.ceil(quad.max(0)).clip((x0 + 1, y0 + 1), (width, height))
    return float(x0), float(y0), float(x1), float(y1)


def _outline(quad: Quad) -> Outline:
    return tuple((float(x), float(y)) for x, y in quad)


def _area(quad: Quad) -> float:
    return float(np.prod(np.ptp(quad, axis=0)))


def _without_duplicates(regions: list[Region]) -> list[Region]:
    """The regions without those that another scale or tile found too.

    A region inside another is dropped only if both are of like size: a small word inside a large region stays, as
    the large one may turn out to be nothing.
    """
    kept: list[Region] = []
    for quad, score in sorted(regions, key=lambda region: -_area(region[0])):
        low, high = quad.min(0), quad.max(0)
        for other, _ in kept:
            shared = np.minimum(high, other.max(0)) - np.maximum(low, other.min(0))
            inside = float(np.prod(shared.clip(0)))
            if inside >= 0.85 * _area(quad) and _area(quad) >= 0.5 * _area(other):
                break
        else:
            kept.append((quad, score))
    return kept


class TextNetworks:
    """Both networks, loaded.

    Args:
        engine, threads: as for `OnnxModel`.
        map_threshold: probability, in (0, 1), from which a pixel belongs to text.
        box_threshold: mean probability, in (0, 1), from which a region counts.
    """

    def __init__(self, engine: str, threads: int, map_threshold: float, box_threshold: float) -> None:
        import onnxruntime
        from rapidocr.ch_ppocr_det.utils import DBPostProcess
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it logs to the console as soon as it is imported
        recogniser = model_path(RECOGNISER)
        self._detect = OnnxModel(model_path(DETECTOR), engine, threads)
        self._recognise = OnnxModel(recogniser, engine, threads)
        self._boxes = DBPostProcess(map_threshold, box_threshold, 3000, 1.6, "fast", True)
        # The alphabet is in the recogniser's own file; without it, RapidOCR would download one.
        session: Any = onnxruntime.InferenceSession(str(recogniser), providers=["CPUExecutionProvider"])
        alphabet = session.get_modelmeta().custom_metadata_map["character"]
        self._decode = CTCLabelDecode(character=alphabet.splitlines())

    def regions(
        self, image: np.ndarray, scales: Sequence[float], middle: float = 127.5, gain: float = 1.0
    ) -> list[Region]:
        """Lines and words of text.

        Args:
            image: (H, W, 3) uint8 RGB.
            scales: factors by which to look at it; 1 is as it is.
            middle, gain: the grey level that becomes 0, and the factor that raises contrast; see `contrast`.
        """
        found: list[Region] = []
        for scale in scales:
            for tile, origin, factor in tiles(image, scale):
                pixels = (tile[..., ::-1].astype(np.float32) - middle) * (gain / 127.5)  # trained on BGR in [-1, 1]
                probability = self._detect(pixels.clip(-1, 1).transpose(2, 0, 1)[None])[0]
                quads, scores = self._boxes(probability, tile.shape[:2])
                for quad, score in zip(quads, scores, strict=True):
                    found.append((np.asarray(quad, np.float32) / factor + origin, float(score)))
        return found

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        """The text in a straightened crop, and the mean confidence of its characters in [0, 1].

        Crops are read one by one: batches save nothing on a CPU, and no reading may depend on its neighbours.

        Args:
            crop: (H, W, 3) uint8 RGB, one line of text.
        """
        wanted = max(math.ceil(48 * crop.shape[1] / crop.shape[0]), 1)
        width = next((w for w in WIDTHS if w >= wanted), WIDTHS[-1])
        line = cv2.resize(crop, (min(wanted, width), 48)).astype(np.float32) / 127.5 - 1
        padded = np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)))[..., ::-1]  # trained on BGR
        return self._decode(self._recognise(padded.transpose(2, 0, 1)[None])[0])[0][0]


def tiles(image: np.ndarray, scale: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Overlapping tiles of `image` at `scale`: (tile, (x, y) of its origin, its exact (x, y) scale).

    Tiles reach over the photo's border by `MARGIN` or more; there the last row and column of pixels is repeated.
    """
    height, width = image.shape[:2]
    (tall, tops), (wide, lefts) = _cuts(height * scale), _cuts(width * scale)
    rows, cols = max(1, round(tall / scale)), max(1, round(wide / scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    for top in (round(v / scale) for v in tops):
        for left in (round(v / scale) for v in lefts):
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + rows, height), min(left + cols, width)
            border = (y0 - top, top + rows - y1, x0 - left, left + cols - x1)
            part = cv2.copyMakeBorder(image[y0:y1, x0:x1], *border, cv2.BORDER_REPLICATE)
            yield (
                cv2.resize(part, (wide, tall), interpolation=interpolation),
                np.array([left, top], np.float32),
                np.array([wide / cols, tall / rows], np.float32),
            )


def _cuts(length: float) -> tuple[int, list[float]]:
    """Size of the tiles along a side of `length` pixels, and where each starts."""
    total = length + 2 * MARGIN
    count = 1 if total <= TILE else math.ceil((total - OVERLAP) / (TILE - OVERLAP))
    size = STEP * math.ceil((total + (count - 1) * OVERLAP) / count / STEP)
    size = max(min(size, TILE), STEP)
    if count == 1:
        return size, [(length - size) / 2]
    return size, [-MARGIN + i * (total - size) / (count - 1) for i in range(count)]


def contrast(image: np.ndarray) -> tuple[float, float]:
    """(middle, gain) that stretch a dim or hazy photo to the full range; (127.5, 1.0) for any other photo.

    The network misses small words in a photo whose grey levels all lie within half of the range.
    """
    step = max(1, min(image.shape[:2]) // 256)
    low, high = np.percentile(image[::step, ::step], (1, 99))
    if high - low >= 128:
        return 127.5, 1.0
    return float(low + high) / 2, min(255 / max(float(high - low), 1.0), 3.0)


def straighten(image: np.ndarray, quad: Quad, grow: float = 0.0) -> np.ndarray:
    """The text in `quad` as an upright line, each side moved out by `grow` times its height."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    quad = grow_quad(quad, grow)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - 2, 0)  # cut out first: cv2 warps at most 32767 pixels a side
    high = np.ceil(quad.max(0)).astype(int) + 3
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    quad = (quad - low).astype(np.float32)
    sides = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if part.size == 0 or max(sides[0], sides[2]) < 1 or max(sides[1], sides[3]) < 1:
        return np.zeros((1, 1, 3), np.uint8)
    return get_rotate_crop_image(part, quad)


def grow_quad(quad: Quad, share: float) -> Quad:
    """`quad` with every side moved out by `share` of its shorter side."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    wide, tall = max(float(np.hypot(*along)), 1e-3), max(float(np.hypot(*down)), 1e-3)
    step = share * min(wide, tall)
    x, y = along / wide * step, down / tall * step
    return (quad + np.stack([-x - y, x - y, x + y, y - x])).astype(np.float32)


def model_path(name: str) -> Path:
    """Path of a network inside the installed rapidocr wheel. Raises `SetupError` if it is missing."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise SetupError("rapidocr is not installed, and text detection needs it; run: pip install 'rapidocr>=3.10'")
    path = Path(spec.origin).parent / "models" / name
    if not path.is_file():
        version = importlib.metadata.version("rapidocr")
        raise SetupError(f"rapidocr {version} has no {name}; run: pip install 'rapidocr>=3.10'")
    return path
