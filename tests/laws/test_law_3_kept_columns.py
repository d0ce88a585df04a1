"""Law 3, publish by allowlist, for kept columns: what nothing can judge leaves only by name, and it is said where."""

import csv
import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.published_run import ABOUT, ANONYMIZE, published_rows, push, source_rows
from tests.helpers.run_files import QUICK, public_rows
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.privacy.kept_columns import NOT_CHECKED

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

TELLING = [
    "14 Oak Lane, Leeds LS1 4DY",
    "m.hollis (at) mail.example",
    "insta: m.hollis1961",
    "plate AB12 CDE",
    "родился 3 марта 1961",
    "call +44 20 7946 0018",
    "fe80::1ff:fe23:4567:890a",
    "key sk-proj-abcdEFGH1234",
    "１９６１年３月３日",
    "０２０−７９４６−００１８",
    "a cup\U000e004d\U000e0061\U000e0072",
    bytes(range(7, 255)).decode("utf-16-le", "ignore") * 3,
]
HARMLESS = ["a golden retriever on grass", "two people crossing a busy street", "一只猫坐在沙发上"]


def folder_of(path: Path, texts) -> Path:
    path.mkdir()
    with (path / "metadata.csv").open("w", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(["file_name", "caption"])
        for i, text in enumerate(texts):
            picture(seed=i).save(path / f"{i}.png")
            write([f"{i}.png", text])
    return path


def mapped(**more) -> Dataset:
    """A dataset that went through the steps; `more` are (feature, values) of other columns."""
    count = len(next(iter(more.values()))[1])
    rows = {"image": [row["image"] for row in source_rows(count)]} | {n: values for n, (_, values) in more.items()}
    types = Features({"image": Image()} | {name: feature for name, (feature, _) in more.items()})
    return Dataset.from_dict(rows, features=types).map(ANONYMIZE, batched=True)


def test_texts_leave_a_run_only_by_name_and_without_what_a_pattern_knows(tmp_path, capsys):
    source = folder_of(tmp_path / "in", TELLING + HARMLESS)
    with pytest.raises(u2s.SetupError, match=r"keep='caption' holds texts.*--text-check presidio.*--allow caption"):
        u2s.run(source, tmp_path / "out", keep=["caption"], **QUICK)
    words = ["anonymize", str(source), "--out", str(tmp_path / "out"), "--keep", "caption", "--allow", "caption"]
    words += ["--detectors", "tests.helpers.fakes:RedSquares", "--num-proc", "1"]
    assert main([*words, "--dry-run", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["names_not_checked"] == ["caption"]
    assert main(words) == 0
    assert f"caption: {NOT_CHECKED}" in capsys.readouterr().out
    kept = [row["caption"] for row in public_rows(tmp_path / "out")]
    assert sorted(text for text in kept if text) == sorted(HARMLESS)
    facts = json.loads((tmp_path / "out/run.json").read_text("utf-8"))
    assert facts["kept_emptied"] == {"caption": len(TELLING)} and facts["names_not_checked"] == ["caption"]
    for page in ("report.html", "private/report.html"):
        text = (tmp_path / "out" / page).read_text("utf-8")
        assert f"caption: {NOT_CHECKED}" in text and "Emptied in kept columns" in text
        assert "Oak Lane" not in text
    with pytest.raises(u2s.Refused, match="keep='caption' holds texts"):
        push(tmp_path / "out", dry_run=False)
    plan = push(tmp_path / "out", allow=["caption"], dry_run=True)
    assert (
        not plan.reasons and f"`caption`, **{NOT_CHECKED}**" in plan.card and f"`caption` {len(TELLING)}" in plan.card
    )


def test_texts_leave_a_mapped_dataset_only_by_name_and_without_what_a_pattern_knows(hub):
    texts = TELLING + HARMLESS
    data = mapped(said=(List(Value("string")), [[text, "a cup"] for text in texts]))
    with pytest.raises(u2s.Refused, match="keep='said' holds texts"):
        push(data, keep=["said"])
    assert hub.requests == []
    plan = u2s.push_to_hub(data, "org/x", keep=["said"], allow=["said"], dry_run=True, **ABOUT)
    assert f"`said`, **{NOT_CHECKED}**" in plan.card and f"`said` {len(TELLING)}" in plan.card
    push(data, keep=["said"], allow=["said"])
    left = [row["said"] for row in published_rows(hub)]
    assert sorted(one[0] for one in left if one[0]) == sorted(HARMLESS)


NUMBERS = [
    (List(Value("float32")), [0.1 * (i % 9) for i in range(63)], "style"),
    (List(List(Value("uint8"))), [[31 * i + j for i in range(7)] for j in range(9)], "small"),
    (List(Value("float32")), [0.1, 0.9] * 30, "mask"),
    (List(Value("float64")), [51.5, -0.1], "spot"),
    (List(Value("int32")), [530034, 180381], "spot"),
    (List(Value("int16")), [1961, 3, 3], "parts"),
    (Value("int32"), 44927, "offset"),
    (List(Value("int8")), [0, 2, 0, 7, 9, 4, 6], "digits"),
    (Value("float64"), 51.5, "north"),
    (Value("int32"), 1, "+44 20 7946 0018"),
    (Value("int32"), 1, "14 Oak Lane"),
    (Value("int32"), 1, "margaret_hollis"),
    (ClassLabel(names=["dog", "Margaret Hollis"]), 0, "kind"),
    (ClassLabel(names=["Leeds", "Paris"]), 0, "town"),
]


@pytest.mark.parametrize(("feature", "value", "name"), NUMBERS, ids=[f"{i}-{n[2]}" for i, n in enumerate(NUMBERS)])
def test_what_has_no_known_meaning_leaves_only_by_name(feature, value, name, tmp_path):
    rows = {"image": [row["image"] for row in source_rows(4)], name: [value] * 4}
    data = Dataset.from_dict(rows, features=Features({"image": Image(), name: feature}))
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(u2s.SetupError) as stopped:
        u2s.run(tmp_path / "saved", tmp_path / "out", keep=[name], dry_run=True)
    assert f"keep={name!r}" in str(stopped.value) and f"--allow {name}" in str(stopped.value)
    assert u2s.run(tmp_path / "saved", tmp_path / "out", keep=[name], allow=[name], dry_run=True)["rows"] == 4
    plan = u2s.push_to_hub(data.map(ANONYMIZE, batched=True), "org/x", keep=[name], dry_run=True, **ABOUT)
    assert set(plan.reasons) == {"kept"} and f"keep={name!r}" in plan.reasons["kept"]


def test_the_row_number_of_the_source_leaves_only_by_name():
    plan = u2s.push_to_hub(mapped(place=(Value("int64"), range(12))), "org/x", keep=["place"], dry_run=True, **ABOUT)
    assert "as identifiers and row numbers have" in plan.reasons["kept"]


def test_classes_boxes_masks_lengths_and_counts_leave_by_themselves(hub):
    mask = [[int(i > 60 and j < 70) for i in range(160)] for j in range(120)]
    types = {
        "label": (ClassLabel(names=["golden retriever", "tabby cat"]), [0, 1] * 4),
        "objects": (
            {
                "bbox": List(List(Value("float32"))),
                "category": List(ClassLabel(names=["cup"])),
                "area": List(Value("int32")),
            },
            [{"bbox": [[1.5, 2.0, 30.0, 40.0]], "category": [0], "area": [1100]}] * 8,
        ),
        "mask": (List(List(Value("uint8"))), [mask] * 8),
        "width": (Value("int32"), [160] * 8),
        "num_cups": (Value("int32"), [1, 2, 1, 1, 2, 1, 3, 1]),
        "outdoors": (Value("bool"), [True, False] * 4),
    }
    push(mapped(**types), keep=list(types))
    rows = published_rows(hub)
    assert len(rows) == 8 and all(row[name] is not None for row in rows for name in types)
    assert rows[0]["mask"] == mask and rows[0]["objects"]["bbox"] == [[1.5, 2.0, 30.0, 40.0]]


def test_a_box_outside_its_image_and_a_mask_of_another_size_stay_home_and_are_counted(hub, tmp_path):
    inside, outside = [[1.0, 2.0, 30.0, 40.0]], [[1.0, 2.0, 30.0, 400.0]]
    grid = [[int(i > 20) for i in range(40)] for _ in range(40)]
    boxes = (List(List(Value("float64"))), [inside] * 4 + [outside] * 4)
    data = mapped(boxes=boxes, mask=(List(List(Value("uint8"))), [grid] * 8))
    push(data, keep=["boxes", "mask"])
    rows = published_rows(hub)
    assert sorted(row["boxes"] is None for row in rows) == [False] * 4 + [True] * 4
    assert {row["mask"] is None for row in rows} == {True}
    card = hub.files("org/photos-safe")["README.md"].decode()
    assert "`boxes` 4" in card and "`mask` 8" in card

    values = [{"bytes": images.encode(picture(seed=i), "png"), "path": None} for i in range(4)]
    rows = {"image": values, "boxes": [inside, outside] * 2}
    Dataset.from_dict(rows, features=Features({"image": Image(), "boxes": boxes[0]})).save_to_disk(tmp_path / "saved")
    facts = u2s.run(tmp_path / "saved", tmp_path / "out", keep=["boxes"], **QUICK)
    assert facts["kept_emptied"] == {"boxes": 2}
    assert sorted(row["boxes"] is None for row in public_rows(tmp_path / "out")) == [False, False, True, True]


class Failing(u2s.TextCheck):
    """A recognizer that cannot read one text."""

    entities = ("PERSON",)

    def analyze(self, texts):
        if "kiwi" in texts[0]:
            raise ValueError("no such fruit")
        return [[u2s.Entity("PERSON", 0, 4)] if "anna" in text.lower() else [] for text in texts]


def test_a_text_that_a_recognizer_fails_on_stays_home(hub):
    data = mapped(said=(Value("string"), ["Anna at home", "a kiwi", "a cup", "a dog"]))
    push(data, keep=["said"], text_check=Failing())
    assert sorted(str(row["said"]) for row in published_rows(hub)) == ["None", "None", "a cup", "a dog"]
    assert NOT_CHECKED not in hub.files("org/photos-safe")["README.md"].decode()
