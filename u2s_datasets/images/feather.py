"""Part of an image replaced: boxes grown a little and blended at the rim, all else untouched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.errors import EditFailed
from u2s_datasets.parts import Box

DILATE, FEATHER = 0.05, 0.1
"""As shares of a box's shorter side: how far it is replaced whole beyond its edge, and how far blended beyond that."""
LEAST = 4.0
"""Pixels that each of the two is at least, so that a small box has a rim too."""


def paste(original: Image.Image, edited: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """The original with the boxes from the edited image: inside a box and `DILATE` around it nothing of the original
    is left, over the `FEATHER` beyond that it fades in, and further out every pixel is the original's own.

    Args:
        original, edited: RGB images of one size.
        boxes: (x0, y0, x1, y1) in pixels; one with corners in the wrong order or a coordinate that is no number is
            mended as `images.clip_box` says.

    Raises:
        EditFailed: none of a box lies in the image: what it was to hide may be anywhere.
        ValueError: the sizes differ.
    """
    if original.size != edited.size:
        raise ValueError(f"an edited image of {edited.size} cannot be pasted into one of {original.size}")
    clipped = [images.clip_box(box, original.size) for box in boxes]
    inside = [box for box in clipped if box is not None]
    if len(inside) < len(clipped):
        raise EditFailed(f"a box to change lies outside the image of {original.size}")
    share = mask(original.size, inside)[..., None]
    before, after = np.asarray(original.convert("RGB")), np.asarray(edited.convert("RGB"))
    mixed = np.rint(before * (1 - share) + after * share).astype(np.uint8)
    return Image.fromarray(np.where(share == 0, before, mixed))


def mask(size: tuple[int, int], boxes: Sequence[Box]) -> np.ndarray:
    """(H, W) float32 in [0, 1]: how much of each pixel comes from the edited image; 1 in every pixel a box touches.

    Args:
        size: (width, height).
        boxes: (x0, y0, x1, y1) in pixels, all finite, with x1 > x0 and y1 > y0.
    """
    width, height = size
    share = np.zeros((height, width), np.float32)
    for x0, y0, x1, y1 in boxes:
        side = min(x1 - x0, y1 - y0)
        whole, rim = max(DILATE * side, LEAST), max(FEATHER * side, LEAST)
        across = _distance(width, x0 - whole, x1 + whole)
        down = _distance(height, y0 - whole, y1 + whole)
        far = np.hypot(across[None, :], down[:, None])
        np.maximum(share, np.clip(1 - far / rim, 0, 1), out=share)
    return share


def _distance(length: int, low: float, high: float) -> np.ndarray:
    """How far each pixel lies outside [low, high), whole pixels counted; 0 where it touches it."""
    at = np.arange(length, dtype=np.float32)
    return np.maximum(np.maximum(math.floor(low) - at, at - (math.ceil(high) - 1)), 0)
