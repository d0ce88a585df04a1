"""The two halves of a shard: what is private, and what of it may leave. The allowlist is applied here alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from u2s_datasets import columns as c

WriteHalf = Callable[[str, Sequence[Mapping[str, Any]], Mapping[str, Any]], str]
"""Writes these rows with these typed columns as a half, a key of `layout.HALVES`; returns the file's SHA-256."""

_ROW_GROUP = 64  # rows; the Hub's viewer reads whole row groups
PUBLISHABLE = (c.SAFE, c.ANONYMIZED)


def public_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What may leave of a row: the public columns, and under "kept" those that the user keeps (law 3)."""
    return {**row.get("kept", {}), **{name: row.get(name) for name in c.PUBLIC}}


def write_halves(
    write: WriteHalf,
    private: Sequence[Mapping[str, Any]],
    public: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Any],
    rejected: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Write the halves of a shard, the private one first. Returns half -> SHA-256; an empty public half has no file.

    Args:
        write: writes one half.
        private: all rows of the shard, in the order of the source.
        public: `public_row` of those that may leave.
        kept: name -> feature of the kept columns.
        rejected: `public_row` of those that could, had no reviewer rejected them.
    """
    sha256 = {"private": write("private", private, c.features(c.PRIVATE))}
    features = c.features(c.PUBLIC)
    features.update({name: feature for name, feature in kept.items() if name not in features})
    for half, rows in (("rejected", rejected), ("public", public)):
        if rows:
            sha256[half] = write(half, sorted(rows, key=lambda row: row[c.ROW_ID]), features)
    return sha256


def write_parquet(file: IO[bytes], rows: Sequence[Mapping[str, Any]], features: Any) -> None:
    """Write these columns of rows, and no other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features.arrow_schema
    arrays = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, row_group_size=_ROW_GROUP)


def kept_features(path: Path) -> dict[str, Any]:
    """Name -> feature of the columns in a public half that the user kept; {} if there is no file."""
    from datasets import Features
    from pyarrow import parquet

    from u2s_datasets.runs.files import readable

    if not path.exists():
        return {}
    with readable(path):
        features = Features.from_arrow_schema(parquet.read_schema(path))
    return {name: feature for name, feature in features.items() if name not in c.PUBLIC}
