"""Which files are images, by name and by their first bytes. Names lie, so decoding goes by the bytes."""

import re
from pathlib import Path
from typing import Any, Literal

from u2s_datasets.errors import UnreadableImage


def suffixes(names: str) -> frozenset[str]:
    """{".jpg", ".png"} of "jpg png"."""
    return frozenset(f".{name}" for name in names.split())


READABLE_SUFFIXES = suffixes(
    "jpg jpeg jpe jfif mpo png apng webp gif tif tiff bmp dib ppm pgm pbm pnm tga ico "
    "jp2 j2k j2c jpc jpf jpx heic heif hif heics heifs avif avifs"
)
"""Names of what `decode` can read."""

RAW_SUFFIXES = suffixes(
    "dng nef nrw cr2 cr3 crw arw srf sr2 orf rw2 rwl raf pef srw x3f erf mef mos mrw 3fr fff iiq dcr kdc k25 gpr raw"
)
"""Names of camera raw files. Many open as TIFF or JPEG previews, so the name alone refuses them."""

IMAGE_SUFFIXES = (
    READABLE_SUFFIXES
    | RAW_SUFFIXES
    | suffixes("psd psb svg svgz eps ai jxl jxr wdp hdp exr dds pcx sgi qoi xcf icns cur wmf emf pfm pam xbm xpm ras")
)
"""Lower-case suffixes that make a file an image, and so a row; what `decode` then refuses is withheld."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"hevc", b"hevx", b"msf1"}

_READABLE = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    # "BM" alone would take prose for a bitmap, so the size of the DIB header has to be a known one.
    "BMP": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[1-6](#|\s+[\d#])"),
    "JPEG2000": re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
    "ICO": re.compile(rb"\0\0\x01\0[^\0]\0"),
}
_REFUSED = {
    "PostScript": re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"),
    "PDF": re.compile(rb"%PDF-"),
    "Photoshop": re.compile(rb"8BPS"),
    "SVG": re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml.*)?<svg", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "camera raw": re.compile(
        rb"(II\*\0|MM\0\*)....CR|II(R[OS]\x08|U\0)|MMOR\0|FUJIFILMCCD-RAW|FOVb|\0MRM|II\x1a\0\0\0HEAPCCDR|"
        rb"....ftypcrx ",
        re.DOTALL,
    ),
    "another format": re.compile(
        rb"P[fF7]\s|DDS |qoif|v/1\x01|gimp xcf|icns|II\xbc|\0\0\x02\0[^\0]\0|\x01\xda[\0\x01][\x01\x02]|"
        rb"\xd7\xcd\xc6\x9a"
    ),
}


def sniff_format(head: bytes) -> tuple[str, bool] | None:
    """The format that a file's first bytes declare and whether `decode` reads it; None for anything else.

    Args:
        head: the first 32 bytes or more.
    """
    for name, magic in _REFUSED.items():
        if magic.match(head[:512]):
            return name, False
    for name, magic in _READABLE.items():
        if magic.match(head):
            return name, True
    if head[4:8] != b"ftyp":
        return None
    if head[8:12] in {b"avif", b"avis"} or (head[8:12] in {b"mif1", b"msf1"} and b"avif" in head[16:32]):
        return "AVIF", True
    return ("HEIF", True) if head[8:12] in _HEIF_BRANDS else None


def looks_like_image(path: Path | str) -> bool:
    """Whether a file with no suffix or an unknown one starts like an image, readable here or not.

    A file that cannot be opened counts as one: it becomes a withheld row and is not skipped in silence.
    """
    try:
        with Path(path).open("rb") as file:
            return sniff_format(file.read(32)) is not None
    except OSError:
        return True


def format_of(data: bytes, name: str) -> str:
    """The format of these bytes, as `decode` names it; the file's name counts for TGA alone, which has no magic.

    Raises:
        UnreadableImage: not an image, or one of a format that is not read.
    """
    found = sniff_format(data)
    if found is None and (Path(name).suffix.lower() == ".tga" or data[-18:-2] == b"TRUEVISION-XFILE"):
        return "TGA"
    if found is None:
        raise UnreadableImage(f"{name}: not an image: starts with {data[:8]!r}", "unreadable")
    kind, readable = found
    if not readable:
        raise UnreadableImage(f"{name}: {kind} is not read", "unsupported")
    if kind == "HEIF" and data[8:12] in {b"hevc", b"hevx", b"msf1"}:
        raise UnreadableImage(f"{name}: a HEIF image sequence", "animated")
    return kind


def check_complete(data: bytes, kind: str, name: str) -> None:
    """Refuse a truncated WebP, and a PNG cut after its pixels: Pillow reads it, and its orientation may follow."""
    cut_png = kind == "PNG" and b"IEND\xaeB`\x82" not in data
    if cut_png or (kind == "WEBP" and 8 + int.from_bytes(data[4:8], "little") > len(data)):
        raise UnreadableImage(f"{name}: the file ends before its image does", "truncated")


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image without pixels or with too many; `size` is (width, height)."""
    if min(size) < 1:
        raise UnreadableImage(f"{size[0]} x {size[1]} pixels", "empty")
    if size[0] * size[1] > max_pixels:
        raise UnreadableImage(f"{size[0]} x {size[1]} pixels, above the limit of {max_pixels}", "too_large")


def check_icon_sizes(data: bytes, max_pixels: int) -> None:
    """Check the sizes inside an ICO: its directory says 256 at most, and Pillow decodes on opening."""
    for entry in range(6, 6 + 16 * int.from_bytes(data[4:6], "little"), 16):
        start = int.from_bytes(data[entry + 12 : entry + 16], "little")
        head = data[start : start + 24]
        png = head.startswith(b"\x89PNG")  # else a bitmap, whose height is negative if it lies top down
        sides = (head[16:20], head[20:24]) if png else (head[4:8], head[8:12])
        order: Literal["big", "little"] = "big" if png else "little"
        width, height = (int.from_bytes(side, order, signed=not png) for side in sides)
        check_size((max(1, width), max(1, abs(height))), min(max_pixels, 2**24))


def is_camera_raw(tags: Any) -> bool:
    """Whether TIFF tags are those of a DNG, NEF, ARW or their like.

    They have a DNGVersion, a first page that calls itself a reduced version, or sensor data.
    """
    return 50706 in tags or bool(int(tags.get(254) or 0) & 1) or tags.get(262) in (32803, 34892)


def refuse_raw_name(name: str) -> None:
    """Refuse a camera raw file by its name: its preview would decode, as TIFF or JPEG."""
    if Path(name).suffix.lower() in RAW_SUFFIXES:
        raise UnreadableImage(f"{name}: camera raw is not read", "unsupported")
