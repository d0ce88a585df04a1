"""Images out: the formats that are written, clean encoding, content seeds."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.images.decoding import Decoded

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
