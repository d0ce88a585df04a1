"""Files that declare a column differently: class names are kept by name, all else is one error before the first row."""

import json
import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, LargeList, List, Value

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import QUICK, public_rows
from u2s_datasets import images
from u2s_datasets.sources.open import open_source

PIXELS = {"bytes": images.encode(picture(), "png"), "path": None}
PETS = ["cat", "dog"]


def write(path, column="label", feature=None, values=(0,)):
    features = {"image": Image()} | ({column: feature} if feature is not None else {})
    rows = {"image": [PIXELS] * len(values)} | ({column: list(values)} if feature is not None else {})
    Dataset.from_dict(rows, features=Features(features)).to_parquet(path)


def labels(folder, column="label"):
    """The values of the only kept column, as read in two ways that must agree."""
    source = pickle.loads(pickle.dumps(open_source(str(folder), keep=[column])))
    read = [item.kept[column] for item in source.read(0, len(source))]
    assert read == [row[column] for row in source.kept_values([column])]
    return source.kept[column], read


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (["dog", "cat"], PETS, ["dog", "cat"]),
        (PETS, ["fish", "dog", "cat"], ["cat", "dog", "fish"]),
        (["cat", "fish", "dog"], ["dog"], ["cat", "fish", "dog"]),
    ],
)
def test_class_names_are_kept_by_name(tmp_path, first, second, together):
    write(tmp_path / "a.parquet", feature=ClassLabel(names=first), values=[*range(len(first)), None, -1])
    write(tmp_path / "b.parquet", feature=ClassLabel(names=second), values=[*range(len(second)), None, -1])
    feature, read = labels(tmp_path)
    assert feature.names == together
    assert [together[v] if v is not None and v >= 0 else v for v in read] == [*first, None, -1, *second, None, -1]


def test_a_number_that_its_file_has_no_name_for_gets_none_of_another_file(tmp_path):
    write(tmp_path / "a.parquet", feature=ClassLabel(names=["dog", "cat", "fish"]), values=[2])
    write(tmp_path / "b.parquet", feature=ClassLabel(names=PETS), values=[1])
    table = pq.read_table(tmp_path / "b.parquet")
    pq.write_table(table.set_column(1, "label", pa.array([2])).cast(table.schema), tmp_path / "b.parquet")
    assert labels(tmp_path)[1] == [2, None]


@pytest.mark.parametrize("wrap", [List, LargeList, lambda inner: {"category": List(inner), "iscrowd": Value("bool")}])
def test_class_names_in_lists_and_structs_are_kept_by_name(tmp_path, wrap):
    def value(numbers):
        return numbers if not isinstance(wrap(ClassLabel(names=PETS)), dict) else {"category": numbers, "iscrowd": True}

    write(tmp_path / "a.parquet", "objects", wrap(ClassLabel(names=PETS)), [value([0, 1])])
    write(tmp_path / "b.parquet", "objects", wrap(ClassLabel(names=PETS[::-1])), [value([0, 0, 1]), None])
    assert labels(tmp_path, "objects")[1] == [value([0, 1]), value([1, 1, 0]), None]


def test_what_is_published_names_the_class_of_every_file(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/test-0.parquet", feature=ClassLabel(names=["dog", "cat"]), values=[0, 0])
    write(tmp_path / "in/train-0.parquet", feature=ClassLabel(names=PETS), values=[0])
    u2s.run(tmp_path / "in", tmp_path / "out", keep=["label"], **QUICK)
    (file,) = (tmp_path / "out/data").iterdir()
    names = Features.from_arrow_schema(pq.read_schema(file))["label"].names
    assert sorted(names[row["label"]] for row in public_rows(tmp_path / "out")) == ["cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ClassLabel(names=PETS), ClassLabel(names=["dog", "fish"])),  # no file has all three
        (ClassLabel(names=PETS), Value("int64")),
        (ClassLabel(names=PETS), Value("string")),
        (Value("int32"), Value("float32")),
        (Value("int32"), Value("int64")),
        (List(Value("int32")), Value("int32")),
        (List(Value("int32")), List(Value("int32"), length=4)),
        ({"a": Value("int32")}, {"b": Value("int32")}),
    ],
)
def test_columns_that_disagree_are_one_error_that_names_the_files(tmp_path, first, second):
    for name, feature in (("a", first), ("b", second)):
        write(tmp_path / f"{name}.parquet", feature=feature, values=[None])
    with pytest.raises(
        u2s.SetupError, match=r"^column 'label' is .* in '.*a.parquet' and .* in '.*b.parquet'; .*--keep"
    ):
        open_source(str(tmp_path), keep=["label"])
    assert len(open_source(str(tmp_path))) == 2  # what is not read may be as it likes


def test_nulls_and_large_texts_agree_with_others(tmp_path):
    write(tmp_path / "a.parquet", feature=Value("null"), values=[None])
    write(tmp_path / "b.parquet", feature=Value("large_string"), values=["a garden"])
    write(tmp_path / "c.parquet", feature=Value("string"), values=["a wall"])
    assert labels(tmp_path) == (Value("large_string"), [None, "a garden", "a wall"])


@pytest.mark.parametrize("lacking", ["a", "b"])
@pytest.mark.parametrize("column", ["image", "label"])
def test_a_column_that_one_file_lacks_is_one_error_that_names_the_file(tmp_path, lacking, column):
    for name in "ab":
        write(tmp_path / f"{name}.parquet", feature=Value("string"), values=["x"])
    table = pq.read_table(tmp_path / f"{lacking}.parquet")
    pq.write_table(table.rename_columns({column: "other"}), tmp_path / f"{lacking}.parquet")
    with pytest.raises(u2s.SetupError, match=rf"^'.*{lacking}.parquet' has no column '{column}'; its columns are"):
        open_source(str(tmp_path), keep=["label"], image_column="image")


def test_an_image_column_that_holds_none_in_one_file_is_refused(tmp_path):
    write(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [7]}), tmp_path / "b.parquet")
    with pytest.raises(u2s.SetupError, match=r"'image' of '.*b.parquet' cannot hold images or their paths"):
        open_source(str(tmp_path))


def test_a_file_without_rows_has_no_say(tmp_path):
    pq.write_table(pa.table({"nothing": pa.array([], pa.null())}), tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", feature=ClassLabel(names=PETS), values=[1])
    assert labels(tmp_path)[1] == [1]


def test_a_part_of_a_saved_dataset_that_counts_its_classes_otherwise_is_refused(tmp_path):
    for name, names in (("saved", PETS), ("other", PETS[::-1])):
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        Dataset.from_dict({"image": [PIXELS] * 2, "label": [0, 0]}, features=features).save_to_disk(tmp_path / name)
    state = json.loads((tmp_path / "saved/state.json").read_text())
    os.rename(tmp_path / "other/data-00000-of-00001.arrow", tmp_path / "saved/more.arrow")
    state["_data_files"].append({"filename": "more.arrow"})
    (tmp_path / "saved/state.json").write_text(json.dumps(state))
    with pytest.raises(u2s.SetupError, match=r"^column 'label' is .* in the part 'more.arrow' and .* in the dataset"):
        open_source(str(tmp_path / "saved"), keep=["label"])
    assert len(open_source(str(tmp_path / "saved"))) == 4
