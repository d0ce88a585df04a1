"""The very bytes that would be uploaded, read back as a stranger would and searched for what is private.

What was built is not trusted: every file is opened again, and every image and string in it is looked at, the
file's own metadata included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.images import same
from u2s_datasets.images.metadata import metadata_in
from u2s_datasets.privacy.identifying_text import iter_strings
from u2s_datasets.publish.candidate import Candidate, pixels_of, stored_bytes
from u2s_datasets.publish.original_finder import Needles
from u2s_datasets.publish.text_check import contains, folded, holds_path, says_name

_MARKS = {
    b"Exif\0\0": "EXIF",
    b"http://ns.adobe.com/": "XMP",
    b"<x:xmpmeta": "XMP",
    b"GPSLatitude": "GPS",
    b"Photoshop 3.0\0": "IPTC",
}
_FILE_METADATA = {b"huggingface", b"ARROW:schema", b"content_defined_chunking"}
_NEUTRAL = re.compile(r"(?:data|\w[\w.-]*)/\w+(?:\.\w+)*-\d{5}-of-\d{5}\.parquet")
_NUMBER = re.compile(r"-?\d{7,}")
_FILE_NAME = re.compile(
    r"[^\s/\\]+\.(?:jpe?g|png|gif|webp|tiff?|bmp|hei[cf]|avif|dng|nef|cr[23w]|arw)\b", re.IGNORECASE
)


_FEW = 3  # words of a caption that tells something


@dataclass
class _Own:
    """What one row must not say."""

    names: Sequence[str]
    caption: str


@dataclass
class Index:
    """What must not be found, gathered row by row.

    Attributes:
        files: the originals' bytes.
        pixels: digests of the pixels of flagged and withheld originals.
        seeds, captions: of all rows.
        rows: row id -> what this row must not say; variants share ids.
        words: what may stand nowhere, such as the source's folder.
        texts: False where the user allowed texts that the leak rules stop.
    """

    files: Needles = field(default_factory=Needles)
    pixels: set[str] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)
    captions: set[tuple[str, ...]] = field(default_factory=set)
    rows: dict[str, list[_Own]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    texts: bool = True

    def add(self, row: Candidate) -> None:
        """Take in one row of the source, whether it leaves or not."""
        for original in row.originals:
            data = stored_bytes(original)
            if data:
                self.files.add(data)
            was = pixels_of(data) if row.flagged or row.status == c.WITHHELD else None
            if was is not None:
                self.pixels.add(same.digest(was))
        if row.seed is not None and abs(row.seed) >= 10**6:
            self.seeds.add(row.seed)
        caption = row.caption if self.texts and row.caption != row.public.get(c.PUBLIC_CAPTION) else ""
        if len(caption.split()) >= _FEW:
            self.captions.add(tuple(folded(caption)))
        own = _Own(row.names if self.texts else (), caption)
        self.rows.setdefault(str(row.public.get(c.ROW_ID, "")), []).append(own)


def scan(files: Iterable[tuple[str, Path]], index: Index, names: Sequence[str]) -> Iterator[str]:
    """What is wrong with built files, in words that repeat nothing private.

    Args:
        files: (name in the repository, file) of each.
        index: what must not be found.
        names: the columns that may be there.
    """
    for path, file in files:
        if not _NEUTRAL.fullmatch(path):
            yield f"{path!r} is no neutral name"
        data = file.read_bytes()
        yield from (f"{path}: {words}" for words in _in_bytes(data, index))
        yield from (f"{path}: {words}" for words in _in_table(file, index, names))


def scan_text(name: str, text: str, index: Index) -> Iterator[str]:
    """What is wrong with a text that leaves beside the data, such as the card."""
    yield from (f"{name}: {words}" for words in _in_bytes(text.encode(), index))
    yield from (f"{name}: {words}" for words in _in_text(text, index))


def _in_bytes(data: bytes, index: Index) -> Iterator[str]:
    for _ in index.files.found_in(data):
        yield "holds an original file"
        break
    yield from sorted({f"holds {kind}" for mark, kind in _MARKS.items() if mark in data})
    if any(word.encode() in data for word in index.words):
        yield "holds a path of this machine"


def _in_table(file: Path, index: Index, names: Sequence[str]) -> Iterator[str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        extra = set(table.schema_arrow.names) - set(names)
        if extra:
            yield f"has unknown columns: {', '.join(sorted(extra))}"
        metadata: Mapping[bytes, bytes] = table.metadata.metadata or {}
        if strange := set(metadata) - _FILE_METADATA:
            yield f"has metadata under {sorted(strange)}"
        for value in metadata.values():
            yield from _in_text(value.decode("latin-1"), index)
        seen: set[str] = set()
        for group in range(table.num_row_groups):
            for row in table.read_row_group(group).to_pylist():
                for words in _in_row(row, index):
                    if words not in seen:  # a reason once per file is enough to stop it
                        seen.add(words)
                        yield words


def _in_row(row: Mapping[str, Any], index: Index) -> Iterator[str]:
    yield from _in_image(row.get(c.ANONYMIZED_IMAGE) or {}, index)
    known = index.rows.get(str(row.get(c.ROW_ID)), [])
    if not known:
        yield "holds a row that the gate did not see"
    rest = {name: value for name, value in row.items() if name != c.ANONYMIZED_IMAGE}
    for text in iter_strings(rest):
        yield from _in_text(text, index)
        if any(contains(text, own.caption) or any(says_name(text, n) for n in own.names) for own in known):
            yield "says a row's own file name or private caption"
        if holds_path(text):
            yield "holds a path"
    if row.get(c.STATUS) not in (c.SAFE, c.ANONYMIZED):
        yield "holds a row that is neither safe nor anonymized"


def _in_image(stored: Mapping[str, Any], index: Index) -> Iterator[str]:
    data = stored.get("bytes")
    if stored.get("path"):
        yield "holds an image with a path"
    picture = pixels_of(data)
    if data is None or picture is None:
        yield "holds an image that does not decode"
        return
    if left := metadata_in(data):
        yield f"holds an image with {', '.join(left)}"
    if same.digest(picture) in index.pixels:
        yield "holds the pixels of a flagged original"


def _in_text(text: str, index: Index) -> Iterator[str]:
    if any(int(number) in index.seeds for number in _NUMBER.findall(text) if len(number) < 21):
        yield "holds a row's seed"
    if tuple(folded(text)) in index.captions:
        yield "holds a private caption"
    if _FILE_NAME.search(text):
        yield "holds the name of an image file"
    if any(word in text for word in index.words):
        yield "holds a path of this machine"


def folder_files(folder: Path) -> list[tuple[str, Path]]:
    """(name in the repository, file) of everything below a folder, in the order of names."""
    return sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
