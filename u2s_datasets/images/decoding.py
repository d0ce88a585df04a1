"""Images in: decoded whole or refused; upright RGB without metadata."""

import importlib
import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from u2s_datasets.errors import SetupError, U2SError, UnreadableImage
from u2s_datasets.images.formats import (
    check_complete,
    check_icon_sizes,
    check_size,
    format_of,
    is_camera_raw,
    refuse_raw_name,
)
from u2s_datasets.images.metadata import EOI, jpeg_segments, webp_chunks

MAX_PIXELS = 178_956_970
"""Default limit of `decode`: Pillow's own limit for decompression bombs, so that both agree."""

_READERS = {
    "JPEG": "PIL.JpegImagePlugin:JpegImageFile",
    "PNG": "PIL.PngImagePlugin:PngImageFile",
    "WEBP": "PIL.WebPImagePlugin:WebPImageFile",
    "GIF": "PIL.GifImagePlugin:GifImageFile",
    "TIFF": "PIL.TiffImagePlugin:TiffImageFile",
    "BMP": "PIL.BmpImagePlugin:BmpImageFile",
    "PPM": "PIL.PpmImagePlugin:PpmImageFile",
    "JPEG2000": "PIL.Jpeg2KImagePlugin:Jpeg2KImageFile",
    "ICO": "PIL.IcoImagePlugin:IcoImageFile",
    "TGA": "PIL.TgaImagePlugin:TgaImageFile",
    "AVIF": "PIL.AvifImagePlugin:AvifImageFile",
    "HEIF": "pillow_heif:HeifImageFile",
}
_LOSSLESS = {"PIXELS", "PNG", "GIF", "BMP", "DIB", "PPM", "ICO", "TGA"}
_ONE_PICTURE = {"MPO", "HEIF", "ICO"}
"""Formats whose further frames are previews, depth or gain maps, or other sizes of the same picture."""

_TRUNCATED = re.compile(r"truncated|end of file|unexpected end|premature|not enough|buffer is not large", re.I)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """An image and what it was stored as.

    Args:
        pixels: upright RGB, no `info`, no EXIF, no file name: whatever saves it writes pixels alone.
        format: the source's format, such as "JPEG"; "PIXELS" if the value came decoded and does not tell.
        lossless: whether the source was stored without loss. False if that cannot be known.
    """

    pixels: Image.Image
    format: str
    lossless: bool


def max_file_size(max_pixels: int = MAX_PIXELS) -> int:
    """Bytes of the largest file that is read: 8 for each pixel (16-bit RGBA), and 64 MiB for whatever else it holds."""
    return 8 * max_pixels + 2**26


def decode(value: Any, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode one image whole, or refuse it.

    Pixel values are kept as stored: an ICC profile is dropped and not applied, as `datasets` decodes too.
    Transparency is composited on white, so pixels hidden under alpha 0 are gone. 16-bit greys become v / 257.
    EXIF orientation is applied once. An MPO is the JPEG that it starts with; a HEIC is its primary image.

    Args:
        value: bytes, a path, `{"bytes": ..., "path": ...}`, a PIL image, or an (H, W), (H, W, 3) or (H, W, 4)
            uint8 array. A path inside a dict beside bytes only tells the name.
        max_pixels: largest width x height, read from the header before anything is decoded.

    Raises:
        UnreadableImage: with code "missing", "empty", "unreadable", "truncated", "animated", "too_large" or
            "unsupported". Nothing else is raised for any bytes.
        SetupError: this process told Pillow to accept truncated files, or pillow_heif is not installed.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise SetupError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True: half-read images would pass; set it to False")
    try:
        with _QUIET:
            return _decode(value, max_pixels)
    except U2SError:
        raise
    # The row boundary (law 1): Pillow's plugins raise struct.error, SyntaxError, KeyError, OverflowError,
    # MemoryError, zlib.error and more on hostile bytes, and none of them may take the batch down.
    except Exception as error:
        raise UnreadableImage(f"{_name(value)}: {type(error).__name__}: {error}", _code(error)) from error


def _decode(value: Any, max_pixels: int) -> Decoded:
    name = _name(value)
    if isinstance(value, Mapping):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise UnreadableImage("the row holds no image", "missing")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(value), name, max_pixels)
    if isinstance(value, (str, os.PathLike)):
        return _from_bytes(_read(Path(value), max_pixels), name, max_pixels)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if isinstance(value, Image.Image):
        return _from_pil(value, max_pixels)
    raise UnreadableImage(f"a {type(value).__name__} is not an image", "unsupported")


def _read(path: Path, max_pixels: int) -> bytes:
    refuse_raw_name(path.name)
    if not path.exists():
        raise UnreadableImage(f"{path}: no such file", "missing")
    if not path.is_file():
        # A pipe or a device would block or never end.
        raise UnreadableImage(f"{path}: not a regular file", "unreadable")
    if path.stat().st_size > max_file_size(max_pixels):
        raise UnreadableImage(f"{path}: {path.stat().st_size} bytes for {max_pixels} pixels at most", "too_large")
    return path.read_bytes()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise UnreadableImage(f"array of {array.dtype} {array.shape}; (H, W[, 3 or 4]) uint8 is read", "unsupported")
    if array.size == 0:
        raise UnreadableImage(f"array without pixels: {array.shape}", "empty")
    return Image.fromarray(array)


def _from_pil(image: Image.Image, max_pixels: int) -> Decoded:
    kind = image.format or "PIXELS"
    # A lazy image decodes on load, and loading an EPS runs ghostscript: the allowlist holds here as well.
    if isinstance(image, ImageFile.ImageFile) and kind not in {*_READERS, "MPO", "DIB"}:
        raise UnreadableImage(f"format {kind} is not read", "unsupported")
    if isinstance(image, ImageFile.ImageFile) and image._im is None and image.fp is not None:
        check_size(image.size, max_pixels)
        name = Path(os.fsdecode(image.filename)).name or f"image.{kind.lower()}"
        # From all bytes of its file, since only they show that some are missing; the file is left where it was.
        at = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(at)
        return _from_bytes(data, name, max_pixels)
    return _upright(image, kind, max_pixels)


def _from_bytes(data: bytes, name: str, max_pixels: int) -> Decoded:
    if not data:
        raise UnreadableImage(f"{name}: no bytes", "empty")
    refuse_raw_name(name)
    kind = format_of(data, name)
    check_complete(data, kind, name)
    if kind == "ICO":
        check_icon_sizes(data, max_pixels)
    image = _reader(kind)(io.BytesIO(data))
    decoded = _upright(image, kind, max_pixels)
    if kind == "JPEG" and _is_filled_up(data, image):
        raise UnreadableImage(f"{name}: the data end before the picture does", "truncated")
    if kind == "WEBP":
        return Decoded(decoded.pixels, kind, any(chunk == b"VP8L" for chunk, _ in webp_chunks(data)))
    return decoded


def _reader(kind: str) -> Callable[[io.BytesIO], Image.Image]:
    """The plugin's class. `Image.open` is not used: it limits the size by a global that anyone can set."""
    module, _, name = _READERS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise SetupError(f"{kind} files need {module}; run: pip install pillow-heif") from error


def _upright(image: Image.Image, kind: str, max_pixels: int) -> Decoded:
    """From an opened, perhaps lazy image to its upright RGB pixels, without metadata."""
    check_size(image.size, max_pixels)
    if hasattr(image, "tag_v2") and is_camera_raw(image.tag_v2):
        raise UnreadableImage("a camera raw file: what opens is its preview", "unsupported")
    lossless = kind in _LOSSLESS or (
        kind == "TIFF" and not re.search("jpeg|webp|jp2", str(image.info.get("compression")))
    )
    if kind not in _ONE_PICTURE and getattr(image, "is_animated", False):
        raise UnreadableImage(f"a {kind} of several frames", "animated")
    image.load()
    check_size(image.size, max_pixels)  # once more: an ICO may get another size on loading
    pixels = _rgb(image)
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return Decoded(bare_copy(pixels if turn is None else pixels.transpose(turn)), kind, lossless)


def _is_filled_up(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG's data end before its last row, which libjpeg then fills up in silence.

    The filling is flat, so only an image whose last corner is flat is decoded again, with other bytes in the
    place of what follows the data: if the pixels change, bytes were missing. A progressive file that lacks
    only refinements, and damage in the middle, go unnoticed.
    """
    width, height = image.size
    corner = image.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height))
    if any(low != high for low, high in np.atleast_2d(corner.getextrema())):
        return False
    end = next((at for marker, _, at in jpeg_segments(data) if marker == EOI), len(data))
    again = _reader("JPEG")(io.BytesIO(data[:end] + b"\x5a\xc3\x96\x69" * 64 + b"\xff\xd9"))
    return not np.array_equal(np.asarray(again), np.asarray(image))


def _rgb(image: Image.Image) -> Image.Image:
    """RGB pixels of a loaded image of any mode."""
    if image.mode == "F":
        raise UnreadableImage("32-bit float pixels have no fixed range", "unsupported")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    seen = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(seen, mask=seen.getchannel("A"))
    return white


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """(H, W) integers to uint8: as they are up to 255, else v / 257 rounded, so that 65535 is white."""
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise UnreadableImage(f"integer pixels from {low} to {high}; 0 to 65535 is read", "unsupported")
    wide = grey.astype(np.uint32)
    return (wide if high <= 255 else (wide + 128) // 257).astype(np.uint8)


def bare_copy(image: Image.Image) -> Image.Image:
    """A fresh RGB image of these pixels: Pillow's own copies carry `info`, which `save` writes out again."""
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    return bare


def _code(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "too_large"
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "truncated" if isinstance(error, EOFError) or _TRUNCATED.search(str(error)) else "unreadable"


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("path") or "bytes"
    return Path(value).name if isinstance(value, (str, os.PathLike)) else type(value).__name__


class _Quiet:
    """Silences the decoders' warnings while any thread decodes; every finding is a code instead.

    `warnings.catch_warnings` swaps a global: two threads that end in the wrong order would leave the filter
    on, so the first one in sets it and the last one out takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_QUIET = _Quiet()
