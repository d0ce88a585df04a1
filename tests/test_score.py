"""Scores against the libraries they stand on."""

import numpy as np
import pytest
from parts import RedSquares, picture
from skimage.metrics import structural_similarity

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets.metrics.privacy import text_similarity
from u2s_datasets.metrics.quality import ssim
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


def test_a_face_that_is_still_there_is_counted(photos):
    """Score looks for itself: a status that claims safety does not make it so."""
    original = str(photos / "people/astronaut.jpg")
    batch = {"image": [original], c.ANONYMIZED_IMAGE: [original], c.STATUS: [c.ANONYMIZED], c.PRIVACY_REVIEW: [[]]}
    scores = u2s.Score(inspect=Inspect(detectors=(u2s.Faces(),)))(batch)
    assert scores[c.RESIDUAL_FACES] == [1]
