"""Images in and out: what decodes, how it is encoded clean, content seeds, padding, boxes.

Decoding,
suffixes and the metadata scan have files of their own and are public from here.
"""

from __future__ import annotations

import hashlib
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from .decoding import MAX_PIXELS, Decoded, decode
from .errors import SetupError
from .formats import IMAGE_SUFFIXES, looks_like_image
from .metadata import metadata_in

__all__ = [
    "ENCODED_FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Box",
    "Decoded",
    "choose_format",
    "clip_box",
    "content_seed",
    "decode",
    "encode",
    "grow_box",
    "grow_evenly",
    "grow_head",
    "grow_line",
    "looks_like_image",
    "metadata_in",
    "pad",
    "unpad",
]

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the upright image, x1 and y1 exclusive. The only box convention here."""

ENCODED_FORMATS = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""What `encode` writes, and the longest side in pixels that each can hold (libjpeg stops short of 65535)."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": 0},
    "png": {"compress_level": 1},
    "webp": {"quality": 90},
}


def choose_format(decoded: Decoded, wanted: str = "auto") -> str:
    """The format to `encode` a picture in: "jpeg", "png" or "webp".

    Args:
        decoded: the source picture.
        wanted: one of those three, or "auto": PNG for a source stored without loss, JPEG for any other.
            PNG takes over where a side is too long for the format.

    Raises:
        SetupError: for any other `wanted`.
    """
    if wanted != "auto" and wanted not in ENCODED_FORMATS:
        raise SetupError(f"image format {wanted!r} is not one of {', '.join(['auto', *ENCODED_FORMATS])}")
    chosen = wanted if wanted != "auto" else "png" if decoded.lossless else "jpeg"
    return chosen if max(decoded.pixels.size) <= ENCODED_FORMATS[chosen] else "png"


def encode(image: Image.Image, format: str) -> bytes:
    """One image as a file without any metadata: JPEG 95 at 4:4:4, PNG at level 1, or WebP 90.

    Args:
        image: RGB; whatever its `info` holds stays behind.
        format: "jpeg", "png" or "webp".

    Raises:
        SetupError: for another format.
        ValueError: where the mode is not RGB, or a side is too long for the format (see `choose_format`).
    """
    if format not in ENCODED_FORMATS:
        raise SetupError(f"image format {format!r} is not one of {', '.join(ENCODED_FORMATS)}")
    if image.mode != "RGB":
        raise ValueError(f"mode {image.mode} is not RGB; pass the image through decode()")
    if max(image.size) > ENCODED_FORMATS[format]:
        raise ValueError(f"{image.size[0]} x {image.size[1]} is too large for {format}; see choose_format()")
    # `save` writes comments, profiles and resolutions that it finds in `info`: a copy has none.
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    out = io.BytesIO()
    bare.save(out, format, **_OPTIONS[format])
    return out.getvalue()


def content_seed(image: Image.Image, run_seed: int) -> int:
    """The row's seed in [0, 2**63): SHA-256 of the run's seed and the picture's size and pixels (law 5).

    The same picture has the same seed however it was stored. Private: it recognises its original.

    Args:
        image: upright RGB image.
        run_seed: any integer.
    """
    digest = hashlib.sha256(f"{run_seed} {image.width} {image.height} ".encode())
    digest.update(image.convert("RGB").tobytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def pad(image: Image.Image, multiple: int) -> tuple[Image.Image, tuple[int, int]]:
    """Extend an RGB image on the right and at the bottom to multiples, repeating its last column and row.

    Returns:
        The padded image and the (width, height) that `unpad` takes to undo it exactly.

    Raises:
        ValueError: where `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple is {multiple}; it must be at least 1")
    right, bottom = -image.width % multiple, -image.height % multiple
    pixels = np.pad(np.asarray(image.convert("RGB")), ((0, bottom), (0, right), (0, 0)), mode="edge")
    return Image.fromarray(pixels), image.size


def unpad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The top left (width, height) pixels of a padded image.

    Raises:
        ValueError: where the image is smaller than that, which would add black pixels in silence.
    """
    if image.width < size[0] or image.height < size[1]:
        raise ValueError(f"an image of {image.size} cannot be cut to {size}")
    return image.crop((0, 0, *size))


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box inside an image of (width, height) pixels; None where no area is left.

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
