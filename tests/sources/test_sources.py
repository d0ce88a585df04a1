"""What is read from where, and what may travel along."""

import io
import os
import tarfile

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_dataset

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets import images
from u2s_datasets.sources.open import open_source

PIXELS = {"bytes": images.encode(picture(), "png"), "path": None}


def table(rows: int = 30, **columns) -> Dataset:
    features = {"image": Image(), **{name: feature for name, (feature, _) in columns.items()}}
    values = {"image": [PIXELS] * rows, **{name: list(values) for name, (_, values) in columns.items()}}
    return Dataset.from_dict(values, features=Features(features))


def saved(tmp_path, **columns) -> str:
    table(**columns).save_to_disk(tmp_path / "saved")
    return str(tmp_path / "saved")


def test_class_folders_and_metadata(tmp_path):
    for name in ("cats/a.png", "dogs/b.png"):
        (tmp_path / name).parent.mkdir()
        picture().save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,caption,boxes\ncats/a.png,a grey cat,3\n")
    source = open_source(str(tmp_path), keep=["label", "caption"], allow=["caption"])
    assert source.kept == Features({"label": ClassLabel(names=["cats", "dogs"]), "caption": Value("string")})
    assert [item.kept for item in source.read(0, 2)] == [
        {"label": 0, "caption": "a grey cat"},
        {"label": 1, "caption": None},
    ]
    with pytest.raises(u2s.SetupError, match="keep='mood'"):
        open_source(str(tmp_path), keep=["mood"])


def test_stretches_of_parquet_are_what_the_whole_is(tmp_path):
    numbers = (Value("int32"), [7] * 15 + [8] * 15)
    table(kind=numbers).to_parquet(tmp_path / "b.parquet", batch_size=4)
    table(kind=numbers).to_parquet(tmp_path / "a.parquet", batch_size=100)
    source = open_source(str(tmp_path), keep=["kind"])
    assert len(source) == 60
    whole = list(source.read(0, 60))
    assert [item.source for item in whole] == [str(i) for i in range(60)]
    assert [i for n in range(0, 60, 7) for i in source.read(n, min(n + 7, 60))] == whole
    assert source.original("59").size == (96, 64)
    assert source.original("60") is None


def test_splits_are_chosen_and_missing_ones_named(tmp_path):
    DatasetDict({"train": table(3), "test": table(2)}).save_to_disk(tmp_path / "both")
    assert len(open_source(str(tmp_path / "both"), split="test")) == 2
    with pytest.raises(u2s.SetupError, match=r"\['test', 'train'\].*--split"):
        open_source(str(tmp_path / "both"))


def test_the_image_column_is_found_or_asked_for(tmp_path):
    two = table(2).add_column("other", [PIXELS] * 2).cast_column("other", Image()).rename_column("image", "first")
    two.save_to_disk(tmp_path / "two")
    with pytest.raises(u2s.SetupError, match=r"several image columns.*--image-column"):
        open_source(str(tmp_path / "two"))
    assert open_source(str(tmp_path / "two"), image_column="other").image_column == "other"
    with pytest.raises(u2s.SetupError, match="no column 'third'"):
        open_source(str(tmp_path / "two"), image_column="third")


def test_a_suffix_that_could_be_a_name_is_not_published(tmp_path):
    picture().save(tmp_path / "a.png")
    for name in ("letter.to-dr-alice-smith", "b.PDF", "c.md"):
        (tmp_path / name).write_text("x")
    assert open_source(str(tmp_path)).skipped == {".md file": 1, ".pdf file": 1, "other file": 1}


def test_two_files_never_share_a_name_and_each_finds_its_original(tmp_path):
    for color, name in ((9, b"caf\xe9.png"), (99, b"caf\\xe9.png"), (200, b"plain.png")):
        picture(corner=(color, 0, 0)).save(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/" + name)
    source = open_source(str(tmp_path))
    names = [item.source for item in source.read(0, 9)]
    assert names == ["caf\\\\xe9.png", "caf\\xe9.png", "plain.png"]
    assert [source.original(name).getpixel((0, 0))[0] for name in names] == [99, 9, 200]


def test_an_original_is_shown_of_items_only(tmp_path):
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in/a.png")
    picture().save(tmp_path / "outside.png")
    assert open_source(str(tmp_path / "in")).original("../outside.png") is None


def test_a_folder_that_cannot_be_read_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    picture().save(tmp_path / "a.png")
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(u2s.SetupError, match=r"locked' cannot be read .*right to read it"):
        open_source(str(tmp_path))


def test_a_saved_dataset_holds_the_bytes_of_a_folder_of_images(tmp_path):
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos/a.png")
    data = load_dataset("imagefolder", data_dir=str(tmp_path / "photos"), split="train", cache_dir=str(tmp_path / "c"))
    data.save_to_disk(tmp_path / "saved")
    (item,) = open_source(str(tmp_path / "saved")).read(0, 1)
    assert item.image["bytes"] == (tmp_path / "photos/a.png").read_bytes()


def test_a_split_of_parquet_is_a_whole_word(tmp_path):
    for name, rows in (("test-00000.parquet", 1), ("test.parquet", 2), ("test_b.parquet", 4), ("testing-0.parquet", 8)):
        table(rows).to_parquet(tmp_path / name)
    assert len(open_source(str(tmp_path), split="test")) == 7


def test_a_sparse_member_of_a_tar_is_counted_and_not_read_as_what_lies_behind_it(tmp_path):
    data = images.encode(picture(), "png")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        hole = tarfile.TarInfo("hole.png")
        sparse = {"major": "0", "minor": "1", "name": "hole.png", "size": "90000", "map": f"0,{len(data)}"}
        hole.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
        for member in (hole, tarfile.TarInfo("whole.png")):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    source = open_source(str(tmp_path))
    assert [item.source for item in source.read(0, 9)] == ["a.tar/whole.png"]
    assert source.skipped == {"sparse file": 1}


def test_every_image_of_tar_shards_has_a_name_of_its_own_and_its_original(tmp_path):
    """Shards of one name in two folders, and a member that is there twice."""
    for number, shard in enumerate(("train", "val")):
        (tmp_path / shard).mkdir()
        with tarfile.open(tmp_path / shard / "00000.tar", "w") as tar:
            for copy in range(2):
                data = images.encode(picture(corner=(50 * number + copy, 0, 0)), "png")
                member = tarfile.TarInfo("a.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    source = open_source(str(tmp_path))
    names = [item.source for item in source.read(0, 9)]
    assert names == [f"{shard}/00000.tar/a.png{which}" for shard in ("train", "val") for which in ("", "#2")]
    assert [source.original(name).getpixel((0, 0))[0] for name in names] == [0, 1, 50, 51]
    alone = open_source(str(tmp_path / "val/00000.tar"))
    assert [item.source for item in alone.read(0, 9)] == ["00000.tar/a.png", "00000.tar/a.png#2"]


@pytest.mark.parametrize("src", ["here/missing", "a./b", "~/missing", "/no/such", "./fam", "../fam/alice"])
def test_the_hub_is_never_asked_for_a_local_path(tmp_path, monkeypatch, src):
    monkeypatch.setattr("datasets.load_dataset", lambda name: pytest.fail(f"asked the Hub for {name}"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(u2s.SetupError, match="no file or folder"):
        open_source(src)
