"""Scores against the libraries they stand on."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from skimage.metrics import structural_similarity

import u2s_datasets as u2s
from tests.helpers.fakes import ByPixels, Grid, Heads, RedSquares, Rewriter, pairs, picture, png, portrait
from u2s_datasets import columns as c
from u2s_datasets.parts.backends.scripted import transcript
from u2s_datasets.parts.metrics.privacy import text_similarity
from u2s_datasets.parts.metrics.quality import ssim
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (10, 10, 30, 40), (0, 0, 64, 96), (63, 95, 64, 96), (1, 1, 2, 2)])
def test_ssim_is_scikit_images(box):
    before = np.asarray(picture())
    after = before.copy()
    top, left, bottom, right = box
    after[top:bottom, left:right] = 255 - after[top:bottom, left:right]
    expected = structural_similarity(before, after, channel_axis=2, data_range=255)
    assert ssim(before, after) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_nothing_changed_of_tiny_and_of_misfits():
    before = np.asarray(picture())
    assert ssim(before, before.copy()) == 1.0
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert ssim(tiny, tiny) == 1.0
    assert ssim(tiny, tiny + 9) is None
    with pytest.raises(ValueError, match="differ"):
        ssim(before, before[:-1])


def test_text_similarity_of_nothing_read_is_none():
    assert text_similarity([], []) is None
    assert text_similarity(["Open", "24h"], ["open 24H"]) == 1.0
    assert text_similarity(["abc"], []) == 0.0


def test_scores_of_each_status():
    inspect = Inspect(detectors=(RedSquares(),))
    batch = {"image": [picture(), picture(red=True), b"no image"]}
    batch |= u2s.Anonymize(inspect=inspect, format="png")(batch)
    scores = u2s.Score(inspect=inspect)(batch)
    assert set(scores) == set(c.SCORE)
    assert scores[c.SSIM][0] == 1.0
    assert 0 < scores[c.SSIM][1] < 1
    assert scores[c.RESIDUAL_FACES] == [0, 0, None]
    assert all(values[2] is None for values in scores.values())
    assert scores[c.LPIPS] == [None] * 3


ANNA, BEN, CARL = (10, 200, 30), (200, 40, 220), (20, 20, 20)


def test_every_part_writes_its_own_columns():
    before, after = portrait(ANNA, BEN, size=(96, 64)), portrait(CARL, seed=1)
    of_before = transcript(u2s.Request((u2s.Message("user", (before,)),))).strip().removeprefix("user: ")
    reader = u2s.Scripted(
        answers=(
            ("compare two", "90"),
            (f"{of_before}.*\n*.*Copy out", "### TEXT\nGATE 12 closed"),
            ("Copy out", "### TEXT\nGate"),
            ("genders and which races", "### GENDER\nmale\n### RACE\nWhite, Indian"),
        )
    )
    step = u2s.Score(inspect=None, clip=Grid(), faces=Heads(), judge=reader, reader=reader, people=reader)
    step.check()
    made = step(pairs([before], [after], public_caption=["two people by a gate"]))
    assert made[c.VLM_SCORE] == [90.0]
    assert made[c.TEXT_RECALL] == [pytest.approx(1 / 3)]
    assert made[c.RACE_BEFORE] == made[c.RACE_AFTER] == [["White", "Indian"]]
    assert [made[n][0] for n in c.FACES] == [2, 1, 1, 1, 0, 0]
    a, b, t = Grid().embed_images([before, after]).tolist() + Grid().embed_texts(["two people by a gate"]).tolist()
    assert made[c.CLIP_SIMILARITY][0] == pytest.approx(np.dot(b, t) / np.linalg.norm(b) / np.linalg.norm(t), abs=1e-6)
    expected = made[c.CLIP_SIMILARITY][0] / (np.dot(a, t) / np.linalg.norm(a) / np.linalg.norm(t))
    assert made[c.CLIP_RATIO][0] == (pytest.approx(expected, abs=1e-6) if np.dot(a, t) > 0 else None)
    assert made[c.RESIDUAL_FACES] == [None]


def test_an_untouched_pair_scores_as_untouched():
    before = portrait(ANNA, BEN)
    made = u2s.Score(inspect=None, clip=Grid(), faces=Heads())(pairs([before], [before], public_caption=["a gate"]))
    assert made[c.SSIM] == [1.0] and made[c.FACE_SIMILARITY] == [pytest.approx(1.0, abs=1e-6)]
    assert made[c.FACES_SAME] == [2] and made[c.FACES_VANISHED] == [0]


def test_one_failing_row_stops_neither_its_other_scores_nor_the_others():
    befores = [picture(seed=0), picture(seed=1), b"no image", picture(seed=3)]
    afters = [picture(seed=5), picture(seed=6, corner=(0, 255, 0)), picture(seed=7), None]
    rows = [
        Row(i, {c.ANONYMIZED_IMAGE: a and png(a), c.PUBLIC_CAPTION: "a gate"})
        for i, a in zip(befores, afters, strict=True)
    ]
    u2s.Score(inspect=Inspect(detectors=(RedSquares(),)), clip=Grid(), faces=Heads()).run(rows)
    similarity, ssims, faces = ([r.fields[n] for r in rows] for n in (c.CLIP_SIMILARITY, c.SSIM, c.RESIDUAL_FACES))
    assert [v is None for v in similarity] == [False, True, True, True]
    assert [v is None for v in ssims] == [False, False, True, True]
    assert faces == [0, 0, 0, None]
    assert rows[1].unmeasured == {c.CLIP_SIMILARITY: "error"}
    assert set(rows[2].unmeasured) == {c.IMAGE}


def test_two_sizes_have_no_pixel_score_except_in_the_papers_way():
    batch = pairs([picture()], [picture(seed=2).resize((48, 32))])
    assert u2s.Score(inspect=None)(batch)[c.SSIM] == [None]
    stretched = np.asarray(picture(seed=2).resize((48, 32)).resize((96, 64), 3))
    expected = structural_similarity(np.asarray(picture()), stretched, channel_axis=2, data_range=255)
    assert u2s.Score(inspect=None, paper_compat=True)(batch)[c.SSIM] == [pytest.approx(expected, abs=1e-6)]


def test_a_batch_that_nothing_anonymized_has_nothing_to_score():
    with pytest.raises(u2s.SetupError, match=r"no column 'anonymized_image' to measure; map u2s.anonymize first"):
        u2s.score({"image": [picture()]})


def test_vanished_faces_count_except_in_the_papers_way():
    batch = pairs([portrait(ANNA)], [picture(seed=4)])
    ours, theirs = (u2s.Score(inspect=None, faces=Heads(), paper_compat=p)(batch) for p in (False, True))
    assert ours[c.FACE_SIMILARITY] == [0.0] and ours[c.FACES_VANISHED] == theirs[c.FACES_VANISHED] == [1]
    assert theirs[c.FACE_SIMILARITY] == [None]


def test_the_warning_names_what_has_no_part_once_and_runs_leave_it_to_their_report(caplog):
    step = u2s.Score(inspect=None, clip=Grid(), faces=Heads())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            step(pairs([picture()], [picture()]))
        u2s.Score(inspect=None).run([Row(picture(), {c.ANONYMIZED_IMAGE: png(picture())})])
    assert [r.getMessage().split(" are not")[0] for r in caplog.records] == ["lpips, vlm_score"]


def test_after_a_rewriting_editor_score_looks_at_what_is_there_and_not_at_what_is_left():
    """New people are no residue, yet they are counted, in a pipeline as on a stored dataset."""
    inspect = Inspect(detectors=(RedSquares(),))
    row = Row(picture(red=True), {})
    u2s.Anonymize(inspect=inspect, editor=Adds(), identity=ByPixels(), format="png").run([row])
    assert row.fields[c.STATUS] == c.ANONYMIZED and row.surviving_original == [] and row.remaining_detections is None
    u2s.Score(inspect=inspect).run([row])
    assert row.fields[c.RESIDUAL_FACES] == 1
    stored = {n: [row.fields[n]] for n in (c.ANONYMIZED_IMAGE, c.STATUS, c.PRIVACY_REVIEW, c.PROVENANCE)}
    assert u2s.Score(inspect=inspect)({"image": [picture(red=True)], **stored})[c.RESIDUAL_FACES] == [1]
    assert u2s.Gate()(stored | {c.NOTE: [None], c.RESIDUAL_FACES: [1]})[c.STATUS] == [c.ANONYMIZED]


@dataclass(frozen=True)
class Adds(Rewriter):
    """Paints everything anew, with somebody new in another corner."""

    def edit(self, edits):
        outputs = super().edit(edits)
        for output in outputs:
            output.paste((255, 0, 0), (70, 40, 90, 60))
        return outputs


def test_a_part_of_another_kind_and_a_judge_without_eyes_are_refused():
    with pytest.raises(u2s.SetupError, match=r"faces=Grid.* FaceEncoder"):
        u2s.Score(faces=Grid()).check()
    blind = type("Blind", (u2s.Scripted,), {"sees": False})()
    with pytest.raises(u2s.SetupError, match="judge=Blind takes no images"):
        u2s.Score(judge=blind).check()
