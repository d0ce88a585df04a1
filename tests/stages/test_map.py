"""`.map` as users call it: on every kind of dataset, cached when nothing changed and only then."""

import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from datasets.fingerprint import Hasher

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Touchy, picture
from tests.helpers.steps import stored
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.stages.batch import EncodedImage
from u2s_datasets.stages.inspect import Inspect

RED = u2s.Anonymize(inspect=Inspect(detectors=(RedSquares(),)), format="png")
JUDGED = Inspect(detectors=(Touchy(),))


def encoded(image) -> dict:
    return {"bytes": images.encode(image, "png"), "path": None}


def dataset(*values, column="image") -> Dataset:
    return Dataset.from_dict({column: list(values)}, features=Features({column: Image()}))


@pytest.mark.slow
def test_the_ready_steps_on_a_folder_of_photos(photos):
    ds = load_dataset("imagefolder", data_dir=str(photos), split="train")
    before = stored(ds)
    ds = ds.map(u2s.anonymize, batched=True, batch_size=4)
    ds = ds.map(u2s.score, batched=True, batch_size=4)
    assert stored(ds) == before  # not even re-encoded
    assert ds.features == Features(
        {
            **{n: ds.features[n] for n in ("image", "label")},
            **c.features((*c.INSPECT, *c.CAPTION, *c.INSTRUCT, *c.ANONYMIZE, *c.SCORE)),
        }
    )
    assert ds[c.STATUS].count(c.WITHHELD) == 0
    assert all(v is None for v in (x["path"] for x in stored(ds, c.ANONYMIZED_IMAGE)))
    by_name = {Path(x["path"]).name: i for i, x in enumerate(before)}
    face = ds[by_name["astronaut.jpg"]]
    assert face[c.PRIVACY_FLAG] and face[c.STATUS] == c.ANONYMIZED and face[c.RESIDUAL_FACES] == 0
    assert face[c.ANONYMIZED_IMAGE].size == (512, 512)
    assert ds[by_name["brick.png"]][c.STATUS] == c.SAFE
    report = u2s.report(ds)
    assert report.rows == 9 == report.safe + report.anonymized + report.withheld


def test_steps_one_by_one_give_what_one_call_gives():
    ds = dataset(encoded(picture(red=True)), encoded(picture()))
    whole = ds.map(RED, batched=True)
    stepped = ds
    for step in (RED.inspect, RED.caption, RED.instruct, RED):
        stepped = stepped.map(step, batched=True)
    assert stepped.column_names == whole.column_names
    assert stored(stepped, c.ANONYMIZED_IMAGE) == stored(whole, c.ANONYMIZED_IMAGE)


def test_a_second_call_is_a_cache_hit_also_after_the_models_were_loaded(photos):
    step = u2s.Inspect(detectors=(u2s.Faces(),))
    ds = load_dataset("imagefolder", data_dir=str(photos / "things"), split="train")
    first = ds.map(step, batched=True)
    assert "_loaded" in vars(step.detectors[0])  # loaded by now
    second = ds.map(step, batched=True)
    fresh = ds.map(u2s.Inspect(detectors=(u2s.Faces(),)), batched=True)
    assert first._fingerprint == second._fingerprint == fresh._fingerprint
    assert [f["filename"] for f in first.cache_files] == [f["filename"] for f in second.cache_files]


def test_a_changed_option_is_a_miss():
    base = Hasher.hash(u2s.Anonymize())
    assert Hasher.hash(u2s.Anonymize()) == base
    for other in (u2s.Anonymize(seed=1), u2s.Anonymize(verify=False), u2s.Anonymize(editor=u2s.Redact(method="solid"))):
        assert Hasher.hash(other) != base


def test_a_pickled_step_is_its_configuration():
    step = u2s.Inspect(detectors=(u2s.Faces(),))
    before = pickle.dumps(step)
    step.detectors[0].detect([np.zeros((64, 64, 3), np.uint8)])
    assert pickle.dumps(step) == before
    assert len(before) < 2000
    assert pickle.loads(before) == step


def test_a_first_batch_of_nulls_fixes_no_type():
    rows = [
        {"bytes": b"broken", "path": None},
        {"bytes": b"", "path": None},
        encoded(picture()),
        encoded(picture(red=True)),
    ]
    ds = dataset(*rows).map(RED, batched=True, batch_size=2)
    assert ds[c.STATUS] == [c.WITHHELD, c.WITHHELD, c.SAFE, c.ANONYMIZED]
    assert isinstance(ds.features[c.ANONYMIZED_IMAGE], Image)
    assert stored(ds, c.ANONYMIZED_IMAGE)[0] is None
    assert ds[3][c.ANONYMIZED_IMAGE].size == (96, 64)


def test_remove_columns_removes_the_original():
    ds = dataset(encoded(picture(red=True))).add_column("label", [3])
    out = ds.map(RED, batched=True, remove_columns=["image"])
    assert "image" not in out.column_names
    assert out["label"] == [3]
    everything = ds.map(RED, batched=True, remove_columns=ds.column_names)
    assert set(everything.column_names) == {*c.INSPECT, *c.CAPTION, *c.INSTRUCT, *c.ANONYMIZE}


def test_dataset_dict_and_another_column_name():
    step = u2s.Anonymize(inspect=Inspect(detectors=(RedSquares(),)), image_column="photo")
    both = DatasetDict({s: dataset(encoded(picture(red=True)), column="photo") for s in ("train", "test")})
    out = both.map(step, batched=True)
    assert out["test"][c.STATUS] == [c.ANONYMIZED]


def test_streaming_undecoded_survives_a_corrupt_file():
    ds = dataset({"bytes": b"broken", "path": None}, encoded(picture(red=True)), encoded(picture()))
    stream = ds.to_iterable_dataset().cast_column("image", Image(decode=False))
    rows = list(stream.map(RED, batched=True, batch_size=2))
    assert [r[c.STATUS] for r in rows] == [c.WITHHELD, c.ANONYMIZED, c.SAFE]
    back = Dataset.from_list([{"image": r[c.ANONYMIZED_IMAGE]} for r in rows[1:]])
    direct = ds.map(RED, batched=True)
    assert stored(back) == stored(direct, c.ANONYMIZED_IMAGE)[1:]  # the encoded bytes went through


def test_streaming_decoded_images():
    stream = dataset(encoded(picture(red=True)), encoded(picture())).to_iterable_dataset()
    rows = list(stream.map(RED, batched=True, batch_size=2).map(u2s.Score(inspect=RED.inspect), batched=True))
    assert [r[c.STATUS] for r in rows] == [c.ANONYMIZED, c.SAFE]
    assert rows[1][c.SSIM] == 1.0


def test_an_encoded_image_that_is_painted_on_is_encoded_anew():
    data = images.encode(picture(red=True), "png")
    image = EncodedImage(data)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert buffer.getvalue() == data
    image.paste((0, 0, 0), (0, 0, 96, 64))
    again = io.BytesIO()
    image.save(again, "PNG")
    assert np.asarray(images.decode(again.getvalue()).pixels).max() == 0


def test_bad_calls_name_the_value_and_the_remedy():
    ds = dataset(encoded(picture()))
    with pytest.raises(u2s.SetupError, match=r"'image'.*photo.*image_column"):
        ds.rename_column("image", "photo").map(RED, batched=True)
    with pytest.raises(u2s.SetupError, match="batched=True"):
        ds.map(RED)
    with pytest.raises(u2s.SetupError, match="input_columns"):
        ds.map(RED, batched=True, input_columns=["image"])


def test_ray_like_batches_of_arrays():
    values = np.array([encoded(picture(red=True))["bytes"], b"broken"], dtype=object)
    answer = RED({"image": values})
    assert answer[c.STATUS] == [c.ANONYMIZED, c.WITHHELD]


def mapped(ds, kind: str | None, stream: bool) -> list[str]:
    """The statuses of a formatted dataset's rows."""
    made = (ds.to_iterable_dataset() if stream else ds).with_format(kind).map(RED, batched=True)
    return [row[c.STATUS] for row in (made if stream else made.with_format(None))]


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")  # of datasets' own formatter
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("width", [96, 120])
@pytest.mark.parametrize("kind", [None, "numpy", "pandas", "arrow", "torch", "jax", "polars", "tf"])
def test_a_formatted_dataset_works_or_is_one_error_with_the_remedy(kind, width, stream):
    module = {"tf": "tensorflow", None: "numpy", "arrow": "pyarrow"}.get(kind, kind)
    pytest.importorskip(module, reason=f"{module} is not installed: pip install {module}")
    ds = dataset(encoded(picture(red=True)), encoded(picture(seed=1).resize((width, 64))))
    if kind is None or (kind == "numpy" and not stream):
        assert mapped(ds, kind, stream) == [c.ANONYMIZED, c.SAFE]
        return
    if kind == "polars" and not stream:
        pytest.skip("datasets 5.2 itself raises a TypeError")
    with pytest.raises(u2s.SetupError, match=r"with_format\(None\)") as told:
        mapped(ds, kind, stream)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [None, "numpy"])
def test_a_formatted_row_instead_of_a_batch_is_refused(kind):
    ds = dataset(encoded(picture(red=True))).with_format(kind)
    with pytest.raises(u2s.SetupError, match="batched=True"):
        ds.map(RED)


@pytest.mark.parametrize("stream", [False, True])
def test_a_column_of_lists_of_images_is_refused(stream):
    ds = Dataset.from_dict({"image": [[encoded(picture())] * 2]}, features=Features({"image": List(Image())}))
    with pytest.raises(u2s.SetupError, match="make one row of each image first"):
        mapped(ds, None, stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("values", [[1, 2], [[0.5], [0.25]], [{"a": 1}, {"a": 2}], ["a grey cat", "two dogs"]])
def test_a_column_that_is_no_column_of_images_is_refused(values, stream):
    with pytest.raises(u2s.SetupError, match=r"'image' holds .*image_column="):
        mapped(Dataset.from_dict({"image": values}), None, stream)


def test_one_bad_text_among_paths_is_its_rows_own_fault(tmp_path):
    picture().save(tmp_path / "a.png")
    ds = Dataset.from_dict({"image": [str(tmp_path / "a.png"), "a grey cat", None, str(tmp_path / "gone.png")]})
    assert mapped(ds, None, False) == [c.SAFE, c.WITHHELD, c.WITHHELD, c.WITHHELD]


@pytest.mark.parametrize("kind", ["bool", "int8", "int64", "float32"])
def test_a_column_of_flags_of_any_type(kind):
    ds = dataset(encoded(picture()), encoded(picture(seed=1)))
    ds = ds.add_column(c.PRIVACY_FLAG, [1, 0]).cast_column(c.PRIVACY_FLAG, Value(kind))
    for of_users in (ds, ds.with_format("numpy")):
        assert list(of_users.map(RED, batched=True)[c.STATUS]) == [c.WITHHELD, c.SAFE]


def test_arrays_of_a_numpy_dataset_are_read_like_lists():
    mine = c.review_item("tattoo", "", "mine", (75, 45, 95, 63), 0.9)
    original = picture(seed=1)
    ds = dataset(encoded(picture()), encoded(original)).map(RED.inspect, batched=True).remove_columns(c.PRIVACY_REVIEW)
    ds = ds.add_column(c.PRIVACY_REVIEW, [[], [mine]], feature=c.features([c.PRIVACY_REVIEW])[c.PRIVACY_REVIEW])
    ds = ds.remove_columns(c.PRIVACY_FLAG).add_column(c.PRIVACY_FLAG, [False, True]).with_format("numpy")
    made = ds.map(RED, batched=True)
    assert list(made[c.STATUS]) == [c.SAFE, c.ANONYMIZED]
    assert not (made[1][c.ANONYMIZED_IMAGE] == np.asarray(original))[45:63, 75:95].all(axis=2).any()
    assert made.map(u2s.Score(inspect=RED.inspect), batched=True)[c.SSIM][0] == 1.0


def test_typed_answers_are_arrow_tables():
    seen = []
    dataset(encoded(picture())).map(lambda batch: seen.append(RED(batch)), batched=True, load_from_cache_file=False)
    assert isinstance(seen[0], pa.Table)
    assert Features.from_arrow_schema(seen[0].schema)[c.PRIVACY_FLAG] == Value("bool")
