"""Parquet in short stretches: how often it is read, and what of it stays."""

import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets import images
from u2s_datasets.sources.open import open_source
from u2s_datasets.sources.parquet import ParquetSource


class Counted(LocalFileSystem):
    """This machine's disk, which says how many bytes were read."""

    cachable = False
    read = 0

    def _open(self, path, mode="rb", **kwargs):
        file = super()._open(path, mode, **kwargs)
        disk, count = file.f, self

        class Watched:
            def __getattr__(self, name):
                return getattr(disk, name)

            def read(self, size=-1):
                data = disk.read(size)
                count.read += len(data)
                return data

        file.f = Watched()
        return file


def source_of(path, disk: Counted, **columns) -> ParquetSource:
    images = [{"bytes": os.urandom(5000), "path": None} for _ in range(80)]
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=40)
    return ParquetSource([path], "rows", None, [], fs.PyFileSystem(fs.FSSpecHandler(disk)))


def test_stretches_that_follow_each_other_read_a_row_group_once(tmp_path):
    disk = Counted()
    source = source_of(tmp_path / "a.parquet", disk, unread=[os.urandom(5000) for _ in range(80)])
    disk.read = 0
    short = [item for start in range(0, 80, 4) for item in source.read(start, start + 4)]
    assert 80 * 5000 < disk.read < 1.1 * 80 * 5000
    assert short == list(source.read(0, 80))


def test_what_is_kept_is_one_row_group_and_stays_in_its_process(tmp_path):
    source = source_of(tmp_path / "a.parquet", Counted())
    bare = len(pickle.dumps(source))
    for start in range(0, 80, 4):
        list(source.read(start, start + 4))
    assert sum(len(batch) for batch in source._last[1]) == 40
    assert len(pickle.dumps(source)) == bare


def test_row_groups_without_rows_hide_no_others(tmp_path):
    table = pa.table({"image": [{"bytes": bytes([i]), "path": "x"} for i in range(6)]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for part in (table[:3], table[:0], table[3:]):
            writer.write_table(part)
    source = ParquetSource([tmp_path / "a.parquet"], "rows")
    assert [item.image["bytes"][0] for start in range(6) for item in source.read(start, start + 1)] == [*range(6)]
    assert [item.image["bytes"][0] for item in source.read(0, 6)] == [*range(6)]


def test_the_image_column_is_found_by_its_type_and_one_that_holds_none_is_refused(tmp_path):
    data = images.encode(picture(), "png")
    table = pa.table({"image": ["a.png"], "photo": [{"bytes": data, "path": None}], "raw": [data], "label": [3]})
    pq.write_table(table, tmp_path / "all.parquet")
    with pytest.raises(u2s.SetupError, match=r"'label' .* cannot hold images or their paths; those that can are"):
        open_source(str(tmp_path / "all.parquet"), image_column="label")
    with pytest.raises(u2s.SetupError, match="has several image columns"):
        open_source(str(tmp_path / "all.parquet"))
    pq.write_table(table.drop_columns(["raw"]), tmp_path / "one.parquet")
    assert open_source(str(tmp_path / "one.parquet")).image_column == "photo"
    pq.write_table(table.select(["image"]), tmp_path / "paths.parquet")
    with pytest.raises(u2s.SetupError, match="holds texts, and none names an image file"):
        open_source(str(tmp_path / "paths.parquet"))
    (tmp_path / "a.png").write_bytes(data)
    assert open_source(str(tmp_path / "paths.parquet")).image_column == "image"
