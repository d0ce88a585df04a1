"""The quality gate, in a pipeline and by itself: what fails stays home, counted, with a reason."""

import dataclasses
import json
import math

import numpy as np
import pytest
from datasets import Dataset, Features, Image, IterableDataset

import u2s_datasets as u2s
from tests.helpers.fakes import Grid, RedSquares, Rewriter, picture, png
from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.report import report
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.profiles import Profile


def batch(**scores):
    """Rows that were rewritten, one per value."""
    n = len(next(iter(scores.values())))
    attempts = [{"editor": "Rewriter", "redacts": False, "residue": 0}]
    given = {
        c.ANONYMIZED_IMAGE: [png(picture(seed=i)) for i in range(n)],
        c.STATUS: [c.ANONYMIZED] * n,
        c.NOTE: [None] * n,
        c.PROVENANCE: [json.dumps({"editor": {"part": "Rewriter"}, "attempts": attempts})] * n,
    }
    return given | scores


def test_the_default_is_the_papers_filter_where_it_was_measured():
    made = u2s.Gate()(batch(clip_ratio=[0.71, 0.7, None, math.nan], ssim=[0.1, 0.2, 0.3, 0.4]))
    assert made[c.STATUS] == [c.ANONYMIZED, c.WITHHELD, c.ANONYMIZED, c.WITHHELD]
    assert [image is None for image in made[c.ANONYMIZED_IMAGE]] == [False, True, False, True]
    assert made[c.NOTE][1] == "quality: clip_ratio 0.7 is not above 0.7"
    assert made[c.SSIM] == [0.1, None, 0.3, None]  # withheld rows have no score


def test_any_score_may_be_limited():
    gate = u2s.Gate(above={c.VLM_SCORE: 50}, at_most={c.SSIM: 0.9, c.TEXT_RECALL: 0})
    made = gate(
        batch(vlm_score=[80.0, 20.0, 80.0, 80.0], ssim=[0.5, 0.5, 0.95, 0.5], text_recall=[0.0, 0.0, 0.0, 0.25])
    )
    assert made[c.STATUS] == [c.ANONYMIZED] + [c.WITHHELD] * 3
    assert made[c.NOTE][2:] == ["quality: ssim 0.95 is not at most 0.9", "quality: text_recall 0.25 is not at most 0"]
    assert u2s.Gate(strict=True)(batch(clip_ratio=[0.9]))[c.NOTE] == ["quality: faces_same was not measured"]


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32, np.float64, int])
def test_scores_of_any_type_of_number_are_judged(kind):
    made = u2s.Gate(above={c.VLM_SCORE: 70})(
        batch(vlm_score=np.array([80, 10, 80], kind), faces_same=np.array([0, 0, 5], kind))
    )
    assert made[c.STATUS] == [c.ANONYMIZED, c.WITHHELD, c.WITHHELD]
    assert made[c.NOTE][1:] == ["quality: vlm_score 10 is not above 70", "quality: faces_same 5 is not at most 0"]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, "0", b"0"])
def test_what_is_no_finite_number_passes_no_limit(score):
    for name in (c.CLIP_RATIO, c.FACES_SAME):
        made = u2s.Gate()(batch(**{name: [score]}))
        assert made[c.STATUS] == [c.WITHHELD] and made[c.NOTE][0].startswith(f"quality: {name} nan")
    redacted = json.dumps({"attempts": [{"editor": "Redact", "redacts": True, "residue": 0}]})
    assert u2s.Gate()(batch(residual_text=[score], provenance=[redacted]))[c.STATUS] == [c.WITHHELD]


def test_residue_in_the_sense_of_law_4():
    """New faces of a rewriting editor are none; a face that redaction left is, and so is the same person."""
    redacted = json.dumps({"attempts": [{"editor": "Theirs", "redacts": True, "residue": 0}]})
    left = json.dumps({"attempts": [{"editor": "Rewriter", "redacts": False, "residue": 2}]})
    rewritten = batch(residual_faces=[3])[c.PROVENANCE][0]
    safe = json.dumps({"editor": None, "attempts": []})
    made = u2s.Gate()(
        batch(
            residual_faces=[3, 3, 0, 0, 1, 0],
            faces_same=[0, None, 1, 0, None, 0],
            provenance=[rewritten, redacted, rewritten, left, safe, "no json"],
            anonymization_status=[c.ANONYMIZED] * 4 + [c.SAFE, c.ANONYMIZED],
        )
    )
    assert made[c.STATUS] == [c.ANONYMIZED] + [c.WITHHELD] * 5
    codes = [note and note.split(":")[0] for note in made[c.NOTE]]
    assert codes == [None, "residue", "quality", "residue", "residue", "residue"]
    assert set(codes) - {None} <= set(c.REASON_CODES)


def test_a_record_that_does_not_say_whether_its_editor_redacts_counts_as_redaction():
    silent = [json.dumps({"attempts": [{"editor": "Rewriter", "residue": 0}]}), json.dumps({"attempts": [7]}), None]
    made = u2s.Gate()(batch(residual_text=[1, 1, 1], provenance=silent))
    assert made[c.NOTE][::2] == ["residue: still found: residual_text"] * 2
    assert made[c.STATUS] == [c.WITHHELD] * 3


def test_limits_judge_edits_and_residue_judges_safe_rows_too():
    """Who looks for text alone keeps pictures of people, who are of course the same in a picture left as it is."""
    safe = json.dumps({"editor": None, "attempts": []})
    rows = batch(
        anonymization_status=[c.SAFE, c.ANONYMIZED, c.SAFE, c.SAFE],
        provenance=[safe, batch(ssim=[0])[c.PROVENANCE][0], safe, safe],
        faces_same=[2, 2, 0, 0],
        clip_ratio=[1.0, 1.0, 1.0, None],
        residual_text=[0, 0, 1, 0],
    )
    assert u2s.Gate()(rows)[c.STATUS] == [c.SAFE, c.WITHHELD, c.WITHHELD, c.SAFE]
    assert u2s.Gate(at_most={c.RESIDUAL_TEXT: 0}, residue=False)(rows)[c.STATUS][2] == c.WITHHELD
    assert u2s.Gate(strict=True)(rows)[c.STATUS][3] == c.SAFE  # a ratio to itself proves nothing


def test_rows_that_are_withheld_keep_their_reason():
    made = u2s.Gate()(batch(anonymization_status=[c.WITHHELD], anonymization_note=["residue: old"], clip_ratio=[0.1]))
    assert made[c.NOTE] == ["residue: old"]


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(SetupError, match="unknown score 'beauty'"):
        u2s.Gate(above={"beauty": 1}).check()
    with pytest.raises(SetupError, match="invalid limit nan of ssim"):
        u2s.Gate(at_most={c.SSIM: math.nan}).check()
    with pytest.raises(SetupError, match="no column 'anonymized_image'"):
        u2s.Gate()({"image": [1]})


def test_as_a_step_of_a_dataset_and_of_a_stream():
    columns = batch(clip_ratio=[0.9, 0.1, 0.9])
    features = Features({**c.features((*c.ANONYMIZE, c.CLIP_RATIO))})
    data = Dataset.from_dict({**columns, c.SEED: [1, 2, 3]}, features=features)
    made = data.map(u2s.Gate(), batched=True, batch_size=2)
    assert made[c.STATUS] == [c.ANONYMIZED, c.WITHHELD, c.ANONYMIZED]
    assert isinstance(made.features[c.ANONYMIZED_IMAGE], Image) and made[1][c.ANONYMIZED_IMAGE] is None
    assert made[0][c.ANONYMIZED_IMAGE].tobytes() == picture(seed=0).tobytes()
    assert report(made).reasons == {"quality": 1}
    stream: IterableDataset = data.to_iterable_dataset().map(u2s.Gate(), batched=True, batch_size=2)
    rows = list(stream)
    assert [row[c.ANONYMIZED_IMAGE] is None for row in rows] == [False, True, False]


def test_in_the_pipeline_after_score():
    inspect = Inspect(detectors=(RedSquares(),))
    step = u2s.Anonymize(editor=Rewriter(), inspect=inspect, format="png")
    score = u2s.Score(inspect=inspect, clip=Grid())
    gate = u2s.Gate(above={c.CLIP_RATIO: 100.0})
    items = [Item("a", picture(red=True)), Item("b", picture(red=True, seed=4))]
    open_, shut = (
        Pipeline(Profile("cpu", step, score, gate), b"0" * 16)([dataclasses.replace(i) for i in items])
        for gate in (None, gate)
    )
    assert [row[c.STATUS] for row in open_] == [c.ANONYMIZED] * 2
    assert any(row[c.CLIP_RATIO] is not None for row in open_)
    for row in shut:
        if row[c.STATUS] == c.WITHHELD:
            assert row[c.REASON] == "quality" and row[c.ANONYMIZED_IMAGE] is None
    assert [row[c.STATUS] for row in shut] == [
        c.ANONYMIZED if row[c.CLIP_RATIO] is None else c.WITHHELD for row in open_
    ]


def test_strict_lets_pass_what_has_nothing_to_be_like_and_nothing_else():
    gate = u2s.Gate(above={c.CLIP_RATIO: 0.7}, at_most={c.TEXT_SIMILARITY: 0.2}, strict=True)

    def fate(scores=(), unmeasured=(), scored_here=True):
        row = Row(None, {c.STATUS: c.ANONYMIZED, c.CLIP_RATIO: 0.9, c.RESIDUAL_TEXT: 0, **dict(scores)})
        row.edited, row.unmeasured = picture() if scored_here else None, dict.fromkeys(unmeasured, "error")
        gate.run([row])
        return row.fields[c.STATUS]

    assert fate() == c.ANONYMIZED  # nothing was read in the original
    assert fate({c.TEXT_SIMILARITY: 0.3}) == c.WITHHELD
    assert fate(unmeasured=[c.TEXT_SIMILARITY]) == fate(unmeasured=[c.IMAGE]) == c.WITHHELD
    assert fate(scored_here=False) == c.WITHHELD  # who knows what failed there?
    assert fate({c.RESIDUAL_TEXT: None}) == c.WITHHELD  # nobody read
    assert fate({c.CLIP_RATIO: None}) == c.WITHHELD
