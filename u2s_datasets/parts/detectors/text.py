"""Text: words, licence plates and screens, found by a network and confirmed by reading them.

Hysteresis decides. A photo is flagged by a region that is read, twice, as two letters or digits at least: no false
alarm in a photo without text manages that. Once a photo is flagged, its weak regions are hidden too, unless they are
large: large text is legible, so a large region that cannot be read is not text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from u2s_datasets.images import Box, grow_line
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_range
from u2s_datasets.parts.detectors import text_reader
from u2s_datasets.parts.detectors.engine import check_engine
from u2s_datasets.parts.detectors.text_reader import Quad, Region, TextNetworks

SECOND_LOOK = 0.15
"""Growth of the second crop. A real word reads the same from it; a word imagined in a pattern does not."""

LINE_HEIGHT = 96
"""Up to this shorter side, in pixels, an edited box counts as one line and is read as such by `residue`."""

TEXT = Category(
    "text",
    "printed text, licence plates included, of at least two letters or digits",
    "piece of text",
    "pieces of text",
    grow=grow_line,
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
        check_range(self, ("short_side",), 32, 16_384)
        check_range(self, ("max_scale",), 0.05, 8)
        check_range(self, ("map_threshold", "box_threshold", "flag_threshold"), 0, 0.99)
        check_range(self, ("max_weak_area",), 0, 1)
        check_range(self, ("grow",), 0, 8)
        check_int("threads", self.threads, 1, 1024)
        text_reader.model_path(text_reader.DETECTOR)
        text_reader.model_path(text_reader.RECOGNISER)

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
        regions = _without_duplicates(self.loaded.regions(image, scales, *text_reader.contrast(image)))
        judged = [(quad, *self._judge(image, quad, score)) for quad, score in regions]
        largest = self.max_weak_area * image.shape[0] * image.shape[1]
        return [detection for quad, detection, is_word in judged if is_word or _area(quad) <= largest]

    def read(self, image: np.ndarray, boxes: Sequence[Box]) -> list[str]:
        """What the recogniser reads in each box, taken as one line; "" for nothing.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: in pixels of `image`.
        """
        return [self.loaded.read(text_reader.straighten(image, _quad(box)))[0] for box in boxes]

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
        return Detection("text", _box(text_reader.grow_quad(quad, self.grow), image), confidence, text), is_word

    def _read_word(self, image: np.ndarray, quad: Quad, grow: float) -> tuple[str, float]:
        """The text in a region and its confidence, which is 0 for fewer than two letters or digits."""
        text, confidence = self.loaded.read(text_reader.straighten(image, quad, grow))
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
