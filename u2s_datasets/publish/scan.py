"""The very bytes that would be uploaded, read back as a stranger would and searched for what is private.

What was built is not trusted: every file is opened again, and every image and string in it is looked at, the
file's own metadata included.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.images import content
from u2s_datasets.privacy.identifying_text import iter_strings
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.publish.candidate import ROW_ID, Candidate, StoredImage
from u2s_datasets.publish.original_finder import OriginalFinder
from u2s_datasets.publish.text_check import ABSOLUTE_PATH, FEW_WORDS, TELLING_SEED, contains, folded, says_name

_METADATA_MARKS = {
    b"Exif\0\0": "EXIF",
    b"http://ns.adobe.com/": "XMP",
    b"<x:xmpmeta": "XMP",
    b"GPSLatitude": "GPS",
    b"Photoshop 3.0\0": "IPTC",
}
_FILE_METADATA = {b"huggingface", b"ARROW:schema", b"content_defined_chunking"}
_NEUTRAL_NAME = re.compile(r"(?:data|\w[\w.-]*)/\w+(?:\.\w+)*-\d{5}-of-\d{5}\.parquet")
_NUMBER = re.compile(r"-?\d{7,}")
_FILE_NAME = re.compile(  # one character before the dot will do: a whole name would be tried from each of its letters
    r"[^\s/\\]\.(?:jpe?g|png|gif|webp|tiff?|bmp|hei[cf]|avif|dng|nef|cr[23w]|arw)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class _RowSecrets:
    """What one row must not say: its file's names and its private caption."""

    names: Sequence[str]
    caption: str


@dataclass
class PrivateIndex:
    """What must not be found, gathered row by row.

    Attributes:
        texts: False if the user allowed texts that the leak rules stop.
        files: the originals' bytes.
        pixels: digests of the pixels of flagged and withheld originals.
        seeds, captions: of all rows.
        rows: row id -> what these rows must not say; variants share ids.
        words: what may stand nowhere, such as the source's folder.
    """

    texts: bool = True
    files: OriginalFinder = field(default_factory=OriginalFinder)
    pixels: set[str] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)
    captions: set[tuple[str, ...]] = field(default_factory=set)
    rows: dict[str, list[_RowSecrets]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def add(self, row: Candidate) -> None:
        """Take in one row of the source, whether it leaves or not."""
        for original in row.originals:
            if original.data:
                self.files.add(original.data)
            if (row.flagged or row.status == c.WITHHELD) and original.pixels is not None:
                self.pixels.add(content.digest(original.pixels))
        if row.seed is not None and abs(row.seed) >= TELLING_SEED:
            self.seeds.add(row.seed)
        caption = row.caption if self.texts and row.caption != row.public.get(c.PUBLIC_CAPTION) else ""
        if len(caption.split()) >= FEW_WORDS:
            self.captions.add(tuple(folded(caption)))
        self.rows.setdefault(row.row_id, []).append(_RowSecrets(row.names if self.texts else (), caption))


@dataclass(frozen=True)
class FileDigest:
    """What a file held when it was searched.

    Args:
        size: in bytes.
        sha256, git: the names of this content on the Hub: of a large file, and of any other.
    """

    size: int
    sha256: str
    git: str

    @classmethod
    def of(cls, data: bytes) -> "FileDigest":
        """That of these bytes."""
        git = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False)
        return cls(len(data), hashlib.sha256(data).hexdigest(), git.hexdigest())


def scan(
    files: Iterable[tuple[str, Path]],
    index: PrivateIndex,
    names: Sequence[str],
    scanned: dict[str, FileDigest] | None = None,
) -> Iterator[str]:
    """What is wrong with built files, in words that repeat nothing private.

    Args:
        files: (name in the repository, file) of each; each is read once.
        index: what must not be found.
        names: the columns that may be there.
        scanned: gets the digest of the very bytes that were searched, by name.
    """
    for path, file in files:
        data = file.read_bytes()
        if scanned is not None:
            scanned[path] = FileDigest.of(data)
        if not _NEUTRAL_NAME.fullmatch(path):
            yield f"{path!r} is not a neutral name"
        yield from (f"{path}: {finding}" for finding in _in_bytes(data, index))
        yield from (f"{path}: {finding}" for finding in _in_table(data, index, names))


def scan_published(data: bytes, index: PrivateIndex) -> Iterator[str]:
    """What is wrong with a file of an earlier push, whose rows and originals are not at hand.

    It has to look as a push of ours makes it: one column of images, pixels alone in them, keyed ids. What this push
    knows to be private is looked for as well.

    Args:
        data: its bytes.
        index: what must not be found.
    """
    yield from _in_bytes(data, index)
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as table:
            features = Features.from_arrow_schema(table.schema_arrow)
            if missing := {c.ROW_ID, c.ANONYMIZED_IMAGE, c.STATUS} - set(features):
                yield f"lacks the columns {', '.join(sorted(missing))}"
                return
            others = {name: feature for name, feature in features.items() if name not in (*c.PUBLIC, *c.SCORE)}
            check_kept(others, lambda _: (), list(others))
            yield from dict.fromkeys(finding for row in _rows(table) for finding in _in_published_row(row, index))
    except (SetupError, pa.ArrowException, ValueError, TypeError, OSError) as error:
        yield f"is no file of ours ({type(error).__name__})"


def scan_text(name: str, text: str, index: PrivateIndex) -> Iterator[str]:
    """What is wrong with a text that leaves beside the data, such as the card."""
    yield from (f"{name}: {finding}" for finding in (*_in_bytes(text.encode(), index), *_in_text(text, index)))


def _in_bytes(data: bytes, index: PrivateIndex) -> Iterator[str]:
    if next(index.files.found_in(data), None) is not None:
        yield "holds an original file"
    yield from sorted({f"holds {kind}" for mark, kind in _METADATA_MARKS.items() if mark in data})
    if any(word.encode() in data for word in index.words):
        yield "holds a path of this machine"


def _in_table(data: bytes, index: PrivateIndex, names: Sequence[str]) -> Iterator[str]:
    with pq.ParquetFile(pa.BufferReader(data)) as table:
        if extra := set(table.schema_arrow.names) - set(names):
            yield f"has unknown columns: {', '.join(sorted(extra))}"
        metadata: Mapping[bytes, bytes] = table.metadata.metadata or {}
        if unknown := set(metadata) - _FILE_METADATA:
            yield f"has metadata under {sorted(unknown)}"
        for value in metadata.values():
            yield from _in_text(value.decode("latin-1"), index)
        yield from dict.fromkeys(finding for row in _rows(table) for finding in _in_row(row, index))


def _rows(table: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    return (row for group in range(table.num_row_groups) for row in table.read_row_group(group).to_pylist())


def _in_row(row: Mapping[str, Any], index: PrivateIndex) -> Iterator[str]:
    yield from _in_published_row(row, index)
    known = index.rows.get(str(row.get(c.ROW_ID)), [])
    if not known:
        yield "holds a row that the gate did not see"
    for text in _texts(row):
        if any(contains(text, own.caption) or any(says_name(text, n) for n in own.names) for own in known):
            yield "says a row's own file name or private caption"


def _in_published_row(row: Mapping[str, Any], index: PrivateIndex) -> Iterator[str]:
    image = StoredImage(row.get(c.ANONYMIZED_IMAGE))
    yield from (fault for _, fault in image.faults())
    if image.pixels is not None and content.digest(image.pixels) in index.pixels:
        yield "holds the pixels of a flagged original"
    for text in _texts(row):
        yield from _in_text(text, index)
        if ABSOLUTE_PATH.search(text):
            yield "holds a path"
    if row.get(c.STATUS) not in (c.SAFE, c.ANONYMIZED):
        yield "holds a row that is neither safe nor anonymized"
    if not ROW_ID.fullmatch(str(row.get(c.ROW_ID))):
        yield "holds a row whose id is no keyed digest"


def _texts(row: Mapping[str, Any]) -> Iterator[str]:
    return iter_strings({name: value for name, value in row.items() if name != c.ANONYMIZED_IMAGE})


def _in_text(text: str, index: PrivateIndex) -> Iterator[str]:
    # Longer numbers are no seeds, and int() refuses those of more than 4,300 digits.
    if any(int(number) in index.seeds for number in _NUMBER.findall(text) if len(number) < 21):
        yield "holds a row's seed"
    if tuple(folded(text)) in index.captions:
        yield "holds a private caption"
    if _FILE_NAME.search(text):
        yield "holds the name of an image file"
    if any(word in text for word in index.words):
        yield "holds a path of this machine"
