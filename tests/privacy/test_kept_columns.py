"""Which columns may travel along with the images."""

import datetime
from decimal import Decimal

import pytest
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, LargeList, List, Value, Video

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets import columns, images
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.privacy.kept_values import KeptColumns
from u2s_datasets.sources.open import open_source

PIXELS = {"bytes": images.encode(picture(), "png"), "path": None}
MOMENT = datetime.datetime(2021, 3, 4)
NINES = [1.0, 1.0, 9.0, 9.0]
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
        ("x", FLOAT, [48.20849 + i / 7 for i in range(30)], "fractions"),
        ("place", List(FLOAT), [[51.50741, -0.12781]] * 30, "lists of numbers"),
        ("when", INT, [1_600_000_000 + i for i in range(30)], "numbers above 99"),
        ("number", INT, [52_001 + 17 * i for i in range(30)], "numbers above 99"),
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
        ([51.50741, float("nan"), 48.8566], "fractions"),
        ([51.0, float("inf"), None, 48.0], "fractions"),
        ([51.5, 51.5, 48.9, 48.9], "fractions"),
        ([51.0, 0.0, 51.0, 0.0], "fractions"),
        ([51, 0, 51, 0, -1], "negative"),
        ([530_034, 180_381] * 4, "numbers above 99"),
        ([1_614_848_461, 1_614_848_461], "numbers above 99"),
        ([44_927] * 9 + [44_928] * 9, "numbers above 99"),
        ([1961] * 20, "numbers above 99"),
        (range(40), "as many different numbers as identifiers"),
        ([i // 2 for i in range(40)], "in the order of the rows"),
        ([9 - i // 4 for i in range(40)], "in the order of the rows"),
        ([3] * 5000 + [161_484], "numbers above 99"),
    ],
)
def test_numbers_are_judged_whole(values, words):
    kind = INT if all(isinstance(v, int) for v in values) else FLOAT
    assert words in (reason_of(kind, values) or "")
    assert words in (reason_of({"deep": kind}, [{"deep": v} for v in values]) or "")


@pytest.mark.parametrize(
    ("name", "values", "passes"),
    [
        ("width", [1920, 640, 1920, 640], True),
        ("imageHeight", [4000, 3000, 3000, 4000], True),
        ("num_people", [120, 3, 120, 3], True),
        ("people", [120, 3, 120, 3], False),
        ("people", [2, 3, 2, 3], True),
        ("height", [1.75, 1.8] * 4, False),
        ("width", [44_927] * 4, False),
        ("count", [530_034] * 4, False),
        ("stars", [1, 5, 4, 5, 1, 4], True),
        ("num_cups", [1.0, 2.0, 1.0, 2.0, None], True),
    ],
)
def test_lengths_and_counts_pass(name, values, passes):
    kind = INT if all(isinstance(v, int) for v in values) else FLOAT
    assert (reason_of(kind, values, name) is None) is passes


def test_classes_are_not_row_numbers_nor_digits():
    many = ClassLabel(names=[f"breed {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)])
    assert "nearly as many classes as rows" in reason_of(many, range(200))
    assert reason_of(many, [i % 50 for i in range(200)]) is None
    digits = ClassLabel(names=list("0123456789"))
    assert reason_of(digits, [0, 7, 9, 4]) is None
    assert "lists of numbers" in reason_of(List(digits), [[0, 7, 9, 4, 6, 0, 0, 1, 8]])


def test_digits_in_columns_of_their_own_are_read_together():
    rows = [{f"p{chr(97 + k)}": (7 * i * i + 3 * i * k + k) % 10 for k in range(9)} for i in range(60)]
    rows = [row | {"pa": i % 10, "pb": i // 10 * 7 % 10} for i, row in enumerate(rows)]
    features = dict.fromkeys(rows[0], INT)
    with pytest.raises(u2s.SetupError, match="one of 9 numbers that together are another in nearly every row"):
        check_kept(features, lambda names: rows)
    check_kept(features, lambda names: rows, allow=list(features))
    check_kept(features, lambda names: [dict.fromkeys(features, i % 4) for i in range(60)])


def test_one_telling_field_is_not_hidden_by_another():
    rows = [{"w": 64, "v": 51.50741 + i} for i in range(9)]
    assert "x.v: fractions" in reason_of({"w": INT, "v": FLOAT}, rows)


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
        with pytest.raises(u2s.SetupError, match="numbers above 99"):
            open_source(str(tmp_path / where), keep=["n"])


@pytest.mark.parametrize(
    ("name", "feature", "value"),
    [
        ("x", List(FLOAT), [0.01 * i for i in range(63)]),
        ("x", List(List(Value("uint8"))), [[7 * i + j for i in range(9)] for j in range(7)]),
        ("x", List(List(Value("uint8"))), [[7, 8] * 20] * 40),
        ("mask", List(Value("uint8")), list(range(256)) * 3),
        ("mask", List(FLOAT), [0.25] * 63),
        ("mask", List(List(Value("uint8"))), [[(37 * i * j) % 251 for i in range(32)] for j in range(32)]),
        ("mask", List(List(Value("bool"))), [[True, False] * 48] * 64),
        ("label_mask", List(List(Value("uint8"))), [[0] * 9] * 7),
        ("segmentation", List(List(INT)), [[8 * (i // 8) + j // 8 for i in range(64)] for j in range(64)]),
        ("segmentation", List(List(FLOAT)), [[239.97, 260.24, 222.04, 270.49] * 20] * 3),
        ("keypoints", List(List(INT)), [[120, 80, 2] * 17] * 5),
        ("x", List(INT), [1961, 3, 3]),
        ("x", List(INT), [0, 7, 9, 4, 6, 0, 0, 1, 8]),
        ("x", List(INT), [44_927]),
        ("x", List(Value("bool")), [True, False] * 32),
        (
            "x",
            {"objects": List({"bbox": List(FLOAT), "q": List(INT)})},
            {"objects": [{"bbox": [9.0] * 4, "q": [5] * 65}]},
        ),
        ("bbox", List(FLOAT), [51.50741, -0.12781]),
        ("bbox", List(INT), [0, 7, 9, 4, 6, 0, 0, 1, 8]),
        ("bbox", List(FLOAT), [530_034.0, 180_381.0, 12.0, 12.0]),
        ("bbox", List(FLOAT), [51.5, -30.1, 51.6, -30.0]),
        ("bbox", List(FLOAT), [0.31, 0.42, 0.11, 0.25]),
        ("bbox", List(FLOAT), [0.0, float("nan"), 9.0, 9.0]),
        (
            "objects",
            {"bbox": List(List(FLOAT)), "area": List(INT)},
            {"bbox": [NINES], "area": [7946018]},
        ),
        (
            "objects",
            {"bbox": List(List(FLOAT)), "score": List(FLOAT)},
            {"bbox": [NINES], "score": [0.97]},
        ),
        ("objects", {"bbox": List(List(FLOAT)), "n": List(INT)}, {"bbox": [NINES], "n": [0, 7, 9]}),
    ],
)
def test_contents_digits_and_places_as_numbers_need_to_be_allowed(name, feature, value):
    for rows in ([value], [None, value, value, None], [value] * 30):
        assert f"say --allow {name}" in (reason_of(feature, rows, name) or "")


def test_hashes_as_text_and_by_name_need_to_be_allowed():
    assert "its name" in reason_of(List(Value("uint8")), [[120, 130, 192, 242] * 8], "phash")
    assert "its name" in reason_of(TEXT, ["x"], "image_thumb")
    assert "holds a digest" in reason_of(ClassLabel(names=["d879f8f8f0f0e0c0"]), [0], "kind")


BOX = [12.34567, 30.25811, 55.12345, 60.98765]
ONE = {"bbox": BOX, "crowd": False, "area": 12.5}
MASK = [[int(20 < i < 50 and 9 < j < 40) for i in range(96)] for j in range(64)]


@pytest.mark.parametrize(
    ("name", "feature", "value"),
    [
        ("bbox", List(FLOAT), BOX),
        ("boxes", List(List(Value("float32"), length=4)), [BOX] * 400),
        ("objects", List(List(FLOAT)), [BOX]),
        ("objects", {"bbox": List(List(FLOAT)), "category": List(ClassLabel(names=["a"]))}, {"bbox": [BOX, None]}),
        ("objects", List({"bbox": List(FLOAT), "crowd": Value("bool")}), [{"bbox": BOX, "crowd": True}]),
        ("objects", List({"bbox": List(FLOAT), "crowd": Value("bool"), "area": FLOAT}), [ONE] * 120),
        ("objects", {"bbox": List(List(FLOAT)), "area": List(INT)}, {"bbox": [BOX] * 120, "area": [2047] * 120}),
        (
            "objects",
            {"bbox": List(List(INT)), "category": List(INT)},
            {"bbox": [[1, 2, 30, 40]] * 3, "category": [1, 17, 44]},
        ),
        ("bbox", List(INT), [-1, 0, 641, 480]),
        ("mask", List(List(Value("bool"))), [[bool(v) for v in row] for row in MASK]),
        ("masks", List(List(List(Value("uint8")))), [MASK, MASK]),
        ("objects", List({"mask": List(List(Value("uint8")))}), [{"mask": MASK}]),
    ],
)
def test_boxes_masks_and_their_like_travel(name, feature, value):
    assert reason_of(feature, [value, None], name) is None


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (Value("int32"), [1, 2, 3] * 10),
        (Value("bool"), [True, None]),
        (List(ClassLabel(names=["cat", "dog"])), [[0, 1]]),
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
    from u2s_datasets.privacy.kept_numbers import ColumnNumbers

    numbers = ColumnNumbers("width", INT)
    for i in range(10_000):
        numbers.add({"width": i}, {})
    assert sum(len(field.distinct) for field in numbers._fields.values()) <= 4096


@pytest.mark.parametrize(
    "said", ["a dog on the grass", "Margaret", "margaret hollis", "Leeds", "собака", "猫", "a Hollis"]
)
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [v], lambda v: {"said": [v, "cat"]}], ids=["text", "list", "struct"]
)
def test_texts_are_kept_where_names_are_recognised_or_by_name(wrap, said):
    feature = {str: TEXT, list: List(TEXT), dict: {"said": List(TEXT)}}[type(wrap(said))]
    features, rows = {"caption": feature}, [{"caption": wrap("cat")}, {"caption": None}, {"caption": wrap(said)}]
    with pytest.raises(u2s.SetupError, match=r"keep='caption' holds texts.*--text-check presidio.*--allow caption"):
        check_kept(features, lambda names: rows)
    check_kept(features, lambda names: rows, allow=["caption"])
    check_kept(features, lambda names: rows, names_checked=True)
    kept, emptied = KeptColumns(features).judge(rows[2])
    assert kept == {"caption": None} and emptied["caption"] >= 1


@pytest.mark.parametrize("values", [["cat", "dogs", None], ["one", "two", "three"], [["red", "open"], []], ["A wall"]])
def test_texts_of_one_or_two_common_words_are_classes(values):
    feature = List(TEXT) if isinstance(values[0], list) else TEXT
    assert reason_of(feature, values) is None
    assert KeptColumns({"x": feature}).judge({"x": values[0]}) == ({"x": values[0]}, {})


@pytest.mark.parametrize(
    "names",
    [
        ["golden retriever", "tabby cat"],
        ["dog", "cat", "traffic light", "T-shirt/top", "n02085936-Maltese_dog"],
        ["apple_pie", "french_fries", "hen-of-the-woods"],
        ["0", "1", "2"],
    ],
)
def test_names_of_classes_that_are_things_pass(names):
    assert reason_of(ClassLabel(names=names), [0, 0]) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["dog", "Margaret Hollis"], "'Margaret Hollis' looks like a person's name"),
        (["anna_baker", "other"], "'anna_baker' looks like a person's name"),
        (["JohnSmith", "other"], "'JohnSmith' looks like a person's name"),
        (["Zhang Wei", "Łukasz", "François"], "'Łukasz' looks like a person's name"),
        (["Paris", "Lisbon"], "of its 2 classes 'Paris' looks like a place, 'Lisbon' looks like a place"),
        (["South Korea", "other"], "'South Korea' looks like a place"),
        (["Bosnia", "Herzegovina"], "'Bosnia' looks like a place"),
        (["Côte_d'Ivoire", "other"], "looks like a place"),
        (["new york", "sea"], "'new york' looks like a place"),
        (["собака", "Иван Петров"], "a script whose names"),
        (["王小明", "猫"], "a script whose names"),
        (["14 Oak Lane", "other"], "holds an address"),
        (["AB12 CDE", "other"], "holds a licence plate"),
        (["m.hollis (at) mail.example"], "holds an e-mail address"),
        (["dog", "do\u200bg"], "holds invisible characters"),
    ],
)
def test_names_of_classes_that_are_persons_or_places_are_listed(names, words):
    assert words in reason_of(ClassLabel(names=names), [0, 0]).replace(
        "'Paris' looks like a person's name", "'Paris' looks like a place"
    )
    check_kept({"x": ClassLabel(names=names)}, lambda _: [], ["x"])


@pytest.mark.parametrize(
    "name",
    [
        "+44 20 7946 0018",
        "020 7946 0018",
        "14 Oak Lane",
        "Margaret Hollis",
        "margaret_hollis",
        "annaBaker",
        "Иван",
        "m.h@mail.example",
        "AB12 CDE",
    ],
)
def test_names_of_columns_and_fields_that_are_contacts_or_persons_need_to_be_allowed(name):
    assert f"keep={name!r}" in reason_of(INT, [1, 1], name)
    assert f"the name of its field {name!r} looks like" in reason_of({name: INT}, [{name: 1}] * 2)


@pytest.mark.parametrize("name", ["label", "objects", "num_people", "is_outdoor", "Width", "scene", "5_o_Clock_Shadow"])
def test_plain_names_of_columns_pass(name):
    assert reason_of(INT, [1, 1], name) is None


def test_a_recognizer_reads_the_names_of_classes():
    def judge(names, holds_name):
        check_kept({"kind": ClassLabel(names=names)}, lambda _: [], (), True, holds_name)

    judge(["собака", "кошка"], lambda text: False)
    with pytest.raises(u2s.SetupError, match="'tall_man' looks like a name"):
        judge(["dog", "tall_man"], lambda text: text == "tall man")
    with pytest.raises(u2s.SetupError, match="'Margaret Hollis' looks like a person"):
        judge(["Margaret Hollis", "dog"], lambda text: False)


@pytest.mark.parametrize(
    "text", ["⠍⠁⠗⠛⠁⠗⠑⠞", "-- .- .-. --.", "." * 9 + ":" * 9, "😀😃😄", list("margaret"), ["a", "n", "n", "a"]]
)
def test_texts_that_spell_without_words_are_no_classes(text):
    feature = List(TEXT) if isinstance(text, list) else TEXT
    assert "holds texts" in (reason_of(feature, [text]) or "")
    assert KeptColumns({"x": feature}).judge({"x": text})[0] == {"x": None}


@pytest.mark.parametrize("names", [["user_8472", "x"], ["subject 3", "x"], ["S001", "S002"], ["u8472"]])
def test_names_of_classes_that_number_persons_are_listed(names):
    assert f"{names[0]!r} looks like" in (reason_of(ClassLabel(names=names), [0, 0]) or "")


TONES, GREY = List(ClassLabel(names=["dark", "light"])), [i * i % 7 % 2 for i in range(256)]


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (TONES, GREY),
        ({"bbox": List(List(FLOAT)), "kind": TONES}, {"bbox": [NINES] * 256, "kind": GREY}),
        ({"bbox": List(List(FLOAT)), "kind": List(Value("bool"))}, {"bbox": [NINES] * 256, "kind": [*map(bool, GREY)]}),
        ({"bbox": List(List(FLOAT)), "kind": List(INT)}, {"bbox": [NINES] * 256, "kind": GREY}),
        ({"bbox": List(FLOAT)}, {"bbox": [16.37208, 48.20849, 0.0, 0.0]}),
        ({"bbox": List(List(INT))}, {"bbox": [[48, 16, 48, 16]]}),
    ],
)
def test_pixels_and_places_as_classes_and_boxes_need_to_be_allowed(feature, value):
    assert "say --allow x" in (reason_of(feature, [value] * 3) or "")


def test_a_hash_in_as_many_columns_as_it_has_bits_needs_to_be_allowed():
    def reason(bits):
        rows = [{f"is_{i}": bool(row >> (i % 6) & 1) for i in range(bits)} for row in range(64)]
        try:
            check_kept({name: Value("bool") for name in rows[0]}, lambda names: rows)
        except u2s.SetupError as error:
            return str(error)

    assert reason(40) is None  # as many attributes as CelebA has
    assert "one of 64 flags" in reason(64)
