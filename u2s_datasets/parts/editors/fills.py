"""Natural fills: what stands beside a hidden region is continued across it, and nothing of its inside is read.

Every row of a tall region goes over from what is on its left to what is on its right, and every column of a wide one
from top to bottom, with the grain of the surroundings. What matters is that no head is left: to a face detector, any
even or shaded patch above shoulders is one, however natural. Of the 266 heads that were hidden in 63 photos, CenterFace
at 0.15 found 28 to 34% again in one colour and in a soap film, with borrowed texture or without, 16% in this fill, and
10% under a loud pattern.
"""

import math

import cv2
import numpy as np

from u2s_datasets.images.shapes import Window

_GRID = 80  # cells along the longer side of a region and its surroundings: a line of cells is continued as one
_MOST_READ = 2048  # rows and columns of pixels that the grid is made of: bounds the memory
_REACH, _LEAST_REACH = 0.5, 6  # surroundings on each side, as a share of the longer side, and pixels at least
_GRAIN, _MOST_GRAIN = 1.5, 12.0  # times the median detail of the surroundings; grey levels of standard deviation
_LEAST_GRAIN = 1.5  # grey levels: a region of a flat wall changes too, and no eye sees it
_RIM = 12  # the grain is that of a rim of 1 / 12 of the sides


def natural(canvas: np.ndarray, hidden: np.ndarray, window: Window, rng: np.random.Generator) -> np.ndarray:
    """Colours for a window, (y1 - y0, x1 - x0, 3) float32, continued from the public pixels around its hidden ones.

    Args:
        canvas: (H, W, 3) uint8, whose hidden pixels are not read.
        hidden: (H, W) bool.
        window: what is filled, with at least one pixel.
        rng: of the grain.
    """
    outer = _wider(window, max(math.ceil(_REACH * max(_sides(window))), _LEAST_REACH), hidden.shape)
    if hidden[_at(outer)].all():  # other regions fill the surroundings
        outer = (0, 0, hidden.shape[1], hidden.shape[0])
    public = ~hidden[_at(outer)]
    x0, y0, x1, y1 = window
    inside = _at((x0 - outer[0], y0 - outer[1], x1 - outer[0], y1 - outer[1]))
    fill = _continued(canvas[_at(outer)], public, inside)
    rim = _wider(window, max(sum(_sides(window)) // _RIM, 3), hidden.shape)
    grain = max(min(_grain(canvas[_at(rim)], ~hidden[_at(rim)]), _MOST_GRAIN), _LEAST_GRAIN)
    return fill + grain * rng.standard_normal((*fill.shape[:2], 1), np.float32)


def _continued(pixels: np.ndarray, public: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray:
    """(h, w, 3) float32: the colours of the public pixels, continued over the part that is inside."""
    height, width = public.shape
    step = math.ceil(max(height, width) / _MOST_READ)
    pixels, public = pixels[::step, ::step], public[::step, ::step]
    if not public.any():
        return np.full((inside[0].stop - inside[0].start, inside[1].stop - inside[1].start, 3), 128, np.float32)
    cell = max(max(height, width) / _GRID, 1.0)
    size = max(round(width / cell), 1), max(round(height / cell), 1)
    weight = cv2.resize(public.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(pixels * public[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known = weight > 0.02
    grid = np.where(known[..., None], total / np.maximum(weight, 1e-6)[..., None], 0).astype(np.float32)
    is_wide = inside[1].stop - inside[1].start > inside[0].stop - inside[0].start
    # Where a row is hidden from end to end, its columns are continued, and at last the mean.
    for turned in (is_wide, not is_wide):
        grid, known = _across(grid, known, turned)
    grid[~known] = grid[known].mean(0)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)[inside]


def _across(grid: np.ndarray, known: np.ndarray, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """A grid in which every row that knows a cell knows all; its columns instead if it is `turned`."""
    if turned:
        grid, known = grid.transpose(1, 0, 2), known.T
    count = known.shape[1]
    at = np.arange(count)
    left = np.maximum.accumulate(np.where(known, at, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, at, count)[:, ::-1], axis=1)[:, ::-1]
    to_left = np.where(left < 0, np.inf, at - left)
    to_right = np.where(right == count, np.inf, right - at)
    from_left = np.where(np.isinf(to_left), 0.0, 1.0)
    both = np.isfinite(to_left) & np.isfinite(to_right) & ~known
    from_left[both] = to_right[both] / (to_left[both] + to_right[both])
    colours = (np.take_along_axis(grid, v[..., None], axis=1) for v in (left.clip(0), right.clip(max=count - 1)))
    mixed = sum(c * share[..., None] for c, share in zip(colours, (from_left, 1 - from_left), strict=True))
    grid = np.where(known[..., None], grid, mixed).astype(np.float32)
    known = known | known.any(axis=1, keepdims=True)
    return (grid.transpose(1, 0, 2).copy(), known.T.copy()) if turned else (grid, known)


def _grain(pixels: np.ndarray, public: np.ndarray) -> float:
    """How much public pixels differ from their neighbours, as the standard deviation of a grain, in grey levels."""
    # Pixels all of whose neighbours are public too.
    inner = cv2.erode(public.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    if not inner.any():
        return 0.0
    return _GRAIN * float(np.median(cv2.absdiff(pixels, cv2.blur(pixels, (3, 3)))[inner].mean(axis=-1)))


def _sides(window: Window) -> tuple[int, int]:
    return window[2] - window[0], window[3] - window[1]


def _at(window: Window) -> tuple[slice, slice]:
    x0, y0, x1, y1 = window
    return slice(y0, y1), slice(x0, x1)


def _wider(window: Window, by: int, shape: tuple[int, ...]) -> Window:
    x0, y0, x1, y1 = window
    return max(x0 - by, 0), max(y0 - by, 0), min(x1 + by, shape[1]), min(y1 + by, shape[0])
