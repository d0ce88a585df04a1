"""Tar shards, and parquet and outputs on an object store: a real server that speaks S3, on this machine."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts import picture
from test_runner import files_of, private_rows

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.sources import open_source

RED = {"detectors": ["parts:RedSquares"], "num_proc": 1, "shard_size": 8}


@pytest.fixture(scope="module")
def store():
    """The address of an empty bucket, as a function of the folder in it."""
    reason = "moto is not installed: `make test-ray` installs it and runs these tests"
    server = pytest.importorskip("moto.server", reason=reason).ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    from pyarrow import fs

    options = {"access_key": "anyone", "secret_key": "anything", "endpoint_override": f"{host}:{port}"}
    fs.S3FileSystem(**options, scheme="http", region="us-east-1", allow_bucket_creation=True).create_dir("photos")
    query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    yield lambda folder: f"s3://anyone:anything@photos/{folder}?{query}"
    server.stop()


@pytest.fixture
def key(tmp_path) -> Path:
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    return tmp_path / "key"


def stored(number: int) -> list[dict]:
    return [{"bytes": images.encode(picture(red=i % 3 == 0, seed=i), "png"), "path": None} for i in range(number)]


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_shards(tmp_path):
    (tmp_path / "in").mkdir()
    pictures = stored(20)
    for shard in range(2):
        members = {}
        for i in range(shard * 10, shard * 10 + 10):
            members |= {f"a/{i:04d}.png": pictures[i]["bytes"], f"a/{i:04d}.json": b"{}"}
        write_tar(tmp_path / f"in/{shard:05d}.tar", {**members, f"../broken{shard}.jpg": b"no image"})
    facts = u2s.run(tmp_path / "in", tmp_path / "out", **RED)
    assert (facts["rows"], facts["anonymized"], facts["withheld"]) == (22, 7, 2)
    assert facts["skipped"] == {".json file": 20}
    rows = private_rows(tmp_path / "out")
    assert [rows[0][c.SOURCE], rows[11][c.SOURCE], rows[-1][c.SOURCE]] == [
        "00000.tar/a/0000.png",
        "00001.tar/a/0010.png",
        "00001.tar/../broken1.jpg",
    ]
    assert (tmp_path / "out/private/report.html").read_text().count("data:image") >= 7
    with pytest.raises(u2s.SetupError, match=r"keep=\['cls'\]"):
        u2s.run(tmp_path / "in/00000.tar", tmp_path / "no", keep=["cls"], **RED)
    (tmp_path / "in/00002.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(u2s.SetupError, match=r"00002\.tar.*uncompressed tar"):
        u2s.run(tmp_path / "in", tmp_path / "no", **RED)


def test_a_stretch_reads_its_row_groups_alone(tmp_path):
    for part in range(2):
        pq.write_table(pa.table({"image": stored(20)}), tmp_path / f"{part}.parquet", row_group_size=7)
    source = open_source(str(tmp_path))
    everything = [item.source for item in source.read(0, 40)]
    assert everything == [str(i) for i in range(40)]
    for start, stop in ((0, 1), (6, 8), (13, 27), (19, 21), (39, 40)):
        assert [item.source for item in source.read(start, stop)] == everything[start:stop]
        assert [g for g, _ in source._groups(start, stop)] == sorted(
            {(i // 20) * 20 + (i % 20) // 7 * 7 for i in range(start, stop)}
        )


def test_parquet_on_an_object_store_is_read_as_from_the_disk(store, key, tmp_path):
    from pyarrow import fs

    table = pa.table({"image": [*stored(20), {"bytes": None, "path": "/etc/hostname"}]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=7)
    filesystem, path = fs.FileSystem.from_uri(store("in"))
    with filesystem.open_output_stream(f"{path}/rows.parquet") as stream:
        stream.write((tmp_path / "rows.parquet").read_bytes())
    u2s.run(tmp_path / "rows.parquet", tmp_path / "disk", secret=key, **RED)
    facts = u2s.run(store("in"), tmp_path / "store", secret=key, **RED)
    assert private_rows(tmp_path / "store") == private_rows(tmp_path / "disk")
    assert (facts["rows"], facts["withheld"]) == (21, 1)
    with pytest.raises(u2s.SetupError, match="cannot be read"):
        u2s.run(store("nothing"), tmp_path / "no", **RED)
    with pytest.raises(u2s.SetupError, match="cannot be opened"):
        u2s.run("ftp://host/folder", tmp_path / "no", **RED)


def test_an_output_on_an_object_store_is_that_of_the_disk_and_resumes(store, key, tmp_path):
    from pyarrow import fs

    pq.write_table(pa.table({"image": stored(20)}), tmp_path / "rows.parquet")
    options = {"secret": key, **RED}
    u2s.run(tmp_path / "rows.parquet", tmp_path / "disk", **options)
    u2s.run(tmp_path / "rows.parquet", store("out"), **options)
    filesystem, base = fs.FileSystem.from_uri(store("out"))

    def fetched(name: str) -> dict[str, str]:
        fs.copy_files(base, str(tmp_path / name), source_filesystem=filesystem)
        return files_of(tmp_path / name)

    assert fetched("first") == files_of(tmp_path / "disk")
    filesystem.delete_file(f"{base}/data/part-00001.parquet")
    with filesystem.open_output_stream(f"{base}/data/part-00007.parquet") as stream:
        stream.write(b"left by a kill")
    assert u2s.run(tmp_path / "rows.parquet", store("out"), **options)["rates"]["rows"] == 8
    assert fetched("second") == files_of(tmp_path / "disk")
    with pytest.raises(u2s.SetupError, match="another configuration"):
        u2s.run(tmp_path / "rows.parquet", store("out"), **options, seed=3)
    with filesystem.open_output_stream(f"{base}/thesis.txt") as stream:
        stream.write(b"mine")
    with pytest.raises(u2s.SetupError, match=r"holds something else \('thesis.txt'\)"):
        u2s.run(tmp_path / "rows.parquet", store("out"), **options)
    assert json.loads((tmp_path / "second/run.json").read_text())["rows"] == 20
