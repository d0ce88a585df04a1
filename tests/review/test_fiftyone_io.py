"""Rows to FiftyOne and back without loss, in a real database."""

import datetime
import io
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PIL

import u2s_datasets as u2s
from tests.helpers.fiftyone_home import IGNORED, fo
from tests.helpers.run_files import files_of, private_rows, public_rows
from u2s_datasets import columns as c
from u2s_datasets.review.decisions import decide
from u2s_datasets.runs.manifest import locate_rows

pytestmark = IGNORED


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """The nine photos, and a file that is no image, through the real detectors."""
    home = tmp_path_factory.mktemp("run")
    shutil.copytree(photos, home / "photos")
    (home / "photos/things/broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    u2s.run(home / "photos", home / "out", keep=["label"], shard_size=4, num_proc=1)
    return home / "out"


@pytest.fixture(scope="module")
def shown(run, tmp_path_factory):
    return u2s.to_fiftyone(run, "shown", tmp_path_factory.mktemp("media") / "shown", persistent=False)


def test_a_run_comes_back_as_it_went(run, shown):
    back = u2s.from_fiftyone(shown)
    public = {row[c.ROW_ID]: row for row in public_rows(run)}
    rows = private_rows(run)
    assert back.column_names == [*c.PRIVATE, *c.REVIEW, "label", c.ANONYMIZED_IMAGE]
    assert back.features["label"] == ClassLabel(names=["papers", "people", "things"])
    stored = back.cast_column(c.ANONYMIZED_IMAGE, Image(decode=False))
    assert [row[c.ROW_ID] for row in stored] == [row[c.ROW_ID] for row in rows]
    for given, came in zip(rows, stored, strict=True):
        assert {name: came[name] for name in c.PRIVATE} == given
        assert came["label"] == public.get(given[c.ROW_ID], {}).get("label")
        assert came[c.ANONYMIZED_IMAGE] == public.get(given[c.ROW_ID], {}).get(c.ANONYMIZED_IMAGE)


def test_every_row_is_shown_from_the_media_folder_alone(run, shown):
    flat = shown.select_group_slices()
    media = Path(shown.info["u2s"]["media"])
    statuses = shown.count_values(c.STATUS)
    assert statuses == {c.SAFE: 5, c.ANONYMIZED: 4, c.WITHHELD: 1}
    assert len(flat) == 2 * 9 + 1
    paths = [Path(path) for path in flat.values("filepath")]
    assert all(path.is_relative_to(media) and path.is_file() for path in paths)
    assert stat.S_IMODE(media.stat().st_mode) == 0o700
    assert not [p for p in media.rglob("*") if any(word in p.name for word in ("astronaut", "page", "cat"))]


def test_review_items_are_detections_where_they_were_found(run, shown):
    row = next(row for row in private_rows(run) if row[c.SOURCE] == "people/astronaut.jpg")
    sample = shown.match(fo.ViewField(c.ROW_ID) == row[c.ROW_ID]).first()
    boxes = sample[c.PRIVACY_REVIEW].detections
    assert [box.label for box in boxes] == [i["category"] for i in row[c.PRIVACY_REVIEW]]
    x0, y0, x1, y1 = row[c.PRIVACY_REVIEW][0]["box"]
    assert boxes[0].bounding_box == pytest.approx([x0 / 512, y0 / 512, (x1 - x0) / 512, (y1 - y0) / 512])
    assert boxes[0].confidence == row[c.PRIVACY_REVIEW][0]["score"]


def test_views_to_begin_with(shown):
    views = shown.list_saved_views()
    assert {"flagged", "withheld", "needs review", "lowest scores"} <= set(views)
    flags = [row for row in u2s.from_fiftyone(shown) if row[c.PRIVACY_FLAG]]
    assert len(shown.load_saved_view("flagged")) == len(flags) >= 4
    risks = shown.load_saved_view("lowest scores").values("residual_risk")
    assert risks == sorted(risks, reverse=True)
    assert shown.app_config.media_fields == ["filepath", "original_path", "anonymized_path"]


def test_a_view_comes_back_as_its_rows(shown):
    faces = shown.match(fo.ViewField(c.STATUS) == c.ANONYMIZED)
    assert set(u2s.from_fiftyone(faces)[c.STATUS]) == {c.ANONYMIZED}
    shown.group_slice = "anonymized"
    try:
        assert len(u2s.from_fiftyone(shown.match(fo.ViewField(c.STATUS) == c.SAFE))) == 5
    finally:
        shown.group_slice = "original"


def test_a_box_that_was_moved_comes_back_moved(run, tmp_path):
    dataset = u2s.to_fiftyone(run, "moved", tmp_path, persistent=False)
    row = next(row for row in private_rows(run) if row[c.SOURCE] == "people/astronaut.jpg")
    sample = dataset.match(fo.ViewField(c.ROW_ID) == row[c.ROW_ID]).first()
    sample[c.PRIVACY_REVIEW].detections[0].bounding_box = [0.25, 0.5, 0.25, 0.25]
    sample.save()
    back = u2s.from_fiftyone(dataset.select(sample.id))[0][c.PRIVACY_REVIEW]
    assert back[0]["box"] == [128, 256, 256, 384] and back[1:] == row[c.PRIVACY_REVIEW][1:]


def test_without_its_source_a_run_is_shown_without_originals(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "out"))
    manifest = copy / "private/manifest.json"
    manifest.write_text(manifest.read_text().replace("photos", "gone"))
    dataset = u2s.to_fiftyone(copy, "gone", tmp_path / "media", persistent=False)
    assert {Path(path).name for path in dataset.values("original_path")} == {"no_image.png"}
    assert sum(map(len, dataset.values(f"{c.PRIVACY_REVIEW}.detections"))) >= 10
    assert u2s.from_fiftyone(dataset)[c.PRIVACY_REVIEW] == [row[c.PRIVACY_REVIEW] for row in private_rows(run)]


def test_a_rejected_row_is_withheld_at_once(run, tmp_path):
    rejected = next(row for row, place in locate_rows(run).items() if place.status == c.ANONYMIZED)
    try:
        decide(run, {rejected: "reject"}, by="ada")
        dataset = u2s.to_fiftyone(run, "rejected", tmp_path, persistent=False)
        row = next(row for row in u2s.from_fiftyone(dataset) if row[c.ROW_ID] == rejected)
    finally:
        (run / "private/reviews.json").unlink()
    assert (row[c.STATUS], row[c.REASON], row[c.REVIEW_BY]) == (c.WITHHELD, "rejected", "ada")
    assert row[c.ANONYMIZED_IMAGE] is None


def test_deleting_the_dataset_loses_nothing(run, tmp_path):
    before = files_of(run)
    dataset = u2s.to_fiftyone(run, "deleted", tmp_path, persistent=False)
    rows = u2s.from_fiftyone(dataset)[:]
    fo.delete_dataset("deleted")
    assert files_of(run) == before
    assert u2s.from_fiftyone(u2s.to_fiftyone(run, "deleted", tmp_path, persistent=False))[:] == rows


def test_an_import_that_was_cut_is_done_again_and_a_whole_one_asks(run, tmp_path):
    dataset = u2s.to_fiftyone(run, "cut", tmp_path, persistent=False)
    with pytest.raises(u2s.SetupError, match="pass overwrite=True"):
        u2s.to_fiftyone(run, "cut", tmp_path)
    dataset.info["u2s"] = {**dataset.info["u2s"], "complete": False}
    dataset.save()
    assert len(u2s.to_fiftyone(run, "cut", tmp_path, persistent=False)) == len(private_rows(run))
    fo.Dataset("theirs")
    with pytest.raises(u2s.SetupError, match="was not made by to_fiftyone"):
        u2s.to_fiftyone(run, "theirs", tmp_path, overwrite=True)


def encoded(picture: PIL.Image, format: str, **options) -> dict:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return {"bytes": out.getvalue(), "path": None}


def rows_of_every_kind() -> Dataset:
    rng = np.random.default_rng(0)
    picture = PIL.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8))
    exif = PIL.Exif()
    exif[0x0112] = 6
    images = [encoded(picture, "PNG"), encoded(picture, "TIFF"), encoded(picture, "JPEG", exif=exif), None]
    columns = {
        "image": images,
        "label": [1, 0, None, 1],
        "group": ["a", None, "b/ç", ""],
        "year": [2000, None, -3, 2**40],
        "weight": [0.1, None, 1e300, -0.0],
        "good": [True, False, None, True],
        "boxes": [[[1.5, 2.0]], [], None, [[0.25, 0.5], [3.0, 4.0]]],
        "two words": ["x", "y", None, "z"],
    }
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=["cat", "dog"]),
            "group": Value("string"),
            "year": Value("int64"),
            "weight": Value("float64"),
            "good": Value("bool"),
            "boxes": [[Value("float32")]],
            "two words": Value("string"),
        }
    )
    return Dataset.from_dict(columns, features=features)


def test_a_dataset_comes_back_as_it_went_whatever_its_columns(tmp_path):
    given = rows_of_every_kind().cast_column("image", Image(decode=False))
    back = u2s.from_fiftyone(u2s.to_fiftyone(given, "kinds", tmp_path, persistent=False))
    assert back.features == rows_of_every_kind().features
    assert back.cast_column("image", Image(decode=False))[:] == given[:]


def test_what_a_browser_cannot_show_is_shown_upright_as_something_it_can(tmp_path):
    dataset = u2s.to_fiftyone(rows_of_every_kind(), "shapes", tmp_path, persistent=False)
    sizes = list(zip(*dataset.values(["metadata.width", "metadata.height"]), strict=True))
    assert sizes == [(60, 40), (60, 40), (40, 60), (None, None)]
    for path in dataset.values("filepath"):
        with PIL.open(path) as image:
            assert image.format in ("PNG", "JPEG") and image.getexif().get(0x0112, 1) == 1


def test_the_steps_columns_of_a_dataset_come_back(photos, tmp_path):
    files = [str(photos / name) for name in ("people/astronaut.jpg", "things/coffee.jpg")]
    ds = Dataset.from_dict({"image": files}).cast_column("image", Image(decode=False))
    ds = ds.map(u2s.Anonymize(inspect=u2s.Inspect(detectors=(u2s.Faces(),))), batched=True).map(u2s.score, batched=True)
    back = u2s.from_fiftyone(u2s.to_fiftyone(ds, "steps", tmp_path, persistent=False))
    plain = [Image(decode=False) if isinstance(f, Image) else f for f in ds.features.values()]
    for name, feature in zip(ds.features, plain, strict=True):
        left, right = ds.cast_column(name, feature)[name], back.cast_column(name, feature)[name]
        if name == "image":
            left = [{"bytes": Path(value["path"]).read_bytes(), "path": None} for value in left]
        assert list(left) == list(right), name


def test_what_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(u2s.SetupError, match="cannot show a value of type int; expected a run"):
        u2s.to_fiftyone(3, "x", tmp_path)
    with pytest.raises(u2s.SetupError, match="no finished run in"):
        u2s.to_fiftyone(tmp_path, "x", tmp_path)
    days = Dataset.from_dict({"day": [datetime.date(2020, 1, 1)]})
    with pytest.raises(u2s.SetupError, match="column 'day' holds date, which FiftyOne cannot store; remove it first"):
        u2s.to_fiftyone(days, "x", tmp_path)
    with pytest.raises(u2s.SetupError, match="'plain' was not made by to_fiftyone"):
        u2s.from_fiftyone(fo.Dataset("plain"))
