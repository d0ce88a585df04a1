"""Tar shards, and parquet and outputs on an object store: a real server that speaks S3, on this machine."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

import u2s_datasets as u2s
from tests.helpers.fake_hub import TOKEN, Hub, Repo
from tests.helpers.fakes import picture
from tests.helpers.run_files import files_of, private_rows
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.runs.writer import check_apart
from u2s_datasets.sources.addresses import store_errors, strip_credentials
from u2s_datasets.sources.open import open_source

RED = {"detectors": ["tests.helpers.fakes:RedSquares"], "num_proc": 1, "shard_size": 8}


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


def table_bytes(rows: list[dict], row_group_size: int = 7) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": rows}), file, row_group_size=row_group_size)
    return file.getvalue()


def put(address: str, data: bytes) -> None:
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(address)
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


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
    with pytest.raises(u2s.SetupError, match=r"is not empty \(found 'thesis.txt'\)"):
        u2s.run(tmp_path / "rows.parquet", store("out"), **options)
    assert json.loads((tmp_path / "second/run.json").read_text())["rows"] == 20


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """An empty folder for what is temporary."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "tmp"


@pytest.fixture
def hub(monkeypatch):
    """A Hub on loopback for the client of this process, with rows of two splits in "org/rows"."""
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        server.repos["org/rows"] = Repo(private=True)
        files = {"train-0.parquet": 20, "test-0.parquet": 5}
        tables = {f"data/{name}": ("lfs", table_bytes(stored(rows))) for name, rows in files.items()}
        server.repos["org/rows"].commit("main", {"README.md": ("regular", b"rows"), **tables}, "rows")
        yield server


def test_parquet_on_the_hub_is_read_as_from_the_disk(hub, key, tmp_path):
    (tmp_path / "train.parquet").write_bytes(hub.files("org/rows")["data/train-0.parquet"])
    u2s.run(tmp_path / "train.parquet", tmp_path / "disk", secret=key, **RED)
    facts = u2s.run("hf://datasets/org/rows", tmp_path / "hub", secret=key, split="train", **RED)
    assert private_rows(tmp_path / "hub") == private_rows(tmp_path / "disk")
    assert (facts["rows"], facts["anonymized"]) == (20, 7)
    with pytest.raises(u2s.SetupError, match=r"org/none' cannot be opened.*hf auth login"):
        u2s.run("hf://datasets/org/none", tmp_path / "no", **RED)


def test_the_hub_is_read_at_one_commit(hub, key, tmp_path):
    repo, options = hub.repos["org/rows"], {"secret": key, "split": "train", **RED}
    commit = repo.branches["main"]
    source = open_source("hf://datasets/org/rows", split="train")
    assert source.location == f"hf://datasets/org/rows@{commit}"
    u2s.run("hf://datasets/org/rows", tmp_path / "out", **options)
    before = list(source.read(0, 20))
    repo.commit("main", {**repo.commits[commit], "data/train-0.parquet": ("lfs", table_bytes(stored(9)))}, "fewer")
    assert list(open_source(source.location, split="train").read(0, 20)) == before
    elsewhere = pickle.dumps(source)  # as Ray sends it
    assert TOKEN.encode() not in elsewhere and list(pickle.loads(elsewhere).read(0, 20)) == before
    assert open_source("hf://datasets/org/rows", split="train").fingerprint() != source.fingerprint()
    with pytest.raises(u2s.SetupError, match="another source and source_content"):
        u2s.run("hf://datasets/org/rows", tmp_path / "out", **options)
    assert u2s.run(source.location, tmp_path / "out", **options)["rows"] == 20


def test_an_output_is_never_written_to_the_hub(hub, tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(u2s.SetupError, match="`u2s push DIR ORG/NAME`"):
        u2s.run(tmp_path, "hf://datasets/org/rows", **RED)
    with pytest.raises(u2s.SetupError) as said:
        u2s.run(tmp_path, "ftp://host/out", **RED)
    assert "hf://" not in str(said.value)
    assert hub.requests == []


def test_an_address_of_this_machine_is_a_folder(tmp_path):
    (tmp_path / "in").mkdir()
    picture(red=True).save(tmp_path / "in/a.png")
    u2s.run((tmp_path / "in").as_uri(), (tmp_path / "out").as_uri(), **RED)
    assert (tmp_path / "out/private").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out/private/rows/part-00000.parquet").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out/private/lock").exists()
    u2s.run(tmp_path / "in", tmp_path / "out", **RED)  # the same source under its other name
    with pytest.raises(u2s.SetupError, match="lies inside the source"):
        u2s.run((tmp_path / "in").as_uri(), (tmp_path / "in/safe").as_uri(), **RED)


def test_a_broken_manifest_on_a_store_is_named_by_its_address(store, temporary, tmp_path):
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in/a.png")
    put(store("broken/private/manifest.json"), b'{"shards": [')
    with pytest.raises(u2s.SetupError, match=r"s3://photos/broken\?.* is not empty .*manifest\.json"):
        u2s.run(tmp_path / "in", store("broken"), **RED)
    assert list(temporary.iterdir()) == []


def test_nothing_temporary_is_left_of_an_output_on_a_store(store, temporary, key, tmp_path):
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in/a.png")
    u2s.run(tmp_path / "in", store("left"), dry_run=True, **RED)
    with pytest.raises(u2s.SetupError):
        u2s.run(tmp_path / "nowhere", store("left"), **RED)
    u2s.run(tmp_path / "in", store("left"), secret=key, **RED)
    with pytest.raises(u2s.SetupError, match=r"s3://photos/left\?.*was made with another configuration"):
        u2s.run(tmp_path / "in", store("left"), secret=key, seed=3, **RED)
    assert list(temporary.iterdir()) == []


def test_a_terminated_run_into_a_store_leaves_nothing_temporary(store, temporary, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(40):
        picture(seed=i).save(tmp_path / f"in/{i}.png")
    options = "detectors=['tests.helpers.fakes:Slow'], num_proc=1, shard_size=2"
    call = f"u2s.run({str(tmp_path / 'in')!r}, {store('ended')!r}, {options})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import u2s_datasets as u2s; {call}"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(temporary.glob("u2s-*/private/rows/*")):
        time.sleep(0.05)
    assert [f.stat().st_mode & 0o777 for f in temporary.glob("u2s-*")] == [0o700]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert list(temporary.glob("u2s-*")) == []


def test_keys_of_an_address_are_kept_nowhere_and_may_change(store, key, tmp_path, capfd):
    put(store("keys/rows.parquet"), table_bytes(stored(9)))
    options = ["--detectors", "tests.helpers.fakes:RedSquares", "--num-proc", "1", "--secret", str(key)]

    def call(src: str, out: str) -> int:
        return main(["anonymize", src, "--out", out, *options])

    assert call(store("keys"), str(tmp_path / "out")) == 0
    rotated = store("keys").replace("anyone:anything@", "somebody:something@")
    assert call(rotated, str(tmp_path / "out")) == 0  # moto takes any key
    assert call(store("keys"), store("keys_out")) == 0
    from pyarrow import fs

    filesystem, base = fs.FileSystem.from_uri(store("keys_out"))
    fs.copy_files(base, str(tmp_path / "fetched"), source_filesystem=filesystem)
    kept = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    said = "".join(capfd.readouterr())
    for secret in ("anything", "something"):
        assert secret not in said and secret.encode() not in kept
    assert "s3://photos/keys_out/private/report.html" in said


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://KEY:SECRET@bucket/a b/", "s3://bucket/a b"),
        ("s3://bucket/x?secret_key=SECRET&scheme=http&region=eu", "s3://bucket/x?region=eu&scheme=http"),
        ("s3://KEY:a/SECRET@bucket/x", "s3://…"),
        ("gs://anonymous@bucket/x@y", "gs://bucket/x@y"),
        (
            "abfss://photos:SECRET@account.dfs.core.windows.net/x?sig=SECRET",
            "abfss://photos@account.dfs.core.windows.net/x",
        ),
        ("hf://datasets/org/rows@main/data", "hf://datasets/org/rows@main/data"),
        ("photos/of?all=1", "photos/of?all=1"),
    ],
)
def test_an_address_is_told_without_its_keys(address, told):
    assert strip_credentials(address) == told


def test_what_a_store_says_of_a_key_is_not_repeated(tmp_path):
    for address in ("ftp://KEY:SECRET@host/x", "s3://KEY:a/SECRET@bucket/x", "s3://[KEY:SECRET", "s3://b/x?key=SECRET"):
        with pytest.raises(u2s.SetupError) as said:
            u2s.run(address, tmp_path / "no", **RED)
        assert "SECRET" not in str(said.value)
    for text in ("401 for /x?sig=a%2FSECRET", "the key a/SECRET is too old"):
        with pytest.raises(u2s.SetupError) as said, store_errors("abfs://photos@host/x?sig=a%2FSECRET", "read"):
            raise OSError(text)
        assert "SECRET" not in str(said.value) and said.value.__cause__ is None


def test_a_split_on_a_store_is_chosen_by_its_files_names(store, tmp_path):
    for name, rows in (("train-0.parquet", 3), ("test-0.parquet", 5)):
        put(store(f"splits/{name}"), table_bytes(stored(rows)))
    assert len(open_source(store("splits"), split="test")) == 5
    with pytest.raises(u2s.SetupError, match=r"no parquet file of split 'tes'.*begin with test, train"):
        open_source(store("splits"), split="tes")
    write_tar(tmp_path / "a.tar", {"a.png": stored(1)[0]["bytes"]})
    with pytest.raises(u2s.SetupError, match="tar shards have no splits"):
        open_source(str(tmp_path), split="test")


@pytest.mark.parametrize(
    ("src", "out", "inside"),
    [
        ("s3://b/x", "s3://b/x", "output"),
        ("s3://b/x", "s3://K:S@b/y/../x//safe/?region=eu", "output"),
        ("s3://b/x/rows", "s3://b/x?scheme=http", "source"),
        ("gcs://b", "gs://b/safe", "output"),
    ],
)
def test_source_and_output_lie_apart_on_a_store_too(src, out, inside):
    with pytest.raises(u2s.SetupError, match=f"the {inside} .* lies inside"):
        check_apart(src, out)
    for apart in ("s3://b/xy", "s3://other/x", "gs://other/safe", "x"):
        check_apart(src, apart)


def test_tars_among_images_are_refused_and_among_other_files_read(tmp_path):
    write_tar(tmp_path / "a.tar", {"a.png": stored(1)[0]["bytes"]})
    for name in ("README.md", "index.json", ".DS_Store"):
        (tmp_path / name).write_text("x")
    source = open_source(str(tmp_path))
    assert (source.kind, len(source)) == ("tar", 1)
    assert source.skipped == {".json file": 1, ".md file": 1, "hidden file": 1}
    picture().save(tmp_path / "stray.jpg")
    with pytest.raises(u2s.SetupError, match=r"mixes tar shards with images or parquet \('stray\.jpg'\)"):
        open_source(str(tmp_path))
