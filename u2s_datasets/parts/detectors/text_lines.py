"""Lines of text as quadrilaterals: which lie on one line, and the line cut out and laid level."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from u2s_datasets.images import Box

Quad = np.ndarray
"""(4, 2) float32 corners in image pixels, clockwise from the top left of the text."""


class Region(NamedTuple):
    """Where the detection network sees text, its mean probability there in [0, 1], and whether two scales agree."""

    quad: Quad
    score: float
    is_agreed: bool = False


# Two quads are on one line if they have like heights, share this much of the lower one's height, and lie no farther
# apart than so many of its heights.
LIKE_HEIGHT = 2.0
SHARED_HEIGHT = 0.5
GAP = 3.0
AGREED = 0.5  # score at two scales from which they agree on a region


def quad_of(box: Box) -> Quad:
    """The corners of an upright box."""
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def box_of(quad: Quad, image: np.ndarray) -> Box:
    """The upright box around `quad` in whole pixels, inside `image`, at least one pixel wide and high."""
    height, width = image.shape[:2]
    x0, y0 = np.floor(quad.min(0)).clip(0, (width - 1, height - 1))
    x1, y1 = np.ceil(quad.max(0)).clip((x0 + 1, y0 + 1), (width, height))
    return float(x0), float(y0), float(x1), float(y1)


def box_around(quad: Quad) -> Box:
    """The upright box around `quad`, not rounded."""
    (x0, y0), (x1, y1) = quad.min(0).tolist(), quad.max(0).tolist()
    return x0, y0, x1, y1


def area(quad: Quad) -> float:
    """Pixels of the upright box around `quad`."""
    return float(np.prod(np.ptp(quad, axis=0)))


def sides(quad: Quad) -> tuple[float, float]:
    """(length, height) of a line: the longer and the shorter side, in pixels, each 0.001 at least."""
    along, down = float(np.hypot(*(quad[1] - quad[0]))), float(np.hypot(*(quad[3] - quad[0])))
    return max(along, down, 1e-3), max(min(along, down), 1e-3)


def are_on_one_line(one: Quad, other: Quad) -> bool:
    """Whether `other` continues the line of `one`, before, behind or over it."""
    along, _ = _axes(one)
    height = sides(one)[1]
    axes = np.stack([along, (-along[1], along[0])], axis=1)
    placed, origin = (other - one.mean(0)) @ axes, (one - one.mean(0)) @ axes
    (left, top), (right, bottom) = placed.min(0), placed.max(0)
    (first, upper), (last, lower) = origin.min(0), origin.max(0)
    thickness = bottom - top
    if not height / LIKE_HEIGHT <= thickness <= height * LIKE_HEIGHT:
        return False
    shared = min(bottom, lower) - max(top, upper)
    gap = max(left - last, first - right)
    least = min(thickness, height)
    return bool(shared >= SHARED_HEIGHT * least and gap <= GAP * least)


def without_duplicates(found: Sequence[Sequence[Region]], small: float) -> list[Region]:
    """The regions without those that another scale or tile found too.

    A region inside another is dropped only if both are of like size: a small word inside a large region stays, as
    the large one may turn out to be nothing.

    Args:
        found: what was found at each scale.
        small: pixels up to which a region may count as agreed on by two scales.
    """
    kept: list[Region] = []
    scored = [(region, scale) for scale, regions in enumerate(found) for region in regions]
    for region, scale in sorted(scored, key=lambda item: -area(item[0].quad)):
        quad = region.quad
        low, high = quad.min(0), quad.max(0)
        for other in kept:
            shared = np.minimum(high, other.quad.max(0)) - np.maximum(low, other.quad.min(0))
            inside = float(np.prod(shared.clip(0)))
            if inside >= 0.85 * area(quad) and area(quad) >= 0.5 * area(other.quad):
                break
        else:
            is_agreed = (
                area(quad) <= small
                and region.score >= AGREED
                and any(
                    other.score >= AGREED and likeness(other.quad, box_around(quad)) >= 0.5
                    for number, others in enumerate(found)
                    if number != scale
                    for other in others
                )
            )
            kept.append(region._replace(is_agreed=is_agreed))
    return kept


def straighten(image: np.ndarray, quad: Quad, grow: float = 0.0) -> np.ndarray:
    """The text in `quad` as an upright line, each side moved out by `grow` times its height."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    quad = grow_quad(quad, grow)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - 2, 0)  # cut out first: cv2 warps at most 32767 pixels a side
    high = np.ceil(quad.max(0)).astype(int) + 3
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    quad = (quad - low).astype(np.float32)
    lengths = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if part.size == 0 or max(lengths[0], lengths[2]) < 1 or max(lengths[1], lengths[3]) < 1:
        return np.zeros((1, 1, 3), np.uint8)
    return get_rotate_crop_image(part, quad)


def lay_level(image: np.ndarray, quad: Quad, height: float, edge: float) -> tuple[np.ndarray, Box]:
    """The line with its surroundings, its longer side level, at another size.

    Args:
        image: (H, W, 3) uint8 RGB.
        quad: the line, at any turn.
        height: pixels that its shorter side gets.
        edge: surroundings on all sides, as a share of the shorter side; beyond the image its last pixels are repeated.

    Returns:
        The picture, and where in it the line is.
    """
    along, down = _axes(quad)
    length, tall = sides(quad)
    scale = height / tall
    corner = quad.mean(0) - along * (length / 2 + edge * tall) - down * (tall / 2 + edge * tall)
    width, rows = max(round(length * scale + 2 * edge * height), 1), max(round(height * (1 + 2 * edge)), 1)
    ends = corner + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (length + 2 * edge * tall, tall + 2 * edge * tall) @ (
        np.stack([along, down])
    )
    low = np.clip(np.floor(ends.min(0)).astype(int) - 2, 0, (image.shape[1] - 1, image.shape[0] - 1))
    high = np.maximum(np.ceil(ends.max(0)).astype(int) + 3, low + 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    shrunk = np.ones(2)
    if scale < 1:  # averaged first, since a warp skips pixels
        size = max(round(part.shape[1] * scale), 1), max(round(part.shape[0] * scale), 1)
        shrunk = np.array(size) / part.shape[1::-1]
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    matrix = np.stack([along / scale, down / scale, corner - low], axis=1) * shrunk[:, None]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = np.ascontiguousarray(part)
    level = cv2.warpAffine(part, matrix.astype(float), (width, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return level, (edge * height, edge * height, width - edge * height, rows - edge * height)


def overlap(quad: Quad, box: Box) -> float:
    """Pixels that the upright box around `quad` shares with a box."""
    x0, y0, x1, y1 = box_around(quad)
    return max(min(x1, box[2]) - max(x0, box[0]), 0) * max(min(y1, box[3]) - max(y0, box[1]), 0)


def likeness(quad: Quad, box: Box) -> float:
    """Intersection over union of the upright box around `quad` and a box, in [0, 1]."""
    x0, y0, x1, y1 = box_around(quad)
    shared = overlap(quad, box)
    union = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - shared
    return float(shared / max(union, 1e-9))


def _axes(quad: Quad) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (x, y) along the line and across it, the second a quarter turn clockwise from the first."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    longer = along if np.hypot(*along) >= np.hypot(*down) else down
    unit = np.asarray(longer / max(float(np.hypot(*longer)), 1e-6), float)
    return unit, np.array([-unit[1], unit[0]])


def grow_quad(quad: Quad, share: float) -> Quad:
    """`quad` with every side moved out by `share` of its shorter side."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    wide, tall = max(float(np.hypot(*along)), 1e-3), max(float(np.hypot(*down)), 1e-3)
    step = share * min(wide, tall)
    x, y = along / wide * step, down / tall * step
    return (quad + np.stack([-x - y, x - y, x + y, y - x])).astype(np.float32)
