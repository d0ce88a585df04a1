"""One file for each hostile or unusual kind of image, made from photos inside the scikit-image wheel.

`write_hostile(folder)` writes them and says what must become of each: "ok", or the code it is refused with.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image, features

from u2s_datasets.errors import UnreadableImage
from u2s_datasets.images import decode

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")


def photo(name: str = "astronaut.png", size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A real photo, RGB, without metadata. Not square by default, so that a wrong turn shows."""
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        # By way of an array: Pillow's copies would carry the photo's own ICC profile along.
        return Image.fromarray(np.asarray(image.convert("RGB").resize(size)))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The image as a file, by Pillow."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def stored_turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image as a camera stores it, so that `orientation` in EXIF turns it upright."""
    turn = Image.Transpose
    back = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE}
    back |= {6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    return image.transpose(back[orientation]) if orientation in back else image


def exif_block(orientation: int = 1) -> Image.Exif:
    """EXIF with a camera, an orientation and a place."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = orientation, "Secret Camera", "Alice at home"
    exif[0x8825] = {1: "N", 2: (59.0, 55.0, 0.0), 3: "E", 4: (30.0, 18.0, 0.0)}
    return exif


def with_thumbnail(exif: bytes, thumbnail: bytes) -> bytes:
    """An EXIF block (as Pillow writes it, big or little endian) with a JPEG thumbnail in a second IFD."""
    tiff = exif[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, first)
    link = first + 2 + 12 * count
    second, picture = len(tiff), len(tiff) + 2 + 2 * 12 + 4
    entries = struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, picture, 0x0202, 4, 1, len(thumbnail), 0)
    return exif[:6] + tiff[:link] + struct.pack(order + "I", second) + tiff[link + 4 :] + entries + thumbnail


def camera_jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    """A JPEG as a phone makes it: turned, with GPS, XMP, comment and a thumbnail of the original."""
    exif = with_thumbnail(exif_block(orientation).tobytes(), encoded(photo(size=(40, 30)), "JPEG"))
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>Alice</x:xmpmeta>"
    stored = stored_turned(image, orientation)
    return encoded(stored, "JPEG", quality=95, exif=exif, xmp=xmp, comment=b"Alice's photo", dpi=(300, 300))


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_16_rgb(image: Image.Image) -> bytes:
    """A PNG with 16 bits per channel, which Pillow cannot write."""
    wide = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    head = struct.pack(">IIBBBBB", *image.size, 16, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a hundred bytes that claims hundreds of millions of pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(bytes(999))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_claiming(data: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG whose header tells another size than its data have."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def hidden_under_alpha(image: Image.Image) -> Image.Image:
    """RGBA: the left half shows, the right half is there with alpha 0."""
    alpha = np.zeros((image.height, image.width), np.uint8)
    alpha[:, : image.width // 2] = 255
    return Image.fromarray(np.dstack([np.asarray(image), alpha]))


def heic(image: Image.Image, **options: Any) -> bytes:
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, **options)
    return out.getvalue()


def write_hostile(folder: Path) -> dict[str, str]:
    """Write every kind of file under `folder`.

    Returns:
        File name relative to `folder` -> "ok" or the code of the `UnreadableImage` that it raises.
    """
    made = _ordinary() | _odd_modes() | _odd_names() | _broken() | _many_frames() | _unsupported()
    for name, (data, _) in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: expected for name, (_, expected) in made.items()}


Files = dict[str, tuple[bytes, str]]


def _ordinary() -> Files:
    small = photo()
    files = {f"exif_{i}.jpg": (camera_jpeg(small, i), "ok") for i in range(1, 9)}
    files |= {f"exif_{i}.png": (encoded(stored_turned(small, i), "PNG", exif=exif_block(i)), "ok") for i in (3, 6)}
    files["turned.tif"] = (encoded(stored_turned(small, 6), "TIFF", tiffinfo={0x0112: 6}), "ok")
    files["progressive.jpg"] = (encoded(small, "JPEG", progressive=True), "ok")
    files["stereo.mpo"] = (encoded(small, "MPO", save_all=True, append_images=[photo("coffee.png")]), "ok")
    files["phone.heic"] = (heic(small), "ok")
    for name, format in {"a.webp": "WEBP", "a.gif": "GIF", "a.bmp": "BMP", "a.ppm": "PPM"}.items():
        files[name] = (encoded(small, format), "ok")
    files["lossless.webp"] = (encoded(small, "WEBP", lossless=True), "ok")
    files |= {"a.jp2": (encoded(small, "JPEG2000"), "ok"), "a.ico": (encoded(small, "ICO"), "ok")}
    files["a.tga"] = (encoded(small, "TGA"), "ok")
    if features.check("avif"):
        files["a.avif"] = (encoded(small, "AVIF"), "ok")
    return files


def _odd_modes() -> Files:
    small = photo()
    grey16 = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    palette = small.quantize(32)
    return {
        "cmyk.jpg": (encoded(small.convert("CMYK"), "JPEG"), "ok"),
        "grey16.png": (encoded(grey16, "PNG"), "ok"),
        "rgb16.png": (png_16_rgb(small), "ok"),
        "palette.png": (encoded(palette, "PNG", transparency=0), "ok"),
        "hidden.png": (encoded(hidden_under_alpha(small), "PNG"), "ok"),
        "hidden.webp": (encoded(hidden_under_alpha(small), "WEBP", lossless=True, exact=True), "ok"),
        "one_bit.png": (encoded(small.convert("1"), "PNG"), "ok"),
        "grey_alpha.png": (encoded(hidden_under_alpha(small).convert("LA"), "PNG"), "ok"),
        "lab.tif": (encoded(Image.merge("LAB", small.split()), "TIFF"), "ok"),
        "one_pixel.png": (encoded(photo(size=(1, 1)), "PNG"), "ok"),
        "one_pixel.jpg": (encoded(photo(size=(1, 1)), "JPEG"), "ok"),
        "float.tif": (encoded(small.convert("F"), "TIFF"), "unsupported"),
    }


def _odd_names() -> Files:
    names = ["Zoë/写真 №1.jpg", "new\nline.jpg", "a space.jpg", "quo\"te's.jpg", "UPPER.JPG", "no_suffix"]
    return {name: (encoded(photo(PHOTOS[i % 4]), "JPEG"), "ok") for i, name in enumerate(names)}


def _broken() -> Files:
    jpeg, png = encoded(photo(), "JPEG", quality=90), encoded(photo(), "PNG")
    middle = png.index(b"IDAT") + 400
    return {
        "corrupt.png": (png[:middle] + bytes(64) + png[middle + 64 :], "unreadable"),
        "corrupt.jpg": (jpeg[:4] + bytes(40) + jpeg[44:], "unreadable"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated_with_end.jpg": (jpeg[: len(jpeg) // 2] + b"\xff\xd9", "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "cut_tail.png": (png[:-12], "truncated"),
        "truncated.webp": (encoded(photo(), "WEBP")[:-40], "truncated"),
        "truncated.heic": (heic(photo())[:-40], "truncated"),
        "empty.jpg": (b"", "empty"),
        "bomb.png": (png_bomb(), "too_large"),
        "bomb.jpg": (jpeg_claiming(jpeg, 65_000, 65_000), "too_large"),
        "claims_more.jpg": (jpeg_claiming(jpeg, 160, 240), "truncated"),
        "text.jpg": (b"Dear diary, this is no photo at all.\n", "unreadable"),
    }


def _many_frames() -> Files:
    more: dict[str, Any] = {"save_all": True, "append_images": [photo("coffee.png"), photo("chelsea.png")]}
    kinds = {"animated.gif": "GIF", "animated.png": "PNG", "animated.webp": "WEBP", "pages.tif": "TIFF"}
    return {name: (encoded(photo(), format, **more), "animated") for name, format in kinds.items()}


def _unsupported() -> Files:
    tiff = encoded(photo(), "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    eps = encoded(photo(), "EPS")
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    return {
        "raw.dng": (tiff, "unsupported"),
        "raw_renamed.tif": (tiff, "unsupported"),
        "preview.tif": (encoded(photo(), "TIFF", tiffinfo={254: 1}), "unsupported"),
        "jpeg_named.nef": (encoded(photo(), "JPEG"), "unsupported"),
        "canon.tif": (b"II*\0\x10\0\0\0CR\2\0" + bytes(64), "unsupported"),
        "vector.svg": (svg, "unsupported"),
        "layers.psd": (
            b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(99),
            "unsupported",
        ),
        "postscript.jpg": (eps, "unsupported"),
    }


def refusal(value: object, **options: int) -> str:
    """The code with which `decode` refuses a value."""
    with pytest.raises(UnreadableImage) as caught:
        decode(value, **options)
    assert str(caught.value)
    return caught.value.code
