"""Pictures turned by quarters and eighths, and the places of faces in them brought back."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from u2s_datasets.images import Box, grow_head

# An image that is turned by an eighth: pixels to a side, since OpenCV turns up to 32767, and in all, for the memory.
_LONGEST, _LARGEST = 16000, 40_000_000

ANGLE = 5
"""Index into the rows of `Faces`, (x0, y0, x1, y1, score, angle): turned counterclockwise by `angle` degrees, the image
shows the face upright; the box is what it would be if the face were turned upright about its middle."""


def turned(image: np.ndarray, angle: int) -> np.ndarray:
    """(H, W, 3) uint8 turned counterclockwise by degrees; its canvas grows and is black where there was no picture."""
    if angle % 90 == 0:
        return np.ascontiguousarray(np.rot90(image, angle // 90))
    return spun(image, angle, turned_size(image.shape, angle))


def turn_back(points: np.ndarray, angle: int, shape: Sequence[int]) -> np.ndarray:
    """(..., 2) x and y in `turned(image, angle)` to those in the image, which has this shape (height, width, …)."""
    away = points - np.array(turned_size(shape, angle)) / 2
    cos, sin = _cos_sin(angle)
    x, y = away[..., 0] * cos - away[..., 1] * sin, away[..., 0] * sin + away[..., 1] * cos
    return np.stack([x + shape[1] / 2, y + shape[0] / 2], axis=-1)


def boxes_back(boxes: np.ndarray, angle: int, shape: Sequence[int]) -> np.ndarray:
    """(N, 4) boxes in `turned(image, angle)` to the boxes in the image that hold them; see `turn_back`."""
    corners = turn_back(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]], angle, shape)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def spun(image: np.ndarray, angle: int, size: tuple[int, int]) -> np.ndarray:
    """The image turned counterclockwise about its middle, on a canvas of (width, height)."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)


def turned_size(shape: Sequence[int], angle: int) -> tuple[int, int]:
    """(width, height) of what `turned` gives of an image of this shape (height, width, …)."""
    cos, sin = map(abs, _cos_sin(angle))
    height, width = shape[:2]
    return math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)


def _cos_sin(angle: int) -> tuple[float, float]:
    return round(math.cos(math.radians(angle)), 12), round(math.sin(math.radians(angle)), 12)  # exact at a quarter


def upright_box(row: np.ndarray, shape: Sequence[int]) -> Box:
    """The box of a row's face in an image of this shape: a turned one's is so large that, grown, it holds the head."""
    x0, y0, x1, y1 = row[:4].tolist()
    if row[ANGLE]:
        width, height = x1 - x0, y1 - y0
        middle = np.array([x0 + x1, y0 + y1]) / 2
        face, head = (
            boxes_back(np.array([box]), int(row[ANGLE]), (0, 0))[0] + np.tile(middle, 2)
            for half in [(-width / 2, -height / 2, width / 2, height / 2)]
            for box in (half, grow_head(half))
        )
        left, top, right, bottom = grow_head((0, 0, 1, 1))
        sides = (head[2:] - head[:2]) / [right - left, bottom - top]
        corner = head[:2] - sides * [left, top]
        x0, y0 = np.maximum(np.minimum(face[:2], corner), 0).tolist()
        x1, y1 = np.minimum(np.maximum(face[2:], corner + sides), shape[1::-1]).tolist()
    return x0, y0, x1, y1


def at_angle(rows: np.ndarray, angle: int, shape: Sequence[int]) -> np.ndarray:
    """(N, 6) rows of an image of this shape, from the (N, 5) of what it is when turned by the angle; see `ANGLE`."""
    middle, half = (rows[:, :2] + rows[:, 2:4]) / 2, (rows[:, 2:4] - rows[:, :2]) / 2
    middle = turn_back(middle, angle, shape) if angle else middle
    return np.column_stack([middle - half, middle + half, rows[:, 4], np.full(len(rows), float(angle))])


def small_enough(image: np.ndarray) -> np.ndarray:
    """The image, or a smaller one of what may be turned by an eighth."""
    height, width = image.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width), (_LARGEST / (height * width)) ** 0.5)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
