"""An output on an object store that is a folder here: what is put there in which order, and what is removed."""

import json
import shutil
from pathlib import Path

import fsspec
import pytest
from pyarrow import fs

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import QUICK, files_of, public_rows

ADDRESS = "s3://bucket/safe"
SHARDS = {**QUICK, "shard_size": 2}


class Recorder(fs.FSSpecHandler):
    """Keeps the names of the files that are written, in order."""

    def __init__(self) -> None:
        super().__init__(fsspec.filesystem("file"))
        self.written: list[str] = []

    def open_output_stream(self, path, metadata):
        self.written.append(path)
        return super().open_output_stream(path, metadata)


@pytest.fixture
def store(tmp_path, monkeypatch) -> Recorder:
    """A store whose bucket is the folder `safe`."""
    handler = Recorder()
    filesystem = fs.PyFileSystem(handler)
    opened = lambda address: (filesystem, str(tmp_path / "safe"))  # noqa: E731
    monkeypatch.setattr("u2s_datasets.runs.object_store.open_store", opened)
    return handler


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six small pictures, two with a red square."""
    (tmp_path / "photos").mkdir()
    for i in range(6):
        picture(red=i in (1, 4), seed=i).save(tmp_path / f"photos/{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def safe(store, photos, tmp_path) -> Path:
    """The folder behind the store, after a run of three shards."""
    u2s.run(photos, ADDRESS, **SHARDS)
    return tmp_path / "safe"


def test_a_private_half_is_put_before_its_public_one_and_the_manifest_after_both(store, safe):
    names = [str(Path(path).relative_to(safe)) for path in store.written]
    for shard in range(3):
        name = f"part-{shard:05d}.parquet"
        private, public = names.index(f"private/rows/{name}"), names.index(f"data/{name}")
        assert private < public
        assert names[public + 1] == "private/manifest.json"  # before anything of the next shard
    assert names.index("run.json") > max(i for i, name in enumerate(names) if "part-" in name or "manifest" in name)


def test_files_of_no_shard_are_removed_and_no_others(safe, photos):
    before = files_of(safe)
    for half in ("data", "private/rows"):
        shutil.copy(safe / half / "part-00001.parquet", safe / half / "part-00077.parquet")
    assert u2s.run(photos, ADDRESS, **SHARDS)["rates"]["rows"] == 0
    assert files_of(safe) == before


def test_rows_withheld_after_a_kill_do_not_stay_in_the_store(store, photos, tmp_path, monkeypatch):
    options = {**SHARDS, "detectors": ["tests.helpers.fakes:Moody"]}
    u2s.run(photos, ADDRESS, **options)
    manifest = tmp_path / "safe/private/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "shards": []}))  # killed before it was put
    monkeypatch.setenv("U2S_TEST_MOOD", "bad")
    assert u2s.run(photos, ADDRESS, **options)["withheld"] == 6
    assert public_rows(tmp_path / "safe") == []


@pytest.mark.parametrize("half", ["data", "private/rows"])
@pytest.mark.parametrize("damage", ["removed", "exchanged"])
def test_a_shard_that_the_store_lost_or_changed_is_made_anew(safe, photos, half, damage):
    before = files_of(safe)
    path = safe / half / "part-00001.parquet"
    path.unlink()
    if damage == "exchanged":
        shutil.copy(safe / half / "part-00002.parquet", path)
    assert u2s.run(photos, ADDRESS, **SHARDS)["rates"]["rows"] == 2
    assert files_of(safe) == before


@pytest.mark.parametrize("name", ["thesis.tex", "data/thesis.parquet", "private/diary.txt", "data/part-00000.parquet"])
def test_a_store_that_holds_something_else_is_left_alone(store, photos, tmp_path, name):
    theirs = tmp_path / "safe" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(u2s.SetupError, match=name):
        u2s.run(photos, ADDRESS, **SHARDS)
    assert [path for path in (tmp_path / "safe").rglob("*") if path.is_file()] == [theirs]
    assert store.written == []
