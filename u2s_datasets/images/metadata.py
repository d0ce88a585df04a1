"""What an encoded image carries beside its pixels, found by walking its segments and chunks, without Pillow.

Everything that is not known to be needed for the pixels is named: an unknown chunk counts as metadata.
"""

import re
from collections.abc import Iterator

SOS, EOI = 0xDA, 0xD9

_JPEG_NEEDED = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD} - {0xC8}
_PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"cICP"}
_WEBP_NEEDED = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_CHUNK_NAMES = {b"eXIf": "EXIF", b"EXIF": "EXIF", b"iCCP": "ICC", b"ICCP": "ICC", b"XMP ": "XMP"}
_SEGMENT_NAMES = (
    (0xE0, b"JFXX\0", "thumbnail"),
    (0xE1, b"Exif", "EXIF"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", "XMP"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0", "XMP"),
    (0xE2, b"ICC_PROFILE", "ICC"),
    (0xED, b"", "IPTC"),
    (0xFE, b"", "comment"),
    (0, b"", "bytes between segments"),
)
"""(marker, start of its body, name) of JPEG segments."""
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header: its body is the bits per sample, height, width, and number of channels."""
_TRANSPARENCY, _DEEP, _CHANNELS = "transparency", "more than 8 bits per channel", "other channels than grey or RGB"
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_TRAILING = "bytes after the image's end"


def metadata_in(data: bytes) -> list[str]:
    """Names what an encoded JPEG, PNG or WebP carries beside its pixels; empty means clean.

    Among the names: "EXIF", "XMP", "ICC", "IPTC", "comment", "thumbnail", "density", "APP11", names of chunks
    such as "tEXt" or "pHYs", "bytes after the image's end". Bytes that are none of the three formats, or are cut
    short, are never clean.

    Args:
        data: a whole file.

    Returns:
        Each name once, in the order of the file.
    """
    if data.startswith(b"\xff\xd8"):
        names = _in_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        names = _in_png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        names = _in_webp(data)
    else:
        names = iter(["not a JPEG, PNG or WebP"])
    return list(dict.fromkeys(names))


def beyond_rgb(data: bytes) -> list[str]:
    """Names what an encoded JPEG, PNG or WebP stores of its pixels beyond 8 bits of grey or RGB; empty means nothing.

    A whole picture fits under alpha 0, in a fourth channel or in the low bytes of 16 bits, and nobody sees it.

    Args:
        data: a whole file.

    Returns:
        Among "transparency", "more than 8 bits per channel", "other channels than grey or RGB", each once. Other
        formats give none; `metadata_in` refuses them.
    """
    if data.startswith(b"\xff\xd8"):
        names = _beyond_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        names = _beyond_png(data)
    else:
        names = _beyond_webp(data)
    return list(dict.fromkeys(names))


def _beyond_jpeg(data: bytes) -> Iterator[str]:
    for marker, body, _ in jpeg_segments(data):
        if marker in _FRAMES and body[:1] != b"\x08":
            yield _DEEP
        if marker in _FRAMES and body[5:6] not in (b"\1", b"\3"):
            yield _CHANNELS


def _beyond_png(data: bytes) -> Iterator[str]:
    for name, body in png_chunks(data):
        if name == b"IHDR" and body[8:9] == b"\x10":
            yield _DEEP
        if name == b"tRNS" or (name == b"IHDR" and body[9:10] in (b"\4", b"\6")):
            yield _TRANSPARENCY


def _beyond_webp(data: bytes) -> Iterator[str]:
    at = 12
    for name, end in webp_chunks(data):
        # Bit 4 of the flags of a VP8X says alpha, and so does bit 28 behind the signature byte of a VP8L.
        flags = data[at + 8 : at + 9] if name == b"VP8X" else data[at + 12 : at + 13] if name == b"VP8L" else b""
        if name == b"ALPH" or (flags and flags[0] & 0x10):
            yield _TRANSPARENCY
        at = end


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, body, offset of the marker) of each segment up to EOI; ends early if the file does."""
    at = 2
    while (found := _NEXT_MARKER.search(data, at)) is not None:
        # Bytes that belong to no segment could hold anything; marker 0 stands for them.
        if found.start() != at:
            yield 0, data[at : found.start()], at
        marker, at = data[found.end() - 1], found.end()
        if marker == EOI:
            yield EOI, b"", at - 2
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == 0x01 or length < 2 or at + length > len(data):
            return
        yield marker, data[at + 2 : at + length], at - 2
        at += length
        if marker == SOS and (scan := _NEXT_MARKER.search(data, at)) is not None:
            at = scan.start()


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(name, offset of its end) of each chunk inside the RIFF container; ends early if the file does."""
    at, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= min(end, len(data)):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
        if at > len(data):
            return
        yield name, at


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, body) of each chunk; ends early if the file does."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _in_jpeg(data: bytes) -> Iterator[str]:
    for marker, body, at in jpeg_segments(data):
        if marker == EOI:
            if len(data) > at + 2:
                yield _TRAILING
            return
        yield from _in_segment(marker, body)
    yield "cut short"


def _in_segment(marker: int, body: bytes) -> Iterator[str]:
    if marker in _JPEG_NEEDED or (marker == 0xEE and body[:5] == b"Adobe" and len(body) == 12):
        return
    if marker == 0xE0 and body[:5] == b"JFIF\0":
        if len(body) != 14 or any(body[12:14]):
            yield "thumbnail"
        if body[7:12] != b"\0\0\1\0\1":
            yield "density"
        return
    other = f"APP{marker - 0xE0}" if 0xE0 <= marker <= 0xEF else f"segment 0x{marker:02X}"
    name = next((name for m, start, name in _SEGMENT_NAMES if m == marker and body.startswith(start)), other)
    yield name
    if name == "EXIF" and b"\xff\xd8\xff" in body:
        yield "thumbnail"


def _in_png(data: bytes) -> Iterator[str]:
    at = 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(data):
            break
        if name == b"IEND":
            if body or len(data) > at:
                yield _TRAILING
            return
        if name not in _PNG_NEEDED:
            xmp = name == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0")
            yield "XMP" if xmp else _CHUNK_NAMES.get(name, name.decode("latin-1"))
    yield "cut short"


def _in_webp(data: bytes) -> Iterator[str]:
    chunks = list(webp_chunks(data))
    yield from (_CHUNK_NAMES.get(name, name.decode("latin-1")) for name, _ in chunks if name not in _WEBP_NEEDED)
    stated = 8 + int.from_bytes(data[4:8], "little")
    if not chunks or chunks[-1][1] < stated:
        yield "cut short"
    elif len(data) > chunks[-1][1]:
        yield _TRAILING
