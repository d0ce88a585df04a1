"""Which columns may travel along with the images."""

import datetime
from decimal import Decimal

import pytest
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, LargeList, List, Value, Video

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets import columns, images
from u2s_datasets.privacy.kept_columns import NumberStatistics, check_kept
from u2s_datasets.sources.open import open_source

PIXELS = {"bytes": images.encode(picture(), "png"), "path": None}
MOMENT = datetime.datetime(2021, 3, 4)
FLOAT, INT, TEXT = Value("float64"), Value("int64"), Value("string")


def saved(tmp_path, name, feature, values) -> str:
    values = list(values)
    table = {"image": [PIXELS] * len(values), name: values}
    Dataset.from_dict(table, features=Features({"image": Image(), name: feature})).save_to_disk(tmp_path / "saved")
    return str(tmp_path / "saved")


def reason_of(feature, values, name="x") -> str | None:
    try:
        check_kept({name: feature}, lambda names: [{name: v} for v in values])
    except u2s.SetupError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "feature",
    [
        Image(),
        List(Image()),
        LargeList({"im": Image()}),
        {"im": Image()},
        Audio(),
        List(Video()),
        Value("binary"),
        List(Value("large_binary")),
        {"bytes": Value("binary"), "path": TEXT},
        Value("fixed_size_binary[16]"),
        Array2D(shape=(8, 8), dtype="uint8"),
        Value("null"),
    ],
    ids=repr,
)
def test_what_nothing_inspects_is_never_kept(feature):
    for allow in ([], ["x"]):
        with pytest.raises(u2s.SetupError, match=r"keep='x' holds .*nothing has inspected"):
            check_kept({"x": feature}, lambda names: [], allow)


def test_no_original_travels_in_a_struct_without_a_type(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [PIXELS], "thumb": [PIXELS]}), tmp_path / "a.parquet")
    with pytest.raises(u2s.SetupError, match="nothing has inspected"):
        open_source(str(tmp_path), keep=["thumb"], allow=["thumb"])


@pytest.mark.parametrize(
    ("name", "feature", "values", "words"),
    [
        ("person_id", INT, range(30), "its name"),
        ("author_name", ClassLabel(names=["a", "b"]), [0] * 30, "its name"),
        ("moment", Value("timestamp[s]"), [MOMENT] * 30, "its type"),
        ("moments", List(Value("date32")), [[MOMENT.date()]] * 30, "its type"),
        ("price", Value("decimal128(9, 2)"), [Decimal("1.25")] * 30, "its type"),
        ("latitude", Value("float32"), [1.5] * 30, "its name"),
        ("meta", {"GPSLatitude": FLOAT}, [{"GPSLatitude": 1.5}] * 30, "its field 'GPSLatitude'"),
        ("meta", List({"taken": TEXT}), [[{"taken": "x"}]] * 30, "its field 'taken'"),
        ("who", ClassLabel(names=["anna@example.org", "other"]), [0] * 30, "e-mail"),
        ("sort", {"of": ClassLabel(names=["12 March 2021"])}, [{"of": 0}] * 30, "a date"),
        ("x", FLOAT, [48.20849 + i / 7 for i in range(30)], "coordinates"),
        ("place", List(FLOAT), [[51.50741, -0.12781]] * 30, "coordinates"),
        ("when", INT, [1_600_000_000 + i for i in range(30)], "seconds since 1970"),
        ("number", INT, [52_001 + 17 * i for i in range(30)], "identifiers"),
    ],
)
def test_what_looks_identifying_needs_to_be_allowed(tmp_path, name, feature, values, words):
    src = saved(tmp_path, name, feature, values)
    with pytest.raises(u2s.SetupError, match=f"keep='{name}'.*{words}.*--allow {name}"):
        open_source(src, keep=[name])
    source = open_source(src, keep=[name], allow=[name])
    (item, *_) = source.read(0, 1)
    from u2s_datasets.privacy import identifying_text

    assert identifying_text.withhold_texts(item.kept, []) == (item.kept, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([51.50741, float("nan"), 48.8566], "coordinates"),
        ([51.50741, float("inf"), None, 48.8566], "coordinates"),
        ([51.50741, 48.8566, 0.0, 0.0, 0.0, 9999.5], "coordinates"),
        ([1614848461.25, 1614948461.5], "seconds since 1970"),
        ([4915112345678, 4915112345678, 4917287654321], "seven digits"),
        ([1, 2, 3, 1234567, 1234567], "seven digits"),
        ([-51507410, -51507410], "seven digits"),
        ([52001, 52001, 52018, 52035], "identifiers"),
        ([3.0] * 5000 + [1614848461.0], "seconds since 1970"),
    ],
)
def test_numbers_are_judged_whole(values, words):
    assert words in (reason_of(FLOAT, values) or "")
    assert words in (reason_of({"deep": List(FLOAT)}, [{"deep": [v]} for v in values]) or "")


def test_one_telling_field_is_not_hidden_by_another():
    rows = [{"w": 640.5, "v": 51.50741 + i} for i in range(9)]
    assert "coordinates" in reason_of({"w": FLOAT, "v": FLOAT}, rows)


def test_whole_columns_are_read_from_every_kind_of_source(tmp_path):
    values = [3] * 1500 + [49_151_123_456]
    src = saved(tmp_path, "n", INT, values)
    table = Dataset.load_from_disk(src)
    (tmp_path / "tables").mkdir()
    table.to_parquet(tmp_path / "tables/a.parquet")
    (tmp_path / "folder").mkdir()
    picture().save(tmp_path / "folder/a.png")
    picture().save(tmp_path / "folder/b.png")
    (tmp_path / "folder/metadata.csv").write_text("file_name,n\na.png,3\nb.png,49151123456\n")
    for where in ("saved", "tables", "folder"):
        with pytest.raises(u2s.SetupError, match="seven digits"):
            open_source(str(tmp_path / where), keep=["n"])


def test_pixels_and_embeddings_as_numbers_need_to_be_allowed():
    assert "pixels" in reason_of(List(List(Value("uint8"))), [[[7, 8] * 20] * 40])
    assert reason_of(List(List(Value("uint8"))), [[[7, 8]]] * 900) is None


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (List(Value("uint8")), list(range(256)) * 3),  # 16 x 16 RGB
        (List(Value("int8")), [(7 * i) % 255 - 127 for i in range(512)]),
        (List(Value("bool")), [True, False] * 32),  # a perceptual hash
        (List(List(Value("bool"))), [[True, False] * 48] * 64),
        ({"objects": List({"bbox": List(FLOAT), "q": List(INT)})}, {"objects": [{"bbox": [1.0] * 4, "q": [5] * 65}]}),
    ],
    ids=["pixels", "embedding", "hash", "bitmap", "beside_boxes"],
)
def test_small_contents_as_numbers_need_to_be_allowed(feature, value):
    assert "numbers in a row, as pixels, hashes" in reason_of(feature, [None, value], "x")


def test_hashes_as_text_and_by_name_need_to_be_allowed():
    assert "its name" in reason_of(List(Value("uint8")), [[120, 130, 192, 242] * 8], "phash")
    assert "its name" in reason_of(TEXT, ["x"], "image_thumb")
    assert "holds a digest" in reason_of(ClassLabel(names=["d879f8f8f0f0e0c0"]), [0], "kind")


BOX = [12.34567, 30.25811, 55.12345, 60.98765]
ONE = {"bbox": BOX, "crowd": False, "area": 12.5}


@pytest.mark.parametrize(
    ("name", "feature", "value"),
    [
        ("bbox", List(FLOAT), BOX),
        ("boxes", List(List(Value("float32"), length=4)), [BOX] * 400),
        ("objects", List(List(FLOAT)), [BOX]),
        ("objects", {"bbox": List(List(FLOAT)), "category": List(ClassLabel(names=["a"]))}, {"bbox": [BOX, None]}),
        ("objects", List({"bbox": List(FLOAT), "crowd": Value("bool")}), [{"bbox": BOX, "crowd": True}]),
        ("objects", List({"bbox": List(FLOAT), "crowd": Value("bool"), "area": FLOAT}), [ONE] * 120),
        ("objects", {"bbox": List(List(FLOAT)), "area": List(INT)}, {"bbox": [BOX] * 120, "area": [7] * 120}),
        ("bbox", List(INT), [12, 30, 55, 60] * 30),
        ("bboxes", List(List(INT)), [[12, 30, 55, 60, 1]] * 30),
        ("mask", List(List(Value("bool"))), [[True, False] * 48] * 64),
        ("objects", List({"mask": List(List(Value("bool")))}), [{"mask": [[True, False] * 48] * 64}]),
        ("segmentation", List(List(FLOAT)), [[239.97, 260.24, 222.04, 270.49] * 20] * 3),
        ("keypoints", List(List(INT)), [[120, 80, 2] * 17] * 5),
    ],
)
def test_boxes_masks_and_their_like_travel(name, feature, value):
    assert reason_of(feature, [value, None], name) is None


def test_a_list_that_is_no_box_is_read_under_any_name():
    assert "coordinates" in reason_of(List(FLOAT), [[51.50741, -0.12781]], "bbox")


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (Value("float32"), [0.5, 0.25] * 15),
        (Value("int32"), [1, 2, 3] * 10),
        (Value("large_string"), ["a dog"]),
        (Value("bool"), [True, None]),
        (List(ClassLabel(names=["cat", "dog"])), [[0, 1]]),
        (List(TEXT), [["a", "b"]]),
        ({"width": INT, "height": INT}, [{"width": 4000, "height": 3000}] * 3),
        (FLOAT, []),
    ],
)
def test_what_is_harmless_passes(feature, values):
    assert reason_of(feature, values) is None


@pytest.mark.parametrize(
    "name", [*columns.PUBLIC, *columns.PRIVATE, "image", columns.ANONYMIZED_IMAGE, "kept_texts_withheld"]
)
def test_columns_that_are_written_here_are_never_kept(name):
    with pytest.raises(u2s.SetupError, match="rename it"):
        check_kept({name: TEXT}, lambda names: [], [name])


def test_numbers_take_no_memory_that_grows():
    numbers = NumberStatistics()
    for i in range(10_000):
        numbers.add(10**7 + i)
    assert not numbers.distinct
