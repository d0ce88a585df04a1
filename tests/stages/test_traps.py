"""The eight traps of the method's first public code, each with what it did there and what happens here."""

import json
import re

import numpy as np
import pytest
import skimage.data
from PIL import Image
from rapidfuzz import fuzz
from skimage.metrics import structural_similarity

import u2s_datasets as u2s
from tests.helpers.fakes import Heads, RedSquares, pairs, picture, portrait
from tests.helpers.scripts import review
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts.backends.scripted import transcript
from u2s_datasets.parts.metrics.privacy import RACES, race_entropy, text_recall, text_similarity
from u2s_datasets.stages.answers import parse_flag, parse_score
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.vlm_questions import judge_request


@pytest.mark.parametrize(
    "said", ["**PRIVACY_FLAG:** TRUE", "PRIVACY_FLAG=TRUE", "- PRIVACY_FLAG: `TRUE`", "Flag: True."]
)
def test_1_a_decorated_flag_is_a_flag(said):
    """There it parsed to nothing, and nothing counted as safe."""
    assert re.fullmatch(r"PRIVACY_FLAG: (TRUE|FALSE)", said) is None
    assert parse_flag(said) is True


@pytest.mark.parametrize(
    "said", ["", " ", "PRIVACY_FLAG:", "I cannot say.", "PRIVACY_FLAG: TRUE or FALSE?", "false-ish"]
)
def test_1_no_flag_is_never_safe(said):
    with pytest.raises(UnparsableAnswer):
        parse_flag(said)
    made = u2s.Inspect(detectors=(), backend=u2s.Scripted(default=said or " "), method="generate")(
        {"image": [picture()]}
    )
    assert made[c.PRIVACY_FLAG] == [True]


def test_2_an_edit_that_does_nothing_has_an_ssim_of_1():
    """There a photo was cut to a multiple of 16 and stretched back, which alone cost half of it."""
    photo = Image.fromarray(skimage.data.coffee()).resize((640, 427))
    before = np.asarray(photo)
    stretched = np.asarray(photo.crop((0, 0, 640, 416)).resize(photo.size))
    assert structural_similarity(before, stretched, channel_axis=2, data_range=255) < 0.7
    padded, size = images.pad(photo, 16)
    assert padded.size == (640, 432)
    batch = {"image": [photo], c.ANONYMIZED_IMAGE: [images_png(images.unpad(padded, size))], c.STATUS: [c.ANONYMIZED]}
    assert u2s.Score(inspect=None)(batch)[c.SSIM] == [1.0]


def images_png(image):
    return {"bytes": images.encode(image, "png"), "path": None}


def test_3_the_judge_sees_two_images_and_its_number_is_bounded():
    """There one placeholder stood for both; "85/100" and "<85>" raised and 850 was taken."""
    before, after = picture(seed=1), picture(seed=2).resize((40, 40))
    words = transcript(judge_request(before, after))
    assert re.findall(r"<image (\d+x\d+)", words) == ["96x64", "40x40"]
    assert [parse_score(f"ANONYMIZATION_SCORE: {said}") for said in ("85/100", "<85>", "85")] == [85.0] * 3
    for said in ("850", "-5", "85 or 90"):
        with pytest.raises(UnparsableAnswer):
            parse_score(f"ANONYMIZATION_SCORE: {said}")
    judge = u2s.Scripted(answers=((r"96x64[^>]*>[^<]*<image 40x40", "85/100"),))
    assert u2s.Score(inspect=None, judge=judge)(pairs([before], [after]))[c.VLM_SCORE] == [85.0]


def test_4_faces_that_vanished_are_counted_and_lower_the_similarity():
    """There only faces with a counterpart entered the mean: one of two that was kept scored as if both were."""
    anna, ben = (10, 200, 30), (200, 40, 220)
    made = u2s.Score(inspect=None, faces=Heads())(pairs([portrait(anna, ben)], [portrait(anna)]))
    assert made[c.FACE_SIMILARITY][0] < 0.75
    assert [made[name][0] for name in (c.FACES_BEFORE, c.FACES_AFTER, c.FACES_VANISHED, c.FACES_SAME)] == [2, 1, 1, 1]
    nobody = u2s.Score(inspect=None, faces=Heads())(pairs([picture()], [picture(seed=1)]))
    assert nobody[c.FACE_SIMILARITY] == [None] and nobody[c.FACES_BEFORE] == [0]


def test_5_no_text_has_no_similarity_and_case_is_no_change():
    """There two empty texts scored 0, NO_TEXT beside itself 1, and a change of case was anonymization."""
    assert fuzz.token_set_ratio("", "") == 0 and fuzz.token_set_ratio("NO_TEXT", "NO_TEXT") == 100
    assert text_similarity([], []) is None and text_recall([], []) is None
    assert fuzz.token_set_ratio("ANNA SMITH", "anna smith") < 50
    assert text_similarity(["ANNA SMITH"], ["anna smith"]) == text_recall(["ANNA SMITH"], ["anna smith"]) == 1.0
    assert text_similarity(["anna smith of room 12"], ["anna"]) == 1.0  # a part scores as the whole, so beside it:
    assert text_recall(["anna smith of room 12"], ["anna"]) == pytest.approx(0.2)


def test_6_every_label_that_is_offered_counts_and_nobody_is_left_out():
    """There "Middle Eastern" and "Indian" were dropped, and an image without people counted as 0."""
    spread = [[name] for name in RACES]
    assert sum(race_entropy(spread).counts.values()) == len(spread) == 7
    assert sum(race_entropy(spread, paper_compat=True).counts.values()) == 5
    assert race_entropy([["White"], ["Black"], [], [], []]).value == race_entropy([["White"], ["Black"]]).value
    assert race_entropy([[], []]).value is None and race_entropy([[], []], paper_compat=True).value == 0.0


def test_7_an_images_seed_is_its_own():
    """There one global seed ran on: an interrupted run, another batch or order gave other images."""
    step = u2s.Anonymize(inspect=Inspect(detectors=(RedSquares(),)), format="png", seed=3)
    photos = [picture(red=True, seed=i) for i in range(4)]
    whole = step({"image": photos})
    for order in ([2], [3, 1], [3, 2, 1, 0]):
        part = step({"image": [photos[i] for i in order]})
        assert part[c.SEED] == [whole[c.SEED][i] for i in order]
        assert [x["bytes"] if isinstance(x, dict) else x.tobytes() for x in part[c.ANONYMIZED_IMAGE]] == [
            y["bytes"] if isinstance(y, dict) else y.tobytes() for y in (whole[c.ANONYMIZED_IMAGE][i] for i in order)
        ]


def test_8_no_model_is_told_a_folders_name(tmp_path):
    """There the parent folder was given to the captioner as a class, and the label leaked into the text."""
    folder = tmp_path / "oncology-ward"
    folder.mkdir()
    picture(red=True).save(folder / "photo.png")
    told = u2s.Scripted(answers=((r"(?i)oncology|photo\.png", "TOLD"),), default=review())
    caption = u2s.Caption(backend=told)
    made = u2s.Anonymize(inspect=Inspect(detectors=(RedSquares(),)), caption=caption, format="png")(
        {"image": [str(folder / "photo.png")]}
    )
    assert made[c.PUBLIC_CAPTION][0] is not None and "TOLD" not in json.dumps([made[n] for n in c.CAPTION])
