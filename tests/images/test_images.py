"""Decoding refuses or gives bare upright pixels; encoding carries nothing else. Files are from `hostile_images.py`."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.helpers.hostile_images import (
    camera_jpeg,
    encoded,
    exif_block,
    hidden_under_alpha,
    photo,
    png_16_rgb,
    png_chunk,
    refusal,
    write_hostile,
)
from u2s_datasets import images
from u2s_datasets.errors import SetupError, UnreadableImage
from u2s_datasets.images import (
    Decoded,
    choose_format,
    clip_box,
    decode,
    decoding,
    encode,
    grow_box,
    metadata_in,
    stored,
)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# --- decode


def test_every_hostile_file_is_read_bare_or_refused_with_its_code(tmp_path: Path) -> None:
    outcomes = {}
    expected = write_hostile(tmp_path)
    for name in expected:
        try:
            pixels = decode(tmp_path / name).pixels
        except UnreadableImage as error:
            outcomes[name] = error.code
            continue
        outcomes[name] = "ok"
        assert pixels.mode == "RGB" and pixels.info == {} and not pixels.getexif(), name
        assert type(pixels) is Image.Image and not hasattr(pixels, "filename"), name
        assert metadata_in(encoded(pixels, "JPEG")) == [], name
    assert outcomes == expected


def test_bytes_paths_and_rows_decode_alike(tmp_path: Path) -> None:
    data = encoded(photo(), "PNG")
    path = tmp_path / "Zoë №1.png"
    path.write_bytes(data)
    row = {"bytes": data, "path": "elsewhere.png"}
    for value in (data, memoryview(data), path, str(path), {"bytes": None, "path": str(path)}, row):
        decoded = decode(value)
        assert decoded.pixels.tobytes() == photo().tobytes()
        assert (decoded.format, decoded.lossless) == ("PNG", True)
    for value in (photo(), np.asarray(photo())):
        assert decode(value).pixels.tobytes() == photo().tobytes()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing"),
        ({"bytes": None, "path": None}, "missing"),
        ("nowhere/a.jpg", "missing"),
        ("https://example.org/a.jpg", "missing"),
        ("nul\0.jpg", "missing"),
        (b"", "empty"),
        ({"bytes": b"", "path": "a.jpg"}, "empty"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 3), np.float32), "unsupported"),
        (np.zeros((4, 4, 2), np.uint8), "unsupported"),
        (Image.new("F", (4, 4)), "unsupported"),
        (17, "unsupported"),
        ({"bytes": encoded(photo(), "JPEG"), "path": "x/IMG_1.CR2"}, "unsupported"),
    ],
)
def test_values_that_hold_no_picture(value: object, code: str) -> None:
    assert refusal(value) == code


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(tmp_path / "pipe.jpg") == "unreadable"


def test_hidden_pixels_under_alpha_are_gone() -> None:
    hidden = hidden_under_alpha(photo())
    lossless = {"lossless": True, "exact": True}
    values = [hidden, np.asarray(hidden), encoded(hidden, "PNG"), encoded(hidden, "WEBP", **lossless)]
    for value in values:
        pixels = np.asarray(decode(value).pixels)
        assert (pixels[:, 80:] == 255).all()
        assert (pixels[:, :80] == np.asarray(photo())[:, :80]).all()
    palette = photo().quantize(32)
    pixels = np.asarray(decode(encoded(palette, "PNG", transparency=0)).pixels)
    assert (pixels[np.asarray(palette) == 0] == 255).all()
    premultiplied = decode(hidden.convert("RGBa")).pixels
    assert (np.asarray(premultiplied)[:, 80:] == 255).all()


def test_modes_keep_their_grey_and_colour() -> None:
    small = photo()
    grey = np.asarray(small.convert("L"))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    for value in (sixteen, encoded(sixteen, "PNG"), encoded(sixteen, "TIFF"), sixteen.convert("I")):
        assert (np.asarray(decode(value).pixels) == grey[..., None]).all()
    dim = Image.fromarray(grey.astype(np.uint16) // 2)
    assert (np.asarray(decode(dim).pixels) == grey[..., None] // 2).all()
    assert np.abs(array(decode(png_16_rgb(small)).pixels) - array(small)).max() <= 1
    assert np.abs(array(decode(encoded(small.convert("CMYK"), "JPEG")).pixels) - array(small)).mean() < 6
    assert np.abs(array(decode(small.convert("YCbCr")).pixels) - array(small)).max() <= 4
    assert refusal(Image.new("I", (4, 4), 70_000)) == "unsupported"


def test_an_icc_profile_is_dropped_and_pixels_stay_as_stored() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    decoded = decode(encoded(photo(), "PNG", icc_profile=profile))
    assert decoded.pixels.tobytes() == photo().tobytes()


def test_frames_of_lazy_images_count_too() -> None:
    gif = encoded(photo(), "GIF", save_all=True, append_images=[photo("coffee.png")])
    assert refusal(Image.open(io.BytesIO(gif))) == "animated"
    mpo = encoded(photo(), "MPO", save_all=True, append_images=[photo("coffee.png")])
    assert decode(Image.open(io.BytesIO(mpo))).lossless is False


def test_a_lazy_image_is_judged_by_its_bytes(tmp_path: Path) -> None:
    whole = encoded(photo(), "JPEG", quality=90)
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    path = tmp_path / "cut.jpg"
    path.write_bytes(cut)
    assert refusal(cut) == refusal(Image.open(io.BytesIO(cut))) == "truncated"
    with Image.open(path) as opened:
        assert refusal(opened) == "truncated"
    lazy = Image.open(io.BytesIO(whole))
    assert np.array_equal(decode(lazy).pixels, decode(whole).pixels)
    assert np.array_equal(lazy, Image.open(io.BytesIO(whole)))  # whose it is can still load it


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "ICO", "TGA"])
def test_what_was_painted_on_an_opened_image_stays(format: str) -> None:
    opened = Image.open(io.BytesIO(encoded(photo(size=(64, 48)), format)))
    assert np.ptp(decode(opened).pixels, axis=(0, 1)).min() > 100
    opened.paste(Image.new(opened.mode, opened.size))
    assert np.ptp(decode(opened).pixels, axis=(0, 1)).max() == 0
    pickled = pickle.loads(pickle.dumps(Image.open(io.BytesIO(encoded(photo(), format)))))
    assert decode(pickled).pixels.size == pickled.size


def test_truncation_switched_off_by_another_library_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(SetupError, match="LOAD_TRUNCATED_IMAGES"):
        decode(encoded(photo(), "PNG"))


def test_every_exception_of_a_decoder_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in (
        MemoryError("m"),
        KeyError("k"),
        OverflowError("o"),
        ZeroDivisionError("z"),
        SyntaxError("s"),
    ):

        def raises(*_: object, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr(decoding, "_upright", raises)
        with pytest.raises(UnreadableImage) as caught:
            decode(encoded(photo(), "PNG"))
        assert caught.value.__cause__ is fault and caught.value.code == "unreadable"


def test_whole_jpegs_with_flat_corners_are_not_called_truncated() -> None:
    for width, height in ((64, 64), (65, 33), (7, 9), (128, 17)):
        for options in ({}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}):
            for mode in ("RGB", "L", "CMYK"):
                image = photo(size=(width, height))
                image.paste((0, 0, 0), (width // 3, height // 3, width, height))
                assert decode(encoded(image.convert(mode), "JPEG", **options)).pixels.size == image.size


def test_lossless_or_not() -> None:
    assert decode(encoded(photo(), "TIFF", compression="tiff_lzw")).lossless
    assert not decode(encoded(photo(), "TIFF", compression="jpeg")).lossless
    assert decode(encoded(photo(), "WEBP", lossless=True)).lossless
    assert not decode(encoded(photo(), "WEBP")).lossless
    assert not decode(encoded(photo(), "JPEG")).lossless


# --- encode


def loaded_with_metadata() -> Image.Image:
    image = Image.open(io.BytesIO(camera_jpeg(photo())))
    image.load()
    image.info |= {"icc_profile": b"profile", "transparency": 3}
    return image


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_encode_writes_pixels_alone(format: str) -> None:
    data = encode(loaded_with_metadata(), format)
    assert metadata_in(data) == []
    assert b"Alice" not in data and b"Secret" not in data
    decoded = decode(data)
    assert decoded.format == format.upper()
    limit = {"jpeg": 1.5, "png": 0, "webp": 4}[format]
    assert np.abs(array(decoded.pixels) - array(loaded_with_metadata())).mean() <= limit


def test_jpeg_keeps_full_colour_resolution() -> None:
    with Image.open(io.BytesIO(encode(photo(), "jpeg"))) as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}


def test_choice_of_format() -> None:
    small, long = Image.new("RGB", (4, 4)), Image.new("RGB", (70_000, 1))
    lossy, lossless = Decoded(small, "JPEG", False), Decoded(small, "PNG", True)
    assert [choose_format(lossy), choose_format(lossless)] == ["jpeg", "png"]
    assert [choose_format(lossless, w) for w in ("jpeg", "png", "webp")] == ["jpeg", "png", "webp"]
    for wanted in ("auto", "jpeg", "webp"):
        chosen = choose_format(Decoded(long, "JPEG", False), wanted)
        assert chosen == "png" and decode(encode(long, chosen)).pixels.size == long.size
    for side, format in ((65_500, "jpeg"), (16_383, "webp")):
        edge = Decoded(Image.new("RGB", (side, 1)), "JPEG", False)
        assert choose_format(edge, format) == format
        assert decode(encode(edge.pixels, format)).pixels.size == (side, 1)
        with pytest.raises(ValueError, match="choose_format"):
            encode(Image.new("RGB", (side + 1, 1)), format)
    with pytest.raises(SetupError, match=r"'gif'.*auto, jpeg, png, webp"):
        choose_format(lossy, "gif")
    with pytest.raises(SetupError, match="'gif'"):
        encode(small, "gif")
    with pytest.raises(ValueError, match="RGBA"):
        encode(Image.new("RGBA", (4, 4)), "png")


# --- metadata_in


def with_png_chunk(name: bytes, body: bytes) -> bytes:
    data = encoded(photo(), "PNG")
    return data[:33] + png_chunk(name, body) + data[33:]


def with_jpeg_segment(marker: int, body: bytes) -> bytes:
    data = encoded(photo(), "JPEG")
    return data[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def with_webp_chunk(name: bytes, body: bytes) -> bytes:
    data = encoded(photo(), "WEBP") + name + len(body).to_bytes(4, "little") + body
    return data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (camera_jpeg(photo()), ["density", "EXIF", "thumbnail", "XMP", "comment"]),
        (encoded(photo(), "JPEG", exif=exif_block()), ["EXIF"]),
        (encoded(photo(), "JPEG", comment=b"hi"), ["comment"]),
        (encoded(photo(), "JPEG", icc_profile=b"p" * 200), ["ICC"]),
        (encoded(photo(), "JPEG", dpi=(300, 300)), ["density"]),
        (with_jpeg_segment(0xED, b"Photoshop 3.0\0"), ["IPTC"]),
        (with_jpeg_segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0xx"), ["XMP"]),
        (with_jpeg_segment(0xE0, b"JFXX\0\x10"), ["thumbnail"]),
        (with_jpeg_segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\1\1abc"), ["thumbnail"]),
        (with_jpeg_segment(0xEB, b"JP"), ["APP11"]),
        (with_jpeg_segment(0xEE, b"Adobe\0d\0\0\0\0\0secret"), ["APP14"]),
        (encoded(photo(), "JPEG") + b"x", ["bytes after the image's end"]),
        (encoded(photo(), "JPEG")[:2] + b"secret" + encoded(photo(), "JPEG")[2:], ["bytes between segments"]),
        (encoded(photo(), "JPEG")[:-2], ["cut short"]),
        (
            encoded(photo(), "MPO", save_all=True, append_images=[photo()]),
            ["APP2", "bytes after the image's end"],
        ),
        (encoded(photo(), "PNG", exif=exif_block()), ["EXIF"]),
        (encoded(photo(), "PNG", icc_profile=b"p" * 200), ["ICC"]),
        (encoded(photo(), "PNG", dpi=(72, 72)), ["pHYs"]),
        (with_png_chunk(b"tEXt", b"Comment\0Alice"), ["tEXt"]),
        (with_png_chunk(b"zTXt", b"Comment\0\0x"), ["zTXt"]),
        (with_png_chunk(b"tIME", bytes(7)), ["tIME"]),
        (with_png_chunk(b"iTXt", b"Comment\0\0\0\0\0Alice"), ["iTXt"]),
        (with_png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), ["XMP"]),
        (with_png_chunk(b"prVt", b"secret"), ["prVt"]),
        (encoded(photo(), "PNG") + b"x", ["bytes after the image's end"]),
        (encoded(photo(), "PNG")[:-12], ["cut short"]),
        (
            encoded(photo(), "WEBP", exif=exif_block(), xmp=b"<x/>", icc_profile=b"p" * 9),
            ["ICC", "EXIF", "XMP"],
        ),
        (with_webp_chunk(b"ABCD", b"hush"), ["ABCD"]),
        (encoded(photo(), "WEBP") + b"x", ["bytes after the image's end"]),
        (encoded(photo(), "WEBP")[:-9], ["cut short"]),
        (encoded(photo(), "GIF"), ["not a JPEG, PNG or WebP"]),
        (b"", ["not a JPEG, PNG or WebP"]),
        *[(encoded(photo(), format), []) for format in ("JPEG", "PNG", "WEBP")],
        (encoded(photo().convert("CMYK"), "JPEG", progressive=True, restart_marker_blocks=2), []),
    ],
)
def test_metadata_is_named(data: bytes, names: list[str]) -> None:
    assert metadata_in(data) == names


def test_metadata_scan_survives_any_bytes() -> None:
    rng = random.Random(5)
    for data in (camera_jpeg(photo()), encoded(photo(), "PNG", exif=exif_block()), encoded(photo(), "WEBP")):
        for _ in range(100):
            assert all(isinstance(name, str) for name in metadata_in(broken(data, rng)))


# --- seeds


# --- padding and boxes


def test_padding_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="multiple 0"):
        images.pad(photo(), 0)
    with pytest.raises(ValueError, match="cannot be cut"):
        images.unpad(photo(), (161, 120))


def test_boxes_are_clipped_and_never_lost_by_a_slip() -> None:
    size, nan, inf = (100, 50), float("nan"), float("inf")
    assert clip_box((-5, 10, 20.5, 99), size) == (0, 10, 20.5, 50)
    assert clip_box((20, 40, 10, 30), size) == (10, 30, 20, 40)
    assert clip_box((10, nan, nan, 20), size) == (10, 0, 100, 20)
    assert clip_box((-inf, -inf, inf, inf), size) == (0, 0, 100, 50)
    assert clip_box((100, 0, 120, 50), size) is None
    assert clip_box((10, 10, 10, 20), size) is None
    assert grow_box((10, 10, 20, 20), 5, 15, size) == (5, 0, 25, 35)
    assert grow_box((20, 20, 10, 10), 5, 15, size) == (5, 0, 25, 35)
    assert grow_box((nan, 10, 20, nan), 1, 1, size) == (0, 9, 21, 50)


# --- names, imports, threads, fuzz


def test_sniffing_and_suffixes(tmp_path: Path) -> None:
    expected = write_hostile(tmp_path)
    blind = {"empty.jpg", "text.jpg", "a.tga"}  # nothing in their first bytes tells
    for name in expected:
        assert images.looks_like_image(tmp_path / name) is (name not in blind), name
        assert Path(name).suffix.lower() in images.IMAGE_SUFFIXES or name == "no_suffix"
    prose = [
        "BMW makes cars, and so do others.",
        "P1 is a grade",
        "%PDX",
        "MMORPG no",
        "GIF89 is old",
        "RIFF it",
    ]
    for i, text in enumerate(prose):
        (tmp_path / f"{i}.txt").write_text(text)
    assert [images.looks_like_image(tmp_path / f"{i}.txt") for i in range(6)] == [False] * 6
    assert images.looks_like_image(tmp_path / "gone") is True
    assert not {".txt", ".json", ".pdf", ".mp4", ""} & images.IMAGE_SUFFIXES


def test_import_is_light() -> None:
    heavy = {"torch", "datasets", "pillow_heif"}
    code = f"import sys, u2s_datasets.images; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_real() -> None:
    assert all(hasattr(images, name) for name in images.__all__)
    assert pickle.loads(pickle.dumps(decode(photo()))).pixels.tobytes() == photo().tobytes()


def test_threads_decode_alike_and_leave_the_warning_filters_as_they_were() -> None:
    before, results = list(warnings.filters), []
    data = [camera_jpeg(photo(), i) for i in range(1, 9)]
    threads = [
        threading.Thread(target=lambda d=d: results.append(decode(d).pixels.size)) for d in data for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(160, 120)] * 32
    assert warnings.filters == before


def broken(data: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, most of them in the headers, or cut, or with a part doubled."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        reach = rng.choice([64, 700, len(changed)])
        changed[rng.randrange(min(reach, len(changed)))] = rng.randrange(256)
    kind = rng.random()
    if kind < 0.25:
        return bytes(changed[: rng.randrange(len(changed))])
    if kind < 0.35:
        at = rng.randrange(len(changed))
        return bytes(changed[:at] + changed[at // 2 :])
    return bytes(changed)


def test_broken_bytes_decode_or_are_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(20240607)
    whole = [name for name, code in write_hostile(tmp_path).items() if code in ("ok", "animated")]
    refused = 0
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        for i in range(3000):
            name = whole[i % len(whole)]
            data = broken((tmp_path / name).read_bytes(), rng)
            try:
                pixels = decode({"bytes": data, "path": name}, max_pixels=4_000_000).pixels
            except UnreadableImage as error:
                refused += 1
                assert error.code in {
                    "unreadable",
                    "truncated",
                    "animated",
                    "too_large",
                    "unsupported",
                    "empty",
                }
            else:
                assert pixels.mode == "RGB" and pixels.width * pixels.height <= 4_000_000
    assert 1000 < refused < 2900
    assert escaped == []


def test_the_bytes_of_a_stored_image_are_its_own_or_its_files(tmp_path):
    data = encode(photo(), "png")
    file = tmp_path / "a.png"
    file.write_bytes(data)
    for value in (data, bytearray(data), str(file), file, {"bytes": data, "path": "gone.png"}, {"path": str(file)}):
        assert stored.stored_bytes(value) == data
        assert stored.stored_size(value) == len(data)
        assert stored.stored_bytes(stored.with_bytes(value)) == data
    assert stored.with_bytes(str(file)) == {"bytes": data, "path": str(file)}
    (tmp_path / "empty.png").write_bytes(b"")
    for value in (None, "", "\0", "x" * 5000, str(tmp_path), str(tmp_path / "gone.png"), {"bytes": None, "path": None}):
        assert stored.stored_bytes(value) is None
        assert stored.with_bytes(value) == value
    for value in (str(tmp_path / "empty.png"), "https://example.org/a.png"):
        assert stored.with_bytes(value) == value
    assert stored.stored_bytes("https://example.org/a.png") is None


def test_a_disk_that_may_come_back_is_not_taken_for_a_missing_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x")
    for number, passes in ((errno.EIO, True), (errno.ESTALE, True), (errno.EACCES, False)):

        def fails(path: Path, number: int = number) -> bytes:
            raise OSError(number, "fault", str(path))

        monkeypatch.setattr(Path, "read_bytes", fails)
        if passes:
            with pytest.raises(OSError, match="fault"):
                stored.with_bytes(str(tmp_path / "a.png"))
        else:
            assert stored.with_bytes(str(tmp_path / "a.png")) == str(tmp_path / "a.png")
