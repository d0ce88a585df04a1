"""Images out: the formats that are written, and encoding without metadata."""

import io
from typing import Any

from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.images.decoding import Decoded, bare_copy

ENCODED_FORMATS = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""What `encode` writes, and the longest side in pixels that each can hold (libjpeg stops short of 65535)."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": 0},
    "png": {"compress_level": 1},
    "webp": {"quality": 90},
}


def choose_format(decoded: Decoded, wanted: str = "auto") -> str:
    """The format to `encode` an image in: "jpeg", "png" or "webp".

    Args:
        decoded: the source image.
        wanted: one of those three, or "auto": PNG for a source stored without loss, JPEG for any other.
            PNG is used instead if a side is too long for the format.

    Raises:
        SetupError: for any other `wanted`.
    """
    if wanted == "auto":
        wanted = "png" if decoded.lossless else "jpeg"
    elif wanted not in ENCODED_FORMATS:
        raise SetupError(f"unknown image format {wanted!r}; expected one of auto, {', '.join(ENCODED_FORMATS)}")
    return wanted if max(decoded.pixels.size) <= ENCODED_FORMATS[wanted] else "png"


def encode(image: Image.Image, format: str) -> bytes:
    """One image as a file without any metadata: JPEG 95 at 4:4:4, PNG at level 1, or WebP 90.

    Args:
        image: RGB; whatever its `info` holds is not written.
        format: "jpeg", "png" or "webp".

    Raises:
        SetupError: for another format.
        ValueError: the mode is not RGB, or a side is too long for the format (see `choose_format`).
    """
    if format not in ENCODED_FORMATS:
        raise SetupError(f"unknown image format {format!r}; expected one of {', '.join(ENCODED_FORMATS)}")
    if image.mode != "RGB":
        raise ValueError(f"unexpected image mode {image.mode}; expected RGB, as decode() gives it")
    if max(image.size) > ENCODED_FORMATS[format]:
        raise ValueError(f"{image.size[0]} x {image.size[1]} is too large for {format}; see choose_format()")
    out = io.BytesIO()
    bare_copy(image).save(out, format, **_OPTIONS[format])
    return out.getvalue()
