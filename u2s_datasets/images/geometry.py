"""Boxes, padding and pasting. Pixels stay in place: what is padded is unpadded, and boxes stay valid (law 6)."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from u2s_datasets.errors import EditFailed

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the upright image, x1 and y1 exclusive. The only box convention here."""


def pad(image: Image.Image, multiple: int) -> tuple[Image.Image, tuple[int, int]]:
    """Extend an RGB image on the right and at the bottom to multiples, repeating its last column and row.

    Returns:
        The padded image and the (width, height) that `unpad` takes to undo it exactly.

    Raises:
        ValueError: `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"invalid multiple {multiple}; expected at least 1")
    right, bottom = -image.width % multiple, -image.height % multiple
    pixels = np.pad(np.asarray(image.convert("RGB")), ((0, bottom), (0, right), (0, 0)), mode="edge")
    return Image.fromarray(pixels), image.size


def unpad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The top left (width, height) pixels of a padded image.

    Raises:
        ValueError: the image is smaller than that; cropping would add black pixels in silence.
    """
    if image.width < size[0] or image.height < size[1]:
        raise ValueError(f"an image of {image.size} cannot be cut to {size}")
    return image.crop((0, 0, *size))


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box inside an image of (width, height) pixels; None if no area is left.

    Corners in the wrong order are swapped, and a coordinate that is not a number reaches to the image's edge:
    a region to hide must not vanish because of a detector's slip.
    """
    return grow_box(box, 0.0, 0.0, size)


def grow_box(box: Box, by_x: float, by_y: float, size: tuple[int, int]) -> Box | None:
    """The box with `by_x` pixels more left and right and `by_y` above and below, clipped as by `clip_box`."""
    x0, x1 = _span(box[0], box[2], by_x, size[0])
    y0, y1 = _span(box[1], box[3], by_y, size[1])
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


HEAD = (0.4, 0.5, 0.4, 0.3)
"""Growth left, top, right, bottom, as shares of the face's width and height: detectors box eyebrows to chin,
but hair, ears and jaw tell who it is. Covers each of 29 published head boxes from CenterFace's box."""
LINE, MARGIN = 0.25, 0.1
"""Growth on all sides: of a line's height (accents and tails stick out); of anything else's shorter side."""


def grow_head(box: Box) -> Box:
    """From a face to hair, ears and chin. Not clipped to the image."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = HEAD
    width, height = x1 - x0, y1 - y0
    return x0 - left * width, y0 - top * height, x1 + right * width, y1 + bottom * height


def grow_line(box: Box) -> Box:
    """From a line of text to its accents and tails. Not clipped to the image."""
    # A single narrow letter still counts as a line of its height; a column of letters does not.
    return _grown(box, LINE * min(box[3] - box[1], 3 * (box[2] - box[0])))


def grow_evenly(box: Box) -> Box:
    """A little on all sides. Not clipped to the image."""
    return _grown(box, MARGIN * min(box[2] - box[0], box[3] - box[1]))


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _span(low: float, high: float, by: float, side: int) -> tuple[float, float]:
    low, high = 0.0 if math.isnan(low) else low, float(side) if math.isnan(high) else high
    low, high = min(low, high) - by, max(low, high) + by
    return min(max(0.0, low), float(side)), min(max(0.0, high), float(side))


DILATE, FEATHER = 0.05, 0.1
"""As shares of a box's shorter side: how far beyond its edge pixels are replaced entirely, and how far beyond that
they are blended."""
LEAST = 4.0
"""Pixels that each of the two is at least, so that a small box has a rim too."""


def paste_boxes(original: Image.Image, edited: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """The original with the boxes taken from the edited image and blended in at their rims.

    Inside a box and `DILATE` around it nothing of the original is left; over the `FEATHER` beyond that it fades in;
    further out every pixel is the original's own.

    Args:
        original, edited: RGB images of one size.
        boxes: (x0, y0, x1, y1) in pixels; corners in the wrong order and NaN are mended as `clip_box` says.

    Raises:
        EditFailed: a box lies outside the image, so that what it was to hide may be anywhere.
        ValueError: the sizes differ.
    """
    if original.size != edited.size:
        raise ValueError(f"an edited image of {edited.size} cannot be pasted into one of {original.size}")
    clipped = [clip_box(box, original.size) for box in boxes]
    inside = [box for box in clipped if box is not None]
    if len(inside) < len(clipped):
        raise EditFailed(f"a box to change lies outside the image of {original.size}")
    share = feather_mask(original.size, inside)[..., None]
    before, after = np.asarray(original.convert("RGB")), np.asarray(edited.convert("RGB"))
    mixed = np.rint(before * (1 - share) + after * share).astype(np.uint8)
    return Image.fromarray(np.where(share == 0, before, mixed))


def feather_mask(size: tuple[int, int], boxes: Sequence[Box]) -> np.ndarray:
    """How much of each pixel comes from the edited image, (H, W) float32 in [0, 1]; 1 in every pixel a box touches.

    Args:
        size: (width, height).
        boxes: (x0, y0, x1, y1) in pixels, all finite, with x1 > x0 and y1 > y0.
    """
    width, height = size
    share = np.zeros((height, width), np.float32)
    for x0, y0, x1, y1 in boxes:
        side = min(x1 - x0, y1 - y0)
        dilation, rim = max(DILATE * side, LEAST), max(FEATHER * side, LEAST)
        across = _distance_outside(width, x0 - dilation, x1 + dilation)
        down = _distance_outside(height, y0 - dilation, y1 + dilation)
        distance = np.hypot(across[None, :], down[:, None])
        np.maximum(share, np.clip(1 - distance / rim, 0, 1), out=share)
    return share


def _distance_outside(length: int, low: float, high: float) -> np.ndarray:
    """How many pixels each of `length` pixels lies outside [low, high); 0 where it touches it."""
    at = np.arange(length, dtype=np.float32)
    return np.maximum(np.maximum(math.floor(low) - at, at - (math.ceil(high) - 1)), 0)
