"""The formulas against independent computations: numpy, rapidfuzz, scipy, and hand-worked values."""

import math

import numpy as np
import pytest
from rapidfuzz import fuzz
from scipy.stats import beta

from tests.helpers.fakes import picture
from u2s_datasets import columns as c
from u2s_datasets.errors import RowError, UnparsableAnswer
from u2s_datasets.parts.metrics.privacy import (
    RACES,
    Face,
    match_faces,
    paper_text_similarity,
    race_entropy,
    text_recall,
    text_similarity,
)
from u2s_datasets.parts.metrics.quality import clip_ratio, clip_similarity
from u2s_datasets.parts.metrics.reidentification import group_ranks, ranks, rate
from u2s_datasets.stages import vlm_questions
from u2s_datasets.stages.answers import parse_races, parse_text
from u2s_datasets.stages.batch import Row


def vectors(n: int, seed: int = 0, d: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def face(vector: list[float], x: float = 0.0) -> Face:
    return Face((x, 0.0, x + 10.0, 10.0), np.array(vector, np.float32))


def test_clip_similarity_is_the_cosine():
    a, b = vectors(2).astype(np.float64)
    expected = np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))
    assert clip_similarity(a, b) == pytest.approx(expected, abs=1e-6)
    assert clip_similarity(a, 3 * a) == pytest.approx(1.0, abs=1e-6)
    assert clip_similarity(a, 0 * a) is None
    assert clip_similarity(a, a * math.nan) is None
    with pytest.raises(ValueError, match="one encoder"):
        clip_similarity(a, b[:-1])


def test_clip_ratio_needs_an_original_that_fits():
    assert clip_ratio(0.21, 0.28) == pytest.approx(0.75)
    assert clip_ratio(0.2, 0.0) is None and clip_ratio(0.2, -0.1) is None
    assert clip_ratio(None, 0.2) is None and clip_ratio(0.2, None) is None


def test_text_similarity_is_rapidfuzz_on_folded_words():
    before, after = ["Fire EXIT", "Gate 12"], ["fire gate 13"]
    expected = fuzz.token_set_ratio("fire exit gate 12", "fire gate 13") / 100
    assert text_similarity(before, after) == pytest.approx(expected, abs=1e-6)
    assert paper_text_similarity(before, after) == fuzz.token_set_ratio("Fire EXIT Gate 12", "fire gate 13") / 100


def test_text_recall_is_the_share_of_words_that_survived():
    assert text_recall(["Anna Smith, Room 12"], ["smith 12"]) == 0.5
    assert text_recall(["stop", "stop", "go"], ["STOP!"]) == pytest.approx(2 / 3)
    assert text_recall(["stop"], []) == 0.0
    assert text_recall([], ["new words"]) is None and text_recall(["–"], ["x"]) is None


def test_faces_matched_vanished_new_and_same():
    a, b, other = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]
    assert match_faces([face(a), face(b, 50)], [face(a), face(b, 50)]).similarity == pytest.approx(1.0, abs=1e-6)
    gone = match_faces([face(a), face(b, 50)], [face(a, 200)])  # a moved, b is not there any more
    assert (gone.matched, gone.vanished, gone.new, gone.same) == (1, 1, 0, 1)
    assert gone.similarity == pytest.approx(0.5)
    exchanged = match_faces([face(a)], [face(other, 1), face(b, 80)])  # another face in the same place, one elsewhere
    assert (exchanged.matched, exchanged.vanished, exchanged.new, exchanged.same) == (1, 0, 1, 0)
    assert exchanged.similarity == 0.0


def test_faces_that_are_not_there():
    nobody, one = [], [face([1.0, 0, 0])]
    assert match_faces(nobody, nobody).similarity is None
    assert match_faces(nobody, one).new == 1
    vanished = match_faces(one, nobody)
    assert (vanished.similarity, vanished.vanished, vanished.before, vanished.after) == (0.0, 1, 1, 0)
    with pytest.raises(ValueError, match="broken"):
        match_faces(one, [face([0.0, 0, 0])])


def test_entropy_by_hand():
    made = race_entropy([["White"], ["Black"], ["White"], ["Indian"]])  # shares 1/2, 1/4, 1/4
    expected = (0.5 * math.log(2) + 2 * 0.25 * math.log(4)) / math.log(5)
    assert made.value == pytest.approx(expected, abs=1e-6)
    assert made.counts == {"White": 2, "Black": 1, "Asian": 1, "Hispanic": 0, "Other": 0}
    assert race_entropy([["White"], ["Black"], ["Asian"], ["Hispanic"], ["Other"]]).value == pytest.approx(1.0)
    assert race_entropy([["White"]] * 3).value == 0.0


def test_entropy_leaves_out_images_without_people_and_maps_every_label():
    made = race_entropy([["White"], [], None, ["Middle Eastern", "Indian"]])
    assert (made.n, made.without, made.missing) == (2, 1, 1)
    assert made.value == pytest.approx(math.log(3) / math.log(5))
    assert race_entropy([[], None]).value is None and race_entropy([]).value is None
    assert sum(race_entropy([[label] for label in RACES]).counts.values()) == 7
    assert race_entropy([["Asian", "Indian"]]).counts["Asian"] == 1
    with pytest.raises(ValueError, match="unknown label 'Martian'"):
        race_entropy([["Martian"]])


def test_ranks_are_those_of_a_sorted_gallery():
    gallery = vectors(300)
    queries = gallery[:200] + 1.5 * vectors(200, seed=1)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, gallery)]
    cosines = unit[0] @ unit[1].T
    expected = [1 + int((row > row[i]).sum()) for i, row in enumerate(cosines)]
    for block in (1, 7, 64, 1000):
        assert ranks(queries, gallery, range(200), block).tolist() == expected


def test_identical_images_are_always_found_and_unrelated_ones_at_chance():
    gallery = vectors(400)
    same = rate(ranks(gallery, gallery, range(400)), 400, 1)
    assert (same.rate, same.found) == (1.0, 400) and same.low > same.chance
    unrelated = ranks(vectors(400, seed=9), gallery, range(400))
    for k in (1, 5):
        made = rate(unrelated, 400, k)
        assert made.chance == k / 400
        assert made.low <= made.chance <= made.high


def test_a_tie_counts_for_the_attacker():
    gallery = np.repeat(vectors(1), 10, axis=0)
    assert ranks(gallery, gallery, range(10)).tolist() == [1] * 10


def test_ranks_by_the_nearest_face_whatever_the_blocks():
    random = np.random.default_rng(3)
    gallery, gallery_of = vectors(120), np.sort(np.r_[np.arange(40), random.integers(0, 40, 80)])
    queries, query_of = vectors(60, seed=5), np.sort(np.r_[np.arange(30), random.integers(0, 30, 30)])
    own = random.permutation(40)[:30]
    near = np.array(
        [
            [
                max(
                    float(q @ g / np.linalg.norm(q) / np.linalg.norm(g))
                    for q in queries[query_of == i]
                    for g in gallery[gallery_of == j]
                )
                for j in range(40)
            ]
            for i in range(30)
        ]
    )
    expected = [1 + int((near[i] > near[i, own[i]] + 1e-6).sum()) for i in range(30)]
    for block in (1, 16, 500):
        assert group_ranks(queries, query_of, gallery, gallery_of, own, block).tolist() == expected


def test_the_interval_is_clopper_and_pearsons():
    made = rate(np.array([1] * 3 + [9] * 17), 50, 1)
    assert made.low == pytest.approx(beta.ppf(0.025, 3, 18), abs=1e-6)
    assert made.high == pytest.approx(beta.ppf(0.975, 4, 17), abs=1e-6)
    nothing = rate(np.array([], int), 50, 1)
    assert (nothing.n, nothing.rate, nothing.low) == (0, None, None)
    with pytest.raises(ValueError, match="outside the gallery of 2"):
        ranks(vectors(1), vectors(2), [5])


def test_the_judge_sees_both_images_in_order():
    before, after = picture(), picture(red=True)
    message = vlm_questions.judge_request(before, after).messages[0]
    assert message.content[0] is before and message.content[1] is after
    assert "ANONYMIZATION_SCORE" in message.content[2] and "people" in message.content[2]


def test_answers_about_texts_and_people():
    assert parse_text("NO_TEXT") == [] and parse_text("**NO_TEXT**") == []
    assert parse_text("### TEXT\nFire exit\n\nGate [unclear] 12") == ["Fire exit", "Gate   12"]
    assert parse_races("### GENDER\nmale\n### RACE\nwhite, Middle Eastern, White") == ["White", "Middle Eastern"]
    assert parse_races("NO_HUMAN") == []
    for parse, text in (
        (parse_text, ""),
        (parse_text, "I see a sign."),
        (parse_text, "### TEXT\n"),
        (parse_races, "### RACE\nMartian"),
        (parse_races, "### GENDER\nmale"),
        (parse_races, "### RACE\n"),
        (parse_races, "NO_HUMAN or ### RACE\nWhite"),
    ):
        with pytest.raises(UnparsableAnswer):
            parse(text)


def test_a_judge_that_fails_on_one_row_leaves_the_others():
    import u2s_datasets as u2s

    rows = [Row(picture(seed=i), {}) for i in range(3)]
    for row in rows:
        row.edited = picture(red=True, corner=(i_of(row), 0, 0), seed=7)
    backend = u2s.Scripted(
        answers=((rf"{marker(rows[1])}", RowError("no", "no_answer")),), default="ANONYMIZATION_SCORE: 85/100"
    )
    assert vlm_questions.ask_vlm_scores(backend, rows) == [85.0, None, 85.0]
    assert rows[1].failure is not None and rows[0].failure is None
    assert c.VLM_SCORE not in rows[0].fields


def i_of(row: Row) -> int:
    return int(row.array[0, 0, 0])


def marker(row: Row) -> str:
    """How the scripted backend sees this row's original."""
    from u2s_datasets.parts.backends.scripted import transcript

    return (
        transcript(vlm_questions.judge_request(row.decoded.pixels, row.decoded.pixels))
        .split("<image")[1]
        .split(">")[0]
        .strip()
    )
