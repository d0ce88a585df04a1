"""What is read from where, and what may travel along."""

import io
import os
import shutil
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_dataset
from parts import picture

import u2s_datasets as u2s
from u2s_datasets import images
from u2s_datasets.sources.dataset import DatasetSource
from u2s_datasets.sources.open import open_source

PIXELS = {"bytes": images.encode(picture(), "png"), "path": None}


def table(rows: int = 30, **columns) -> Dataset:
    features = {"image": Image(), **{name: feature for name, (feature, _) in columns.items()}}
    values = {"image": [PIXELS] * rows, **{name: list(values) for name, (_, values) in columns.items()}}
    return Dataset.from_dict(values, features=Features(features))


def saved(tmp_path, **columns) -> str:
    table(**columns).save_to_disk(tmp_path / "saved")
    return str(tmp_path / "saved")


def test_a_folder_counts_every_file_as_a_row_or_by_kind(tmp_path):
    picture().save(tmp_path / "a.PNG")
    (tmp_path / "deep/er").mkdir(parents=True)
    picture().save(tmp_path / "deep/er/without_suffix", "JPEG")
    (tmp_path / "broken.jpg").write_bytes(b"")
    (tmp_path / "raw.NEF").write_bytes(b"II*\0")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.PNG")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = open_source(str(tmp_path))
    assert [item.source for item in source.read(0, 9)] == ["a.PNG", "broken.jpg", "deep/er/without_suffix", "raw.NEF"]
    assert source.skipped == {".txt file": 1, "hidden file": 1, "special file": 1, "symbolic link": 1}
    assert source.original("a.PNG").size == (96, 64)
    assert source.original("../outside.png") is None


def test_undecodable_file_names(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture().save(tmp_path / "ok.png")
    os.rename(tmp_path / "ok.png", name)  # noqa: PTH104  a name that is no text
    facts = u2s.run(tmp_path, tmp_path.parent / "out", detectors=["parts:RedSquares"], num_proc=1)
    assert facts["safe"] == 1


def test_class_folders_and_metadata(tmp_path):
    for name in ("cats/a.png", "dogs/b.png"):
        (tmp_path / name).parent.mkdir()
        picture().save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,caption,boxes\ncats/a.png,a grey cat,3\n")
    source = open_source(str(tmp_path), keep=["label", "caption"])
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


def test_linked_folders_are_counted_and_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    picture().save(tmp_path / "other/b.png")
    for kind in ("images", "tables"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "linked").symlink_to(tmp_path / "other")
    picture().save(tmp_path / "images/a.png")
    table(2).to_parquet(tmp_path / "tables/a.parquet")
    for kind, rows in (("images", 1), ("tables", 2)):
        source = open_source(str(tmp_path / kind))
        assert len(source) == rows and source.skipped == {"symbolic link": 1}


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


@pytest.fixture
def strangers(tmp_path):
    """A folder of a stranger's data beside a private picture; one relative picture lies inside."""
    (tmp_path / "data/near").mkdir(parents=True)
    picture().save(tmp_path / "private.png")
    picture().save(tmp_path / "data/near/a.png")
    (tmp_path / "data/near/link.png").symlink_to(tmp_path / "private.png")
    return tmp_path


NAMED = (
    "{}/private.png",
    "../private.png",
    "near/link.png",
    "file://{}/private.png",
    "https://example.org/a.png",
    "\0",
)


@pytest.mark.parametrize("plain_strings", [False, True])
def test_parquet_names_no_file_but_those_beside_it(strangers, plain_strings):
    paths = ["near/a.png", *(name.format(strangers) for name in NAMED), f"{strangers}/data/near/a.png"]
    values = paths if plain_strings else [{"bytes": None, "path": p} for p in paths]
    pq.write_table(pa.table({"image": values}), strangers / "data/a.parquet")
    source = open_source(str(strangers / "data/a.parquet"))
    found = [item.image for item in source.read(0, 99)]
    assert found[0] == {"bytes": None, "path": str(strangers / "data/near/a.png")}
    assert found[1:] == [{"bytes": None, "path": None}] * (len(paths) - 1)
    facts = u2s.run(source.location, strangers / "out", detectors=["parts:RedSquares"], num_proc=1)
    assert (facts["safe"], facts["reasons"]) == (1, {"missing": len(paths) - 1})


def test_datasets_name_no_file_but_those_in_their_folders(strangers):
    own = strangers / "data"
    with zipfile.ZipFile(own / "a.zip", "w") as archive:
        archive.write(own / "near/a.png", "a.png")
    shutil.copy(own / "a.zip", strangers / "b.zip")
    good = ["near/a.png", f"{own}/near/a.png", f"zip://a.png::{own}/a.zip"]
    bad = [*(name.format(strangers) for name in NAMED), f"zip://a.png::{strangers}/b.zip", f"zip://a::file://{own}/a"]
    data = Dataset.from_dict({"image": [{"bytes": None, "path": p} for p in good + bad]})
    source = DatasetSource(data.cast_column("image", Image(decode=False)), "x", folders=[own])
    found = [item.image["path"] for item in source.read(0, 99)]
    assert found == [f"{own}/near/a.png"] * 2 + good[2:] + [None] * len(bad)


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


@pytest.mark.parametrize("damage", ["header", "cut", "joined"])
def test_a_damaged_tar_is_refused_and_loses_no_rows_in_silence(tmp_path, damage):
    path = tmp_path / "00000.tar"
    data = images.encode(picture(), "png")
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "b.png", "c.png"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert len(open_source(str(path))) == 3
    whole = path.read_bytes()
    second = 512 + -(-len(data) // 512) * 512  # where b.png's header begins
    damaged = {
        "header": whole[:second] + b"\xff" * 512 + whole[second + 512 :],
        "cut": whole[:second],
        "joined": whole + whole,
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(u2s.SetupError, match=r"is damaged, cut off or several tars in one: .* behind byte [\d,]+"):
        open_source(str(path))
