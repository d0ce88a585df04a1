"""What is read from where, and what may travel along."""

import datetime
import os

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from parts import picture

import u2s_datasets as u2s
from u2s_datasets import images
from u2s_datasets.sources import open_source

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


@pytest.mark.parametrize(
    ("name", "feature", "values", "words"),
    [
        ("person_id", Value("int64"), range(30), "its name"),
        ("moment", Value("timestamp[s]"), [datetime.datetime(2020, 1, 1)] * 30, "its type"),
        ("latitude", Value("float32"), [1.5] * 30, "its name"),
        ("x", Value("float64"), [48.20849 + i / 7 for i in range(30)], "coordinates"),
        ("when", Value("int64"), [1_600_000_000 + i for i in range(30)], "seconds since 1970"),
        ("number", Value("int64"), [52_001 + 17 * i for i in range(30)], "identifiers"),
        ("who", ClassLabel(names=["anna@example.org", "other"]), [0] * 30, "e-mail"),
    ],
)
def test_what_looks_identifying_needs_to_be_allowed(tmp_path, name, feature, values, words):
    src = saved(tmp_path, **{name: (feature, values)})
    with pytest.raises(u2s.SetupError, match=f"keep='{name}'.*{words}.*--allow {name}"):
        open_source(src, keep=[name])
    assert len(open_source(src, keep=[name], allow=[name])) == 30


def test_what_is_harmless_passes(tmp_path):
    src = saved(tmp_path, score=(Value("float32"), [0.5, 0.25] * 15), count=(Value("int32"), [1, 2, 3] * 10))
    assert list(open_source(src, keep=["score", "count"]).kept) == ["score", "count"]


def test_images_and_own_columns_are_never_kept(tmp_path):
    src = saved(tmp_path, original=(Image(), [PIXELS] * 30), provenance=(Value("string"), ["x"] * 30))
    with pytest.raises(u2s.SetupError, match="nothing has inspected"):
        open_source(src, keep=["original"], image_column="image")
    with pytest.raises(u2s.SetupError, match="rename it"):
        open_source(src, keep=["provenance"], image_column="image")
