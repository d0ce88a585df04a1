"""CenterFace as a network: what it is given, how its output is read, and how large pictures are cut.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point".
"""

from collections.abc import Sequence

import cv2
import numpy as np

from u2s_datasets.images import Box
from u2s_datasets.parts.detectors.turns import spun

_STRIDE = 4  # image pixels per cell of the network's output
_LARGEST_CANVAS = 2_000_000  # pixels read at once; the process stays below 1 GB
# A face of up to 2 * _MARGIN pixels lies whole in the tile whose core holds its centre.
_TILE, _MARGIN = 1376, 96
_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640, 768, 896, 1024, 1152, 1280)
_STRETCH = (0.93, 1.1)  # how far a side may be from what the scale says, if it then fills a canvas


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
    return np.array(kept).reshape(-1, rows.shape[1])


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


def face_crop(
    image: np.ndarray, box: np.ndarray, size: int, context: float, angle: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A square around the box, black beyond the image, resized so that the face's side is about `size`; the box in it.

    Args:
        image: (H, W, 3) uint8.
        box: (x0, y0, x1, y1) float64 in its pixels.
        size: pixels to a side of the face.
        context: side of the square in sides of the face; with `size` it makes a whole number of pixels.
        angle: degrees by which what is seen is turned counterclockwise.

    Returns:
        (size · context, size · context, 3) uint8, and the box in its pixels; turned, a square in the middle.
    """
    side = round(size * context)
    middle = np.array([side - size, side - size, side + size, side + size]) / 2
    if angle % 90:
        wide = face_crop(image, box, size, 1.5 * context)[0]  # the corners of a square need 1.42 of its side
        cut = (wide.shape[0] - side) // 2
        return spun(wide, angle, wide.shape[1::-1])[cut : cut + side, cut : cut + side], middle
    reach = max(1, round(float(np.sqrt((box[2:] - box[:2]).prod())) * context / 2))
    x0, y0 = round((box[0] + box[2]) / 2) - reach, round((box[1] + box[3]) / 2) - reach
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : max(y0 + 2 * reach, 0), max(x0, 0) : max(x0 + 2 * reach, 0)]
    borders = (max(-y0, 0), max(y0 + 2 * reach - height, 0), max(-x0, 0), max(x0 + 2 * reach - width, 0))
    square = resize(cv2.copyMakeBorder(inside, *borders, borderType=cv2.BORDER_CONSTANT, value=(0, 0, 0)), side, side)
    if angle:
        return np.rot90(square, angle // 90), middle
    return square, (box - [x0, y0, x0, y0]) * (side / (2 * reach))


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


def canvas(images: Sequence[np.ndarray]) -> np.ndarray:
    """(B, 3, H, W) float32 in [0, 255] of images of one size, filled with black to the next `canvas_side`."""
    pixels = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
    below, right = (canvas_side(length) - length for length in pixels.shape[2:])
    return np.pad(pixels, ((0, 0), (0, 0), (0, below), (0, right)))
