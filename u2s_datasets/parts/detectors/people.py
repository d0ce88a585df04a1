"""Whole people by NanoDet (Lyu, https://github.com/RangiLyu/nanodet), seen from any side, with or without a face.

The network sees the image at 416 pixels to its longer side, in four turns: it knows people upright, and of those turned
by a quarter it finds half. Of COCO's 80 classes people are read, and animals to tell their heads from faces. Each side
of a box is a distribution over eleven distances (Li et al., "Generalized Focal Loss", 2020), whose mean is taken.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, grow_evenly
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_ranges
from u2s_datasets.parts.detectors.centerface import overlap, suppress
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine

_WEIGHTS = Path(__file__).parent / "weights" / "nanodet.onnx.xz"
_SIDE = 416
_STRIDES = (8, 16, 32)
_BINS = 11  # distances of a side from its cell's centre: 0 to 10 strides
_PERSON, _ANIMALS = (0,), tuple(range(14, 24))  # of COCO's classes; from bird to giraffe
_AROUND = 2  # sides of a face all around it, in which its body is looked for
_MEAN, _DEVIATION = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # blue, green, red
_SAME = 0.6  # IoU above which two boxes are one person

PERSON = Category(
    "person",
    "people as a whole, of 40 pixels and more",
    "person",
    "people",
    grow=grow_evenly,
    criterion="people",
    covers=("bodies",),
    aliases=("body",),
)


@dataclass(frozen=True)
class People(Detector):
    """Whole people.

    Args:
        turns: quarter turns, 0 to 3, in which the image is read; each costs 0.6 times the pass of `Faces`.
        flag_threshold: score in (0, 1) from which a person flags the image.
        redact_threshold: score in (0, 1) from which a candidate that stands upright is hidden if its image is flagged.
        residue_threshold: score from which a person counts as left over where something was hidden.
        engine: "onnxruntime" or "openvino", see `engine.py`.
        threads: threads that one call may use.
    """

    turns: tuple[int, ...] = (0, 1, 2, 3)
    flag_threshold: float = 0.4
    redact_threshold: float = 0.15
    residue_threshold: float = 0.4
    engine: str = "onnxruntime"
    threads: int = 1

    categories = (PERSON,)
    shipped = Shipped("NanoDet", "apache-2.0", "u2s_datasets")
    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "openvino")

    def check(self) -> None:
        """Raise `SetupError` for an unknown engine, missing weights or a number out of its range."""
        check_engine(self.engine)
        if not isinstance(self.turns, tuple | list) or not self.turns or not {*self.turns} <= {0, 1, 2, 3}:
            raise SetupError(f"invalid turns={self.turns!r}; expected one or more of 0, 1, 2 and 3, such as (0,)")
        check_ranges(self, flag_threshold=(0, 0.99), redact_threshold=(0, 0.99), residue_threshold=(0, 0.99))
        check_int("threads", self.threads, 1, 1024)
        if not _WEIGHTS.is_file():
            raise SetupError(f"the installed package has no {_WEIGHTS.name}; install it again")

    def load(self) -> OnnxModel:
        """The network; raises `SetupError` as `check` does."""
        self.check()
        return OnnxModel(lzma.decompress(_WEIGHTS.read_bytes()), self.engine, self.threads)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """People and weaker candidates, best first; see `Detector.detect`."""
        return [_detections(self._read_turned(image, self.redact_threshold)) for image in images]

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """People that overlap the edited boxes, in the whole image and in the surroundings of each box."""
        return [_detections(self._residue(image, boxes)) for image, boxes in zip(images, edited, strict=True)]

    def likeness(self, image: np.ndarray, box: Box) -> tuple[float, float]:
        """How much that of which a box shows a face looks like a person, and like an animal: two scores in [0, 1].

        Args:
            image: (H, W, 3) uint8 RGB.
            box: of what may be the face.
        """
        x0, y0, x1, y1 = box
        by = _AROUND * max(x1 - x0, y1 - y0)
        left, top = max(int(x0 - by), 0), max(int(y0 - by), 0)
        part = image[top : max(int(y1 + by), top + 1), left : max(int(x1 + by), left + 1)]
        canvas, scale, origin = letterbox(part)
        outputs = self.loaded(canvas)
        x, y = (np.array([x0 + x1, y0 + y1]) / 2 - [left, top]) * scale[:2] + origin
        found = (decode(outputs, self.redact_threshold, classes) for classes in (_PERSON, _ANIMALS))
        inside = [rows[(rows[:, 0] < x) & (rows[:, 2] > x) & (rows[:, 1] < y) & (rows[:, 3] > y), 4] for rows in found]
        return float(inside[0].max(initial=0.0)), float(inside[1].max(initial=0.0))

    def _read_turned(self, image: np.ndarray, threshold: float) -> np.ndarray:
        """(N, 5) rows of all turns; with `threshold` of the first one, and of the others with that which flags."""
        found = []
        for turn in self.turns:
            rows = self._read(
                np.ascontiguousarray(np.rot90(image, turn)), max(threshold, self.flag_threshold * (turn > 0))
            )
            found.append(turn_back(rows, turn, image.shape[:2]))
        return suppress(np.concatenate(found), _SAME)

    def _read(self, image: np.ndarray, threshold: float) -> np.ndarray:
        """(N, 5) rows (x0, y0, x1, y1, score) in the image's pixels."""
        canvas, scale, origin = letterbox(image)
        rows = decode(self.loaded(canvas), threshold)
        rows[:, :4] = (rows[:, :4] - np.tile(origin, 2)) / scale
        height, width = image.shape[:2]
        rows[:, :4] = np.clip(rows[:, :4], 0, [width, height, width, height])
        return suppress(rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])], _SAME)

    def _residue(self, image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        found = [self._read_turned(image, self.residue_threshold)]
        for x0, y0, x1, y1 in boxes:
            by = 0.5 * max(x1 - x0, y1 - y0)
            left, top = max(int(x0 - by), 0), max(int(y0 - by), 0)
            part = image[top : max(int(y1 + by), top + 1), left : max(int(x1 + by), left + 1)]
            if part.size:
                rows = self._read(part, self.residue_threshold)
                found.append(rows + np.array([left, top, left, top, 0]))
        rows = suppress(np.concatenate(found), _SAME)
        touched = [overlap(rows, np.array(box), of_smaller=True) > 0.2 for box in boxes]
        return rows[np.any(touched, axis=0)] if touched else rows[:0]


def _detections(rows: np.ndarray) -> list[Detection]:
    return [Detection("person", (x0, y0, x1, y1), score) for x0, y0, x1, y1, score in rows.tolist()]


def turn_back(rows: np.ndarray, turn: int, shape: tuple[int, ...]) -> np.ndarray:
    """Rows (N, 5) of what `np.rot90(image, turn)` shows, in the pixels of an image of `shape` (height, width)."""
    x0, y0, x1, y1, score = rows.T
    height, width = shape
    sides = {
        0: (x0, y0, x1, y1),
        1: (width - y1, x0, width - y0, x1),
        2: (width - x1, height - y1, width - x0, height - y0),
        3: (y0, height - x1, y1, height - x0),
    }[turn]
    return np.stack([*sides, score], axis=1)


def letterbox(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The network's input of (H, W, 3) uint8 RGB, in the middle of a black square.

    Returns:
        (1, 3, 416, 416) float32, the scale of x, y, x and y, and the (x, y) place of the image's corner in it.
    """
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    x, y = (_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2
    square = np.zeros((_SIDE, _SIDE, 3), np.float32)
    square[y : y + size[1], x : x + size[0]] = small[..., ::-1]
    pixels: np.ndarray = (square - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    return pixels.transpose(2, 0, 1)[None], np.array([size[0] / width, size[1] / height] * 2), np.array([x, y])


def decode(outputs: Sequence[np.ndarray], threshold: float, classes: Sequence[int] = _PERSON) -> np.ndarray:
    """(N, 5) float64 rows (x0, y0, x1, y1, score) of these classes on the canvas, before suppression.

    Args:
        outputs: for each stride, in any order, scores (1, cells, 80) and logits of the sides' distances
            (1, cells, 4 * 11): left, top, right, bottom, in strides from the cell's centre.
        threshold: score that a cell must reach.
        classes: indices into COCO's 80; the best of them counts.
    """
    rows = [np.zeros((0, 5))]
    for stride in _STRIDES:
        across = _SIDE // stride
        scores, logits = (_output(outputs, across**2, last) for last in (80, 4 * _BINS))
        best = scores[:, classes].max(axis=1)
        (cells,) = np.nonzero(best >= threshold)
        weights = np.exp((logits := logits[cells].reshape(-1, 4, _BINS)) - logits.max(axis=-1, keepdims=True))
        sides = (weights / weights.sum(axis=-1, keepdims=True)) @ np.arange(_BINS) * stride
        centre = (np.stack([cells % across, cells // across], axis=1) + 0.5) * stride
        rows.append(np.column_stack([centre - sides[:, :2], centre + sides[:, 2:], best[cells]]))
    return np.concatenate(rows)


def _output(outputs: Sequence[np.ndarray], cells: int, last: int) -> np.ndarray:
    """(cells, last) float64; raises `ValueError` where the network gave no such output."""
    for output in outputs:
        if output.shape == (1, cells, last):
            return output[0].astype(np.float64)
    raise ValueError(f"the network gave no output of shape (1, {cells}, {last})")
