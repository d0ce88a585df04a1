"""The five texts that an editor can be told to draw."""

import json
from dataclasses import dataclass

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Rewriter, picture
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.stages.row_edit import PRIORS

RED = u2s.Inspect(detectors=(RedSquares(),))
HEARD: list[u2s.Edit] = []
TEXTS = {
    c.PRIVATE_CAPTION: "Anna plays a piano.",
    c.PUBLIC_CAPTION: "A person plays a piano.",
    c.EDIT_INSTRUCTION: "grey hair",
    c.EDIT_CAPTION: "A person with grey hair plays a piano.",
}
EXPECTED = [*TEXTS.items(), ("class_name", "a realistic image of grand piano")]


@dataclass(frozen=True)
class Drawing(Rewriter):
    """A rewriting editor that is driven by its target text and remembers its orders."""

    needs = ("target_prompt",)

    def edit(self, edits):
        HEARD.extend(edits)
        return super().edit(edits)


@dataclass(frozen=True)
class Instructed(Drawing):
    """One that is driven by its instruction."""

    needs = ("instruction",)


def batch(**texts):
    """One flagged row that has been through the first three steps."""
    given = {c.PRIVACY_FLAG: True, c.PRIVACY_SCORE: 1.0, c.PRIVACY_REVIEW: [], "kind": "grand_piano", **TEXTS, **texts}
    return {"image": [picture(red=True)], **{name: [value] for name, value in given.items()}}


def anonymize(given, editor=None, **options):
    HEARD.clear()
    step = u2s.Anonymize(inspect=RED, editor=editor or Drawing(), label_column="kind", format="png", **options)
    return step(given)


def test_there_are_five():
    assert {prior for prior, _ in EXPECTED} == set(PRIORS)


@pytest.mark.parametrize(("prior", "text"), EXPECTED)
def test_the_prior_becomes_the_target_text(prior, text):
    answer = anonymize(batch(), prior=prior)
    (edit,) = HEARD
    assert edit.target_prompt == text
    assert (edit.source_prompt, edit.instruction) == (TEXTS[c.PRIVATE_CAPTION], TEXTS[c.EDIT_INSTRUCTION])
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert json.loads(answer[c.PROVENANCE][0])["prior"] == prior
    assert "Anna" not in answer[c.PROVENANCE][0]


def test_the_merged_caption_is_the_default():
    anonymize(batch())
    assert HEARD[0].target_prompt == TEXTS[c.EDIT_CAPTION]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("empty", [None, "", " "])
def test_a_row_without_its_text_is_withheld(prior, empty):
    lacking = {"kind" if prior == "class_name" else prior: empty}
    answer = anonymize(batch(**lacking), prior=prior)
    assert answer[c.STATUS] == [c.WITHHELD] and not HEARD
    words = f"Drawing needs target_prompt, from prior={prior!r}, which is empty in this row"
    assert answer[c.NOTE] == [f"edit_failed: {words}"]


def test_an_editor_that_takes_instructions_needs_one_whatever_the_prior():
    assert anonymize(batch(**{c.EDIT_CAPTION: None}), Instructed())[c.STATUS] == [c.ANONYMIZED]
    answer = anonymize(batch(**{c.EDIT_INSTRUCTION: None}), Instructed(), prior="public_caption")
    assert answer[c.NOTE] == ["edit_failed: Instructed needs instruction, which is empty in this row"]


def test_redaction_reads_no_text():
    answer = anonymize(batch(**dict.fromkeys(TEXTS)), u2s.Redact(), prior="private_caption")
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert json.loads(answer[c.PROVENANCE][0])["prior"] is None


def test_priors_that_cannot_be_meant():
    with pytest.raises(u2s.SetupError, match="unknown prior 'caption'; expected one of: private_caption, class_name"):
        u2s.Anonymize(inspect=RED, prior="caption").check()
    with pytest.raises(u2s.SetupError, match="give label_column"):
        u2s.profile(
            detectors=["tests.helpers.fakes:RedSquares"], editor="tests.helpers.fakes:Rewriter", prior="class_name"
        )
    with pytest.raises(u2s.SetupError, match="no column 'kind'"):
        anonymize({"image": [picture()]}, prior="class_name")
    with pytest.raises(u2s.SetupError, match="not names"):
        anonymize(batch(kind=3), prior="class_name")


def labelled() -> Dataset:
    features = Features({"image": Image(), "kind": ClassLabel(names=["tuba", "grand_piano"])})
    pixels = [{"bytes": images.encode(picture(red=True, seed=i), "png"), "path": None} for i in range(3)]
    return Dataset.from_dict({"image": pixels, "kind": [1, 0, None]}, features=features)


def test_class_names_come_from_a_dataset_without_a_language_model():
    HEARD.clear()
    step = u2s.Anonymize(inspect=RED, editor=Drawing(), prior="class_name", label_column="kind")
    statuses = labelled().map(step, batched=True, load_from_cache_file=False)[c.STATUS]
    assert [e.target_prompt for e in HEARD] == [f"a realistic image of {name}" for name in ("grand piano", "tuba")]
    assert statuses[:] == [c.ANONYMIZED, c.ANONYMIZED, c.WITHHELD]


def test_a_whole_job_with_class_names(tmp_path):
    labelled().save_to_disk(tmp_path / "saved")
    HEARD.clear()
    options = {
        "detectors": ["tests.helpers.fakes:RedSquares"],
        "editor": f"{__name__}:Drawing",
        "num_proc": 1,
        "prior": "class_name",
    }
    facts = u2s.run(tmp_path / "saved", tmp_path / "out", keep=["kind"], label_column="kind", **options)
    assert (facts["anonymized"], facts["withheld"]) == (2, 1)
    assert {e.target_prompt for e in HEARD} == {f"a realistic image of {name}" for name in ("grand piano", "tuba")}
    assert facts["configuration"]["anonymize"]["prior"] == "class_name"
    (table,) = (pq.read_table(path) for path in (tmp_path / "out/data").glob("*.parquet"))
    assert sorted(table["kind"].to_pylist()) == [0, 1]


def test_the_name_of_a_folder_is_no_class(tmp_path):
    for name in ("anna", "zoe"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture(red=True).save(tmp_path / "photos" / name / "a.png")
    options = {
        "detectors": ["tests.helpers.fakes:RedSquares"],
        "editor": "tests.helpers.fakes:Rewriter",
        "prior": "class_name",
        "dry_run": True,
    }
    with pytest.raises(u2s.SetupError, match="since a folder's name is not a class"):
        u2s.run(tmp_path / "photos", tmp_path / "out", keep=["label"], label_column="label", **options)
    labelled().save_to_disk(tmp_path / "saved")
    with pytest.raises(u2s.SetupError, match="name it in --keep"):
        u2s.run(tmp_path / "saved", tmp_path / "out", label_column="kind", **options)


def test_the_prior_enters_the_fingerprint():
    from datasets.fingerprint import Hasher

    steps = [u2s.Anonymize(inspect=RED, prior=prior, label_column="kind") for prior in PRIORS]
    assert len({Hasher.hash(step) for step in steps}) == 5


def test_the_prior_changes_no_seed():
    assert len({anonymize(batch(), prior=prior)[c.SEED][0] for prior in PRIORS}) == 1
