"""The rooms of publishing one by one: search, audit, texts, cards, and the wheel that carries their templates."""

import dataclasses
import hashlib
import inspect
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Image
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import u2s_datasets as u2s
from tests.helpers.hostile_images import camera_jpeg, photo
from tests.helpers.published_run import ABOUT, anonymized, scene
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.evaluation.report.dataset_rows import DatasetRows
from u2s_datasets.images.same import untouched
from u2s_datasets.parts.docstrings import argument_docs
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.parts.metrics import intervals
from u2s_datasets.publish import card, push, summary, text_check
from u2s_datasets.publish.build import Builder, folder_files
from u2s_datasets.publish.candidate import Candidate
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.publish.options import PushOptions
from u2s_datasets.publish.original_finder import OriginalFinder
from u2s_datasets.publish.push import About
from u2s_datasets.publish.scan import PrivateIndex, scan
from u2s_datasets.runs.audit import checked_audit

ORIGINAL = camera_jpeg(photo())
CLEAN = images.encode(scene(0, red=False), "jpeg")
ROW = {
    "row_id": "0123456789abcdef0123456789abcdef",
    "anonymized_image": {"bytes": CLEAN, "path": None},
    "anonymization_status": "anonymized",
    "privacy_flag": True,
    "public_caption": "A person at a table.",
}


def index() -> PrivateIndex:
    """What must not be found: one flagged photo of one row."""
    known = PrivateIndex(words=["/home/maria/photos"])
    private = {"caption": "Maria Gonzalez reads her letter", "seed": 1234567890123456789, "original": ORIGINAL}
    known.add(Candidate(ROW, "anonymized", names=["Maria_Gonzalez_01.jpg", "Maria_Gonzalez_01"], **private))
    return known


def built(tmp_path, row=None, **schema_metadata):
    """One file as the builder writes it; with `schema_metadata`, as somebody else might."""
    names = [name for name in c.PUBLIC if name in ROW]
    builder = Builder(tmp_path / "data", tmp_path / "work", "default", "train", c.features(names), 10**9)
    builder.add({**ROW, **(row or {})})
    builder.finish()
    path = tmp_path / "data/data/train-00000-of-00001.parquet"
    if schema_metadata:
        table = pq.read_table(path)
        table = table.replace_schema_metadata(
            {**table.schema.metadata, **{k.encode(): v for k, v in schema_metadata.items()}}
        )
        pq.write_table(table, path)
    return list(scan(folder_files(tmp_path / "data"), index(), names))


def test_a_clean_file_passes(tmp_path):
    assert built(tmp_path) == []


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"anonymized_image": {"bytes": ORIGINAL}}, "holds an original file"),
        ({"anonymized_image": {"bytes": ORIGINAL}}, "holds EXIF"),
        ({"anonymized_image": {"bytes": ORIGINAL}}, "holds XMP"),
        ({"anonymized_image": {"bytes": ORIGINAL}}, "holds the pixels of a flagged original"),
        ({"anonymized_image": {"bytes": CLEAN + ORIGINAL}}, "holds an original file"),
        ({"anonymized_image": {"bytes": CLEAN + b"more"}}, "bytes after the image's end"),
        ({"anonymized_image": {"bytes": b"none"}}, "cannot be decoded"),
        ({"public_caption": "Here Maria Gonzalez reads her letter."}, "file name or private caption"),
        ({"public_caption": "It is Maria-Gonzalez 01."}, "file name or private caption"),
        ({"public_caption": "Noise 1234567890123456789"}, "holds a row's seed"),
        ({"public_caption": "See DSC_0017.jpg"}, "holds the name of an image file"),
        ({"public_caption": "From /home/maria/photos"}, "holds a path of this machine"),
        ({"public_caption": "From ~/pictures/summer"}, "holds a path"),
        ({"row_id": "f" * 32}, "a row that the gate did not see"),
        ({"anonymization_status": "withheld"}, "neither safe nor anonymized"),
    ],
)
def test_whatever_got_into_a_file_is_found(row, found, tmp_path):
    assert any(found in words for words in built(tmp_path, row))


def test_a_file_s_own_metadata_is_read(tmp_path):
    assert "metadata under [b'comment']" in " ".join(built(tmp_path, comment="Maria_Gonzalez_01.jpg"))
    assert "holds the name of an image file" in " ".join(built(tmp_path / "2", huggingface='{"from": "a.jpg"}'))


def test_a_file_of_another_name_or_with_another_column_is_no_part_of_it(tmp_path):
    table = pa.table({"row_id": ["f" * 32], "path": ["x"]})
    pq.write_table(table, tmp_path / "Maria_Gonzalez.parquet")
    found = list(scan(folder_files(tmp_path), index(), ["row_id"]))
    assert "'Maria_Gonzalez.parquet' is not a neutral name" in found
    assert "Maria_Gonzalez.parquet: has unknown columns: path" in found


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.binary(min_size=64, max_size=400), min_size=1, max_size=8, unique=True),
    before=st.binary(max_size=50),
    after=st.binary(max_size=50),
    data=st.data(),
)
def test_a_file_is_found_wherever_it_stands_and_only_whole(files, before, after, data):
    files = [bytes(range(40)) + file for file in files]  # varied enough to be looked for
    finder = OriginalFinder()
    for file in files:
        finder.add(file)
    wanted = data.draw(st.sampled_from(files))
    assert len(before) in list(finder.found_in(before + wanted + after))
    assert list(finder.found_in(before + wanted[:-1])) == []


def test_a_thousand_files_are_looked_for_at_once_across_chunks():
    rng = np.random.default_rng(0)
    finder, files = OriginalFinder(), [rng.bytes(3000) for _ in range(1000)]
    for file in files:
        finder.add(file)
    hay = bytearray(rng.bytes(17 * 1024 * 1024))
    edge = 16 * 1024 * 1024 - 1500
    hay[edge : edge + 3000] = files[7]
    assert list(finder.found_in(bytes(hay))) == [edge]


@pytest.mark.parametrize(("n", "leaks"), [(1, 0), (50, 0), (300, 0), (300, 3), (300, 299), (20, 20), (3000, 12)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_audit_s_bound_is_scipy_s(n, leaks, confidence):
    exact = 1.0 if leaks == n else stats.beta.ppf(confidence, leaks + 1, n - leaks)
    assert intervals.upper_bound(n, leaks, confidence) == pytest.approx(exact, abs=1e-9)


STATED = {"n": 300, "leaks": 0, "confidence": 0.95, "upper_bound": 0.01, "date": "2026-11-20"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, float(value)) for name in ("n", "leaks", "confidence", "upper_bound") for value in ("nan", "inf")]
    + [("leaks", 0.9), ("n", 300.5)],
)
def test_an_audit_of_numbers_that_are_none_is_no_audit(name, value):
    assert checked_audit(STATED).upper_bound == 0.01
    with pytest.raises(u2s.SetupError, match=f"{name}={value}"):
        checked_audit({**STATED, name: value})
    with pytest.raises(u2s.SetupError, match=f"invalid {name}={value}; expected"):
        u2s.push_to_hub(anonymized(), "org/x", audit={**STATED, name: value}, dry_run=True, **ABOUT)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_leak_rate_that_bounds_nothing_is_refused(rate):
    with pytest.raises(u2s.SetupError, match=f"invalid max_leak_rate={rate}; expected a number from 0 to 1"):
        u2s.push_to_hub(anonymized(), "org/x", max_leak_rate=rate, dry_run=True, **ABOUT)


@pytest.mark.parametrize("worst", [float("nan"), float("inf"), None])
def test_a_quality_that_bounds_nothing_is_refused(worst):
    with pytest.raises(u2s.SetupError, match=rf"quality\['ssim'\]={worst}; expected a finite number"):
        PublishGate(quality={"ssim": worst})


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_was_not_measured(value):
    gate = PublishGate(quality={"vlm_score": 60, "ssim": 0.9})
    assert not gate.admits(Candidate(ROW, "anonymized", scores={"vlm_score": value, "ssim": 0.5}))
    assert not gate.admits(Candidate(ROW, "anonymized", scores={"vlm_score": 70, "ssim": value}))
    assert gate.held_back["below_quality"] == 2
    assert gate.measured == {"vlm_score": 1, "ssim": 1}


def test_no_photo_of_another_column_stands_in_a_report_as_the_original():
    data = anonymized()
    cover = data.add_column("cover", [CLEAN] * 8).cast_column("cover", Image())
    assert DatasetRows(data).image == DatasetRows(cover).image == "image"
    assert DatasetRows(data.rename_column("image", "photo")).image == "photo"
    assert DatasetRows(cover.rename_column("image", "photo")).image is None


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("A photo of a cat", "cat.jpg", False),
        ("A photo of Maria Gonzalez", "maria_gonzalez.jpg", True),
        ("photo of MariaGonzalez01", "Maria Gonzalez 01.jpg", True),
        ("Image 20240001", "IMG20240001.jpg", False),
        ("It is IMG20240001", "IMG20240001.jpg", True),
        ("The channel", "ann.jpg", False),
    ],
)
def test_a_text_that_says_a_file_s_name(text, name, says):
    assert text_check.says_name(text, name) is says


def test_a_generic_caption_may_stand_as_it_is_and_a_model_s_may_not():
    stated = {"category": "face", "item": "", "reason": "", "box": [60, 50, 90, 70], "score": 0.9}
    generic = "A landscape photo with one face (centre)."
    row = Candidate({"public_caption": generic}, "anonymized", review=[stated], caption=generic)
    assert list(text_check.find_private_text(row, (), (160, 120))) == []
    own = "a nurse in blue leans on a red car"
    row = Candidate({"public_caption": f"Outdoors, {own}."}, "anonymized", review=[stated], caption=own)
    assert list(text_check.find_private_text(row, (), (160, 120))) == [("public_caption", "holds the private caption")]


def test_a_class_that_the_user_publishes_may_be_said():
    private = {"caption": "A woman before the Eiffel Tower.", "review": []}
    public = {"public_caption": "A person before the Eiffel Tower."}
    said = text_check.find_private_text(Candidate(public, "anonymized", **private), (), (160, 120))
    assert list(said) == [("public_caption", "says what was private in its image")]
    named = Candidate(public, "anonymized", classes="Eiffel Tower", **private)
    assert list(text_check.find_private_text(named, (), (160, 120))) == []


def test_compressing_anew_is_no_edit_and_hiding_a_face_is_one():
    before = photo("astronaut.png", (256, 256))
    for quality in (60, 80, 95):
        out = io.BytesIO()
        before.save(out, "jpeg", quality=quality)
        stored = images.decode(out.getvalue()).pixels
        assert untouched(stored, images.decode(images.encode(stored, "jpeg")).pixels)
    edited = before.copy()
    edited.paste((90, 90, 90), (100, 40, 116, 56))
    assert not untouched(before, edited)


# Cards


def test_a_card_of_a_dataset_says_what_is_not_known():
    plan = u2s.push_to_hub(anonymized(), "org/x", dry_run=True, **ABOUT)
    text = plan.card
    assert "Profile: not recorded" in text and "Code: not recorded" in text and "Prompts: not recorded" in text
    assert "Scores: not measured" in text or "Not measured:" in text
    assert "Not audited" in text
    read = DatasetCard(text)
    assert read.data["license"] == "cc0-1.0" and read.data["size_categories"] == ["n<1K"]
    assert read.data["dataset_info"]["splits"][0]["num_examples"] == 8


def test_models_come_with_revision_and_licence_and_prompts_with_digests():
    editor = {"part": "FlowEdit", "model": "org/sd", "revision": "a" * 40, "region": "image", "inspect": None}
    asked = {name: {"backend": None} for name in ("inspect", "caption", "instruct")}
    steps = {"part": "Anonymize", "editor": editor, **asked}
    (one,) = summary.list_parts(steps, {}, {"org/sd": "openrail"})
    assert one == {
        "part": "FlowEdit",
        "model": "org/sd",
        "revision": "a" * 40,
        "licence": "openrail",
        "settings": {"region": "image"},
    }
    assert summary.prompt_digests({"anonymize": steps, "code": code_digest()}) == {}
    steps["inspect"] = {"backend": {"part": "TransformersBackend"}}
    digests = summary.prompt_digests({"anonymize": steps, "code": code_digest()})
    caption = Path(u2s.__file__).parent / "stages/prompts/caption.txt"
    assert digests["caption"] == hashlib.sha256(caption.read_bytes()).hexdigest()
    assert summary.prompt_digests({"anonymize": steps, "code": "of another version"}) is None


def test_a_missing_fact_is_an_error():
    with pytest.raises(KeyError):
        card.dataset_card("org/x", About(**ABOUT), {"configs": {"default": {"train": {"counts": {}}}}, "changelog": []})
    assert list(About("", "", "").missing()) != []
    assert list(About("other", "original", "mit").missing()) == ["license='other' needs license_link (--license-link)"]


MODEL = {
    "license": "openrail",
    "base_model": "org/base",
    "base_license": "openrail",
    "library_name": "diffusers",
    "pipeline_tag": "image-to-image",
    "datasets": ["org/pairs"],
    "training": {"steps": 1000, "learning rate": 1e-5},
    "metrics": "",
    "limits": "It was trained on squares of 256 pixels.",
}


def test_a_model_card_is_valid_and_asks_for_every_fact():
    text = u2s.model_card("org/editor", **MODEL)
    read = ModelCard(text)
    assert read.data["base_model"] == "org/base" and read.data["datasets"] == ["org/pairs"]
    assert "not measured" in text and "| steps | 1000 |" in text
    for name in MODEL:
        with pytest.raises(u2s.SetupError, match=name):
            u2s.model_card("org/editor", **{k: v for k, v in MODEL.items() if k != name})
    with pytest.raises(u2s.SetupError, match="lacks"):
        u2s.model_card("org/editor", **{**MODEL, "base_license": ""})


def test_the_command_has_help():
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "push", "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: u2s push") and "required" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "ssim"], "invalid --quality 'ssim'; expected SCORE=WORST"),
        (["--quality", "ssim=low"], "invalid --quality ['ssim=low']; expected a number behind each ="),
        (["--model-licence", "org/sd"], "invalid --model-licence 'org/sd'; expected MODEL=LICENCE"),
        (["--max-shard-size", "0", "--config-name", "data"], "config_name='data' cannot stand in public paths"),
    ],
)
def test_options_that_cannot_be_read_are_named(options, message, tmp_path, capsys):
    assert main(["push", str(tmp_path), "org/x", *options]) == 2
    assert capsys.readouterr().err.startswith(f"u2s: {message}")


def test_what_is_typed_arrives_as_python_takes_it(monkeypatch):
    arrived = {}
    monkeypatch.setattr(push, "push_to_hub", lambda *words, **options: arrived.update(options) or PREVIEW)
    words = ["--public", "--task", "a, b", "--quality", "ssim=0.9", "--quality", "vlm_score=60", "--gated", "manual"]
    assert main(["push", "one", "org/x", *words, "--model-licence", "dir/a=b=mit", "--dry-run", "-q"]) == 0
    assert arrived == {
        "private": False,
        "task_categories": ["a", "b"],
        "quality": {"ssim": 0.9, "vlm_score": 60.0},
        "gated": "manual",
        "model_licences": {"dir/a=b": "mit"},
        "dry_run": True,
        "progress": False,
        "config_name": "default",
        "split": "train",
        "max_shard_size": "500MB",
    }


PREVIEW = push.PushPreview({}, {}, {})


def test_an_original_is_decoded_once(monkeypatch):
    data, seen = anonymized(), Counter()
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda stored: seen.update([stored]) or decode(stored))
    assert not u2s.push_to_hub(data, "org/x", dry_run=True, **ABOUT).reasons
    originals = [row["image"]["bytes"] for row in data.cast_column("image", Image(decode=False))]
    assert [seen[original] for original in originals] == [0, 1] * 4  # those of safe rows are not looked at


def test_the_options_of_a_push_are_declared_once():
    signature = inspect.signature(u2s.push_to_hub).parameters
    given = {name: p.default for name, p in signature.items() if p.kind is p.KEYWORD_ONLY}
    assert given == {option.name: option.default for option in dataclasses.fields(PushOptions)}
    assert set(argument_docs(PushOptions)) == set(given)
    assert "hf_secret" not in repr(PushOptions(token="hf_secret"))
    for name, text in argument_docs(PushOptions).items():
        assert f"        {name}: {text}\n" in u2s.push_to_hub.__doc__
