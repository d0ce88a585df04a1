"""Faces by CenterFace (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point").

One pass over the whole image proposes candidates at a low threshold. If none of them is certain, the best are read
again from their crops, at two sizes and mirrored: every reading confirms a face, but not an animal's head or a
texture. The mean of the readings flags the image; once it is flagged, the weak candidates are hidden too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, cover_head, grow_head, head_outline
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_ranges
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine

_WEIGHTS = Path(__file__).parent / "weights" / "centerface.onnx"
_STRIDE = 4  # image pixels per cell of the network's output
_LARGEST_CANVAS = 2_000_000  # pixels read at once; the process stays below 1 GB
# A face of up to 2 * _MARGIN pixels lies whole in the tile whose core holds its centre.
_TILE, _MARGIN = 1376, 96
_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640, 768, 896, 1024, 1152, 1280)
_STRETCH = (0.93, 1.1)  # how far a side may be from what the scale says, if it then fills a canvas
_SECOND_SIZES = (32, 64)  # sides of the face in pixels at the second reading
_CONTEXT = 3  # side of the second reading's crop, in sides of the face
_SECOND_AT_MOST = 8  # candidates read again per image; those beyond keep their first score
_LANDMARK_SIZE = 64  # side of the face in pixels where its landmarks are read
_LANDMARK_THRESHOLD = 0.05  # heat from which a face that is known to be there is read

FACE = Category(
    "face",
    "faces of 16 pixels and more, seen from the front or at an angle",
    "face",
    "faces",
    grow=grow_head,
    shape=cover_head,
    criterion="people",
)


@dataclass(frozen=True)
class Faces(Detector):
    """Human faces. Measured on those of 16 pixels and more at their shorter side.

    Args:
        scales: sizes at which the whole image is read, relative to its own; 1 costs 1.8 times 0.75.
        flag_threshold: score in (0, 1) from which a face flags its image.
        redact_threshold: score in (0, 1) from which a candidate is hidden if its image is flagged.
        certain_threshold: first score from which an image is not read a second time.
        residue_threshold: score from which a face counts as left over after an edit.
        engine: "onnxruntime" or "openvino", see `engine.py`.
        threads: threads that one call may use.
    """

    scales: tuple[float, ...] = (0.75,)
    flag_threshold: float = 0.25
    redact_threshold: float = 0.15
    certain_threshold: float = 0.6
    residue_threshold: float = 0.15
    engine: str = "onnxruntime"
    threads: int = 1

    categories = (FACE,)
    shipped = Shipped("CenterFace", "mit", "u2s_datasets")
    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "openvino")

    def check(self) -> None:
        """Raise `SetupError` for an unknown engine, missing weights or a number out of its range."""
        check_engine(self.engine)
        if not isinstance(self.scales, tuple | list) or not self.scales:
            raise SetupError(f"invalid scales={self.scales!r}; expected a tuple of one scale or more, such as (0.75,)")
        check_ranges(self, scales=(0.05, 8), flag_threshold=(0, 0.99), redact_threshold=(0, 0.99))
        check_ranges(self, certain_threshold=(0, 0.99), residue_threshold=(0, 0.99))
        check_int("threads", self.threads, 1, 1024)
        if not _WEIGHTS.is_file():
            raise SetupError(f"the installed package has no {_WEIGHTS.name}; install it again")

    def load(self) -> OnnxModel:
        """The network; raises `SetupError` as `check` does."""
        self.check()
        return OnnxModel(_WEIGHTS, self.engine, self.threads)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces and weaker candidates of each image, best first; see `Detector.detect`."""
        found = [_detections(self._detect(image)) for image in images]
        return [[self._with_outline(image, d) for d in each] for image, each in zip(images, found, strict=True)]

    def _with_outline(self, image: np.ndarray, face: Detection) -> Detection:
        return dataclasses.replace(face, outline=head_outline(face.box, self.landmarks(image, face.box)))

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """Faces that overlap the edited boxes, searched for at full size.

        Only the surroundings of the boxes are read: the pixels beyond them are those that `detect` saw.
        """
        return [_detections(self._residue(image, boxes)) for image, boxes in zip(images, edited, strict=True)]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        """(5, 2) float64 x and y in the image's pixels: both eyes, the tip of the nose, both corners of the mouth.

        The left one, as seen, comes first. The face is read again from its crop, always at the same size.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: where a face is, or may be.

        Returns:
            The landmarks; None where nothing in the box looks like a face.
        """
        crop, inside = face_crop(image, np.array(box), _LANDMARK_SIZE, _CONTEXT)
        outputs = self.loaded(_canvas([crop]))
        rows, points = decode(outputs, 0, _LANDMARK_THRESHOLD), decode_landmarks(outputs, 0, _LANDMARK_THRESHOLD)
        there = overlap(rows, inside) > 0.3
        if not there.any():
            return None
        best = int(np.argmax(np.where(there, rows[:, 4], -1)))
        return np.array(box)[:2] + (points[best] - inside[:2]) * (box[2] - box[0]) / (inside[2] - inside[0])

    def _detect(self, image: np.ndarray) -> np.ndarray:
        rows = suppress(np.concatenate([self._read(image, scale, self.redact_threshold) for scale in self.scales]))
        if len(rows) == 0 or rows[0, 4] >= self.certain_threshold:
            return rows
        for row in rows[:_SECOND_AT_MOST]:
            row[4] = self._second_score(image, row)
            if row[4] >= self.certain_threshold:
                break  # the image is flagged, so the rest is hidden whatever its score
        return rows[np.argsort(-rows[:, 4], kind="stable")]

    def _second_score(self, image: np.ndarray, candidate: np.ndarray) -> float:
        """Mean of the first score and of four readings of the crop: two sizes, each as it is and mirrored."""
        scores = [candidate[4]]
        for size in _SECOND_SIZES:
            crop, box = face_crop(image, candidate[:4], size, _CONTEXT)
            outputs = self.loaded(_canvas([crop, crop[:, ::-1]]))
            for n in range(2):
                found = decode(outputs, n, 0.02)
                scores.append(found[overlap(found, box) > 0.3, 4].max(initial=0.0))
        return float(np.mean(scores))

    def _read(self, image: np.ndarray, scale: float, threshold: float, stretch: bool = True) -> np.ndarray:
        """(N, 5) rows (x0, y0, x1, y1, score) found in the whole image at one scale, in the image's pixels.

        With `stretch`, the sides are stretched a little to fill their canvas. An image that exceeds one canvas is
        read in tiles, and again at a quarter of the size until it fits, for faces larger than a tile's margin.
        """
        height, width = image.shape[:2]
        size = [max(1, round(v * scale)) for v in (width, height)]
        scaled = resize(image, *(map(stretched_side, size) if stretch else size))
        found = [self._read_tile(scaled, tile, threshold) for tile in tiles(*scaled.shape[:2])]
        rows = np.concatenate(found) * np.array([width / scaled.shape[1], height / scaled.shape[0]] * 2 + [1.0])
        if len(found) > 1:
            rows = np.concatenate([rows, self._read(image, scale / 4, threshold, stretch)])
        rows[:, :4] = np.clip(rows[:, :4], 0, [width, height, width, height])
        return suppress(rows)

    def _read_tile(self, image: np.ndarray, tile: Tile, threshold: float) -> np.ndarray:
        """Rows whose centre lies in the tile's core, in the image's pixels."""
        (x0, y0, x1, y1), (left, top, right, bottom) = tile
        rows = decode(self.loaded(_canvas([image[y0:y1, x0:x1]])), 0, threshold)
        rows[:, :4] += [x0, y0, x0, y0]
        x, y = (rows[:, 0] + rows[:, 2]) / 2, (rows[:, 1] + rows[:, 3]) / 2
        return rows[(x >= left) & (x < right) & (y >= top) & (y < bottom)]

    def _residue(self, image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """Rows that overlap the boxes by more than a fifth of the smaller of the two."""
        height, width = image.shape[:2]
        # Stretched to multiples of 32 as CenterFace's own demo and deface do, so that what they find is found.
        full = resize(image, -(-width // 32) * 32, -(-height // 32) * 32)
        factor = np.array([full.shape[1] / width, full.shape[0] / height] * 2 + [1.0])
        found = [np.zeros((0, 5))]
        for x0, y0, x1, y1 in windows([np.array(box) * factor[:4] for box in boxes], *full.shape[:2]):
            rows = self._read(full[y0:y1, x0:x1], 1.0, self.residue_threshold, stretch=False)
            found.append((rows + np.array([x0, y0, x0, y0, 0])) / factor)
        rows = suppress(np.concatenate(found))
        touched = [overlap(rows, np.array(box), of_smaller=True) > 0.2 for box in boxes]
        return rows[np.any(touched, axis=0)] if touched else rows[:0]


def _detections(rows: np.ndarray) -> list[Detection]:
    return [Detection("face", (x0, y0, x1, y1), score) for x0, y0, x1, y1, score in rows.tolist()]


def decode(outputs: Sequence[np.ndarray], n: int, threshold: float) -> np.ndarray:
    """(N, 5) float64 rows (x0, y0, x1, y1, score) of canvas n, in its pixels, before suppression.

    Args:
        outputs: heatmap (B, 1, h, w), log of the sides / 4 as (B, 2, h, w) height first, offset likewise.
        n: index into the batch.
        threshold: heat that a cell must exceed.
    """
    heat, size, offset = (o[n].astype(np.float64) for o in outputs[:3])
    row, column = np.nonzero(heat[0] > threshold)
    half_h, half_w = np.exp(size[:, row, column]) * _STRIDE / 2
    y, x = (offset[:, row, column] + np.stack([row, column]) + 0.5) * _STRIDE
    return np.stack([x - half_w, y - half_h, x + half_w, y + half_h, heat[0, row, column]], axis=1)


def decode_landmarks(outputs: Sequence[np.ndarray], n: int, threshold: float) -> np.ndarray:
    """(N, 5, 2) float64 x and y of the landmarks of `decode`'s rows, in the same order; see `Faces.landmarks`.

    Args:
        outputs: as `decode`'s, and the landmarks (B, 10, h, w): five times y and x, from the box's corner in its sides.
        n, threshold: as `decode`'s.
    """
    row, column = np.nonzero(outputs[0][n, 0] > threshold)
    boxes = decode(outputs, n, threshold)
    points = outputs[3][n].astype(np.float64)[:, row, column].T.reshape(-1, 5, 2)[:, :, ::-1]
    return boxes[:, None, :2] + points * (boxes[:, None, 2:4] - boxes[:, None, :2])


def suppress(rows: np.ndarray, limit: float = 0.3) -> np.ndarray:
    """Rows by falling score, without those that overlap a better one by an IoU above `limit`."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    kept = []
    while len(rows):
        kept.append(rows[0])
        rows = rows[1:][overlap(rows[1:], rows[0]) <= limit]
    return np.array(kept).reshape(-1, 5)


def overlap(rows: np.ndarray, box: np.ndarray, of_smaller: bool = False) -> np.ndarray:
    """(N,) intersection of (N, 4 or more) boxes with one box over their union, or over the smaller; in [0, 1]."""
    sides = np.minimum(rows[:, 2:4], box[2:4]) - np.maximum(rows[:, :2], box[:2])
    shared = sides.clip(0).prod(axis=1)
    areas, area = (rows[:, 2:4] - rows[:, :2]).prod(axis=1), (box[2:4] - box[:2]).prod()
    return shared / np.maximum(np.minimum(areas, area) if of_smaller else areas + area - shared, 1e-9)


Tile = tuple[tuple[int, int, int, int], tuple[float, float, float, float]]
"""A tile (x0, y0, x1, y1) and its core (left, top, right, bottom): each face is taken from one tile alone, the one
whose core holds its centre."""


def tiles(height: int, width: int) -> list[Tile]:
    """Overlapping tiles whose cores partition the plane; a single tile for an image of up to `_LARGEST_CANVAS`."""
    if height * width <= _LARGEST_CANVAS:
        return [((0, 0, width, height), (-np.inf, -np.inf, np.inf, np.inf))]
    return [
        ((x0, y0, x1, y1), (left, top, right, bottom))
        for y0, y1, top, bottom in _spans(height)
        for x0, x1, left, right in _spans(width)
    ]


def _spans(length: int) -> list[tuple[int, int, float, float]]:
    """Tiles along one side: start, end, start of the core, end of the core."""
    starts = list(range(0, max(1, length - 2 * _MARGIN), _TILE - 2 * _MARGIN))
    ends = [min(start + _TILE, length) for start in starts]
    cores = [-np.inf, *(float(start + _MARGIN) for start in starts[1:]), np.inf]
    return list(zip(starts, ends, cores[:-1], cores[1:], strict=True))


Window = tuple[int, int, int, int]


def windows(boxes: Sequence[Box | np.ndarray], height: int, width: int) -> list[Window]:
    """Windows (x0, y0, x1, y1) that show each box with its surroundings; the whole image if they nearly fill it.

    Their corners lie on multiples of the network's coarsest cell, 32 pixels, so that it sees them as it does in the
    whole image. Windows that overlap are joined.
    """
    found: list[Window] = []
    for x0, y0, x1, y1 in boxes:
        margin = min(max(48.0, 0.5 * max(x1 - x0, y1 - y0)), 128.0)
        left, top = (max(0, int((v - margin) // 64) * 64) for v in (x0, y0))
        right = min(left + canvas_side(int(x1 + margin) - left), width)
        bottom = min(top + canvas_side(int(y1 + margin) - top), height)
        if left < right and top < bottom:
            found = _join(found, (left, top, right, bottom))
    if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in found) > 0.8 * height * width:
        return [(0, 0, width, height)]
    return found


def _join(found: list[Window], new: Window) -> list[Window]:
    """The windows with a new one, joined with all that it overlaps."""
    for i, old in enumerate(found):
        if max(old[0], new[0]) < min(old[2], new[2]) and max(old[1], new[1]) < min(old[3], new[3]):
            union = (min(old[0], new[0]), min(old[1], new[1]), max(old[2], new[2]), max(old[3], new[3]))
            return _join(found[:i] + found[i + 1 :], union)
    return [*found, new]


def face_crop(image: np.ndarray, box: np.ndarray, size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """A square around the box, black beyond the image, resized so that the face's side is about `size`; the box in it.

    Args:
        image: (H, W, 3) uint8.
        box: (x0, y0, x1, y1) float64 in its pixels.
        size: pixels to a side of the face.
        context: side of the square in sides of the face.

    Returns:
        (size · context, size · context, 3) uint8, and the box in its pixels.
    """
    reach = max(1, round(float(np.sqrt((box[2:] - box[:2]).prod())) * context / 2))
    x0, y0 = round((box[0] + box[2]) / 2) - reach, round((box[1] + box[3]) / 2) - reach
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : max(y0 + 2 * reach, 0), max(x0, 0) : max(x0 + 2 * reach, 0)]
    borders = (max(-y0, 0), max(y0 + 2 * reach - height, 0), max(-x0, 0), max(x0 + 2 * reach - width, 0))
    square = cv2.copyMakeBorder(inside, *borders, borderType=cv2.BORDER_CONSTANT, value=(0, 0, 0))
    side = size * context
    return resize(square, side, side), (box - [x0, y0, x0, y0]) * (side / (2 * reach))


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image at another size; averaged if it shrinks by more than half, interpolated otherwise."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * 2 < image.shape[1] or height * 2 < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def canvas_side(length: int) -> int:
    """The side of a canvas for `length` pixels, a multiple of 32 of which at most a third stays black.

    There are few sides, since compiling the network for a new shape costs as much as running it.
    """
    return next((side for side in _SIDES if side >= length), -(-length // 256) * 256)


def stretched_side(length: int) -> int:
    """A length near this one that fills a canvas' side: black filling would cost a fifth of the time."""
    side = canvas_side(max(1, round(length * _STRETCH[0])))
    return side if side <= _STRETCH[1] * length else length


def _canvas(images: Sequence[np.ndarray]) -> np.ndarray:
    """(B, 3, H, W) float32 in [0, 255] of images of one size, filled with black to the next `canvas_side`."""
    pixels = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
    below, right = (canvas_side(length) - length for length in pixels.shape[2:])
    return np.pad(pixels, ((0, 0), (0, 0), (0, below), (0, right)))
