"""Text: words, licence plates and screens, found by a network and confirmed by reading them or by a second look.

Hysteresis decides. A photo is flagged by a region that is read, twice, as two letters or digits at least, or by a line
that cannot be read and is found again once it is laid level and looked at in other sizes: no texture manages that.
Once a photo is flagged, its weak regions are hidden too, unless a second look sees nothing of them or they are large:
large text is legible, so a large region that cannot be read and continues no line is not text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from u2s_datasets.images import Box, Outline, cover_line, grow_line
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_ranges
from u2s_datasets.parts.detectors.engine import check_engine
from u2s_datasets.parts.detectors.text_lines import (
    Quad,
    Region,
    are_on_one_line,
    area,
    box_of,
    grow_quad,
    lay_level,
    likeness,
    overlap,
    quad_of,
    sides,
    straighten,
    without_duplicates,
)
from u2s_datasets.parts.detectors.text_networks import DETECTOR, RECOGNISER, TextNetworks, contrast, model_path

# Growth of the second crop. A real word reads the same from it; a word imagined in a pattern does not.
SECOND_LOOK = 0.15

# A line that is not read is laid level and looked for again in boxes of these heights, in pixels. A texture is found
# again in one of them at most, a line of text in two. Of a short one, which textures resemble more, all have to agree.
LOOKS = (40, 28, 56)
LOOK_EDGE = 0.5  # surroundings on all sides, in heights of the line
LOOK_LIKENESS = 0.5  # of the box that a look finds, from which it is the same
LONG, LONG_SCORE = 1.8, 0.5  # sides, longer to shorter, of a line; score from which a look finds it
SHORT, SHORT_SCORE, SHORT_FIRST = 1.4, 0.6, 0.4  # the same for a short one, and its score at first
WORD, WORD_SCORE = 1.2, 0.55  # sides and all four scores of a few stacked letters, which have to be small
SMALL = 0.05  # share of the photo up to which a region is small, and two scales that agree stand for one of the looks
SEEN, SEEN_LIKENESS = 0.4, 0.3  # score and likeness from which a look sees something of a region, so that it is hidden
WORD_AREA = 0.05  # share of the photo up to which a region is hidden that was read once and not found again
LOOKED_AT = 24  # lines per photo, the likeliest: bounds the cost of a photo of straw
LONGEST = 40.0  # heights; of a longer line the middle is looked at

LINE, LINE_HEIGHT = 1.5, 96  # sides and shorter side of an edited box that counts as one line
AHEAD = 5.0  # heights of an edited box, which is grown, by which `residue` looks beyond both its ends
LINE_LOOK = 32  # pixels of a line's box, which is grown, in that look
WHOLE_LOOK = 0.6  # of the first scale, at most, where all of the photo is looked at
WIDE_LOOKS = (640, 960)  # pixels of the longer side around a box that may hold letters of any size
CONTINUES = 0.5  # score of a region that is not read, from which it continues the line of an edited box

TEXT = Category(
    "text",
    "printed text of two letters or digits and more, licence plates included: lines that are read, and lines that are "
    "found and not read, such as other scripts, on their side or upside down",
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
        max_weak_area: largest share of the photo, in [0, 1], that a region may take which is neither read nor found
            again, and still be hidden.
        grow: every box is grown on all sides by this share of its height, so that no letter sticks out.
        flag_threshold: confidence in [0, 1] of both readings from which a word flags its photo. A line that is found
            again and not read gets this score or more.
        flag_unread: whether such a line flags its photo.
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
    flag_unread: bool = True
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
        # Enlarged for small words, then quarter by quarter for words too large to be seen as one.
        scales = [self._first_scale(image)]
        while min(image.shape[:2]) * scales[-1] / 4 >= 80:
            scales.append(scales[-1] / 4)
        judged = self._judge(image, self._regions(image, scales, contrast(image)))
        strong = [line.quad for line in judged if line.detection.score >= self.flag_threshold]
        return [line.detection for line in judged if self._is_hidden(line, strong, image)]

    def _first_scale(self, image: np.ndarray) -> float:
        return min(max(self.short_side / min(image.shape[:2]), 1.0), self.max_scale)

    def _is_hidden(self, line: _Line, strong: Sequence[Quad], image: np.ndarray) -> bool:
        """Whether a region is hidden in a flagged photo: it flags, continues a line that does, or may well be text."""
        if line.detection.score >= self.flag_threshold or any(are_on_one_line(quad, line.quad) for quad in strong):
            return True
        share = area(line.quad) / (image.shape[0] * image.shape[1])
        return share <= WORD_AREA if line.is_word else line.is_seen and share <= self.max_weak_area

    def read(self, image: np.ndarray, boxes: Sequence[Box]) -> list[str]:
        """What the recogniser reads in each box, taken as one line; "" for nothing.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: in pixels of `image`.
        """
        return [self.loaded.read(straighten(image, quad_of(box)))[0] for box in boxes]

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """Text that is still found in and around the edited boxes, and along their lines; see `Detector.residue`.

        What `detect` would flag is residue, and so is a region that goes on where an edited line ends. The network
        looks at another scale than in `detect`, at which the line has the height that it finds best.
        """
        found = []
        for image, boxes in zip(images, edited, strict=True):
            left = self._left(image, boxes) if boxes else []
            found.append(list({detection.box: detection for detection in left}.values()))
        return found

    def _regions(self, image: np.ndarray, scales: Sequence[float], levels: tuple[float, float]) -> list[Region]:
        """What the network sees at these scales, each thing once."""
        found = [self.loaded.regions(image, [scale], *levels) for scale in scales]
        return without_duplicates(found, SMALL * image.shape[0] * image.shape[1])

    def _judge(self, image: np.ndarray, regions: Sequence[Region]) -> list[_Line]:
        """Every region with its text. Its score reaches `flag_threshold` if it is read twice or found again."""
        judged = [self._read_line(image, region) for region in regions]
        if not self.flag_unread:
            return judged
        unread = [i for i, line in enumerate(judged) if line.detection.score < self.flag_threshold]
        for i in sorted(unread, key=lambda i: -regions[i].score)[:LOOKED_AT]:
            again, is_seen = self._look_again(image, regions[i])
            judged[i] = judged[i]._replace(is_seen=is_seen)
            if again > 0:
                judged[i] = self._found_again(image, judged[i], again)
        return judged

    def _read_line(self, image: np.ndarray, region: Region) -> _Line:
        quad = region.quad
        text, confidence = self._read_word(image, quad, 0.0)
        is_word = confidence >= self.flag_threshold
        if is_word:
            confidence = min(confidence, self._read_word(image, quad, SECOND_LOOK)[1])
        if confidence < self.flag_threshold:
            confidence = 0.99 * self.flag_threshold * region.score
        grown = grow_quad(quad, self.grow)
        return _Line(quad, Detection("text", box_of(grown, image), confidence, text, _outline(grown)), is_word)

    def _found_again(self, image: np.ndarray, line: _Line, score: float) -> _Line:
        """The line as one that flags, with what is read of it upside down if that is more certain."""
        upside_down = np.roll(line.quad, 2, axis=0)
        text, confidence = self._read_word(image, upside_down, 0.0)
        text = text if confidence >= self.flag_threshold else line.detection.text
        score = max(score, self.flag_threshold)
        return line._replace(detection=dataclasses.replace(line.detection, score=score, text=text))

    def _look_again(self, image: np.ndarray, region: Region) -> tuple[float, bool]:
        """What is found once a line is laid level.

        Returns:
            The mean score of the looks that find the line again, 0 if they are too few to flag it; whether any look
            saw something of it.
        """
        quad = region.quad
        length, height = sides(quad)
        is_small = area(quad) <= SMALL * image.shape[0] * image.shape[1]
        needed, least, may_flag = len(LOOKS), SHORT_SCORE, region.score >= SHORT_FIRST
        if length >= LONG * height:
            needed, least, may_flag = 2 - region.is_agreed, LONG_SCORE, True
        elif length < SHORT * height:
            least = WORD_SCORE
            may_flag = length >= WORD * height and is_small and region.score >= WORD_SCORE
        if length > LONGEST * height:
            quad = (quad.mean(0) + (quad - quad.mean(0)) * (LONGEST * height / length)).astype(np.float32)
        scores: list[float] = []
        is_seen = False
        for left, pixels in zip(reversed(range(len(LOOKS))), LOOKS, strict=True):
            level, box = lay_level(image, quad, pixels, LOOK_EDGE)
            alike = [(r.score, likeness(r.quad, box)) for r in self.loaded.regions(level, [1.0], *contrast(level))]
            is_seen |= any(score >= SEEN and share >= SEEN_LIKENESS for score, share in alike)
            best = max((score for score, share in alike if share >= LOOK_LIKENESS), default=0.0)
            scores += [best] if best >= least else []
            if may_flag and len(scores) >= needed:
                return float(np.mean(scores)), True
            if not may_flag or len(scores) + left < needed:
                break
        return 0.0, is_seen

    def _read_word(self, image: np.ndarray, quad: Quad, grow: float) -> tuple[str, float]:
        """The text in a region and its confidence, which is 0 for fewer than two letters or digits."""
        text, confidence = self.loaded.read(straighten(image, quad, grow))
        return text, confidence if sum(c.isalnum() for c in text) >= 2 else 0.0

    def _left(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Detection]:
        """Text in the edited boxes, their surroundings and their lines."""
        left = []
        regions = self._regions_near(image, boxes)
        for line, region in zip(self._judge(image, regions), regions, strict=True):
            if line.detection.score >= self.flag_threshold:
                left.append(line.detection)
            elif region.score >= CONTINUES and _continues(region.quad, boxes):
                left.append(dataclasses.replace(line.detection, score=self.flag_threshold))
        return left

    def _regions_near(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Region]:
        """What the network sees around boxes, box by box, or in the whole image if that is less work."""
        windows = [_window(image, box) for box in boxes]
        looks = [(w, scales) for w, scales in windows if np.ptp(_cut(image, w)) >= 16]  # a solid fill leaves less
        heights = [min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
        scale = min(LINE_LOOK / max(float(np.median(heights)), 1.0), WHOLE_LOOK * self._first_scale(image))
        whole = box_of(quad_of((0, 0, image.shape[1], image.shape[0])), image)
        if sum(_work(window, s) for window, scales in looks for s in scales) > _work(whole, scale):
            looks = [(whole, [scale])]
        found = []
        for window, scales in looks:
            part, origin = _cut(image, window), np.array(window[:2], np.float32)
            seen = self._regions(part, scales, contrast(part))
            found += [region._replace(quad=region.quad + origin) for region in seen]
        near = [region for region in found if any(overlap(region.quad, window) > 0 for window, _ in windows)]
        return without_duplicates([near], 0)


class _Line(NamedTuple):
    """A region as it was judged, whether the first of two readings is a word, and whether a second look saw it, too."""

    quad: Quad
    detection: Detection
    is_word: bool
    is_seen: bool = True


def _window(image: np.ndarray, box: Box) -> tuple[Box, list[float]]:
    """Where to look around an edited box, and at which scales."""
    wide, tall = box[2] - box[0], box[3] - box[1]
    height, is_line = min(wide, tall), max(wide, tall) >= LINE * min(wide, tall)
    if is_line and height <= LINE_HEIGHT:
        ahead, across = AHEAD * height, 0.5 * height
    elif is_line:
        ahead, across = 2 * height, 0.5 * height
    else:  # a few letters, or a line that is tilted
        ahead, across = 3 * height, height
    if tall > wide:
        ahead, across = across, ahead
    window = box_of(quad_of((box[0] - ahead, box[1] - across, box[2] + ahead, box[3] + across)), image)
    if is_line and height <= LINE_HEIGHT:
        return window, [min(LINE_LOOK / height, 3.0)]
    longest = max(window[2] - window[0], window[3] - window[1])
    return window, [min(pixels / longest, 3.0) for pixels in WIDE_LOOKS]


def _cut(image: np.ndarray, window: Box) -> np.ndarray:
    x0, y0, x1, y1 = (int(v) for v in window)
    return image[y0:y1, x0:x1]


def _outline(quad: Quad) -> Outline:
    return tuple((float(x), float(y)) for x, y in quad)


def _work(window: Box, scale: float) -> float:
    """Pixels that the network looks at."""
    return (window[2] - window[0]) * (window[3] - window[1]) * scale**2


def _continues(quad: Quad, edited: Sequence[Box]) -> bool:
    """Whether a quad lies outside the edited boxes and continues the line of one of them."""
    x, y = quad.mean(0)
    if any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in edited):
        return False
    lines = [box for box in edited if min(box[2] - box[0], box[3] - box[1]) <= LINE_HEIGHT]
    return any(are_on_one_line(quad_of(box), quad) for box in lines)
