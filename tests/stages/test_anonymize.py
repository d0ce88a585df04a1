"""The steps and their laws, with parts that fail on purpose."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from skimage import data

import u2s_datasets as u2s
from tests.helpers.fakes import Dim, RedSquares, Rewriter, picture
from tests.helpers.scripts import GONE
from tests.helpers.steps import RED, anonymize, pixels
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import RowError
from u2s_datasets.parts import Detection
from u2s_datasets.stages import residue
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect


def test_safe_leaves_as_it_is_and_flagged_loses_its_red_square():
    safe, private = picture(), picture(red=True)
    answer = anonymize([safe, private])
    assert answer[c.STATUS] == [c.SAFE, c.ANONYMIZED]
    assert np.array_equal(pixels(answer, 0), np.asarray(safe))
    assert RedSquares().detect([pixels(answer, 1)]) == [[]]
    assert answer[c.PRIVACY_FLAG] == [False, True]
    assert answer[c.PRIVACY_REVIEW][1][0]["box"] == [30.0, 20.0, 60.0, 40.0]


YES = u2s.Scripted(default={"TRUE": 1.0})
FLAGGED_BY_A_MODEL = Inspect(detectors=(RedSquares(),), backend=YES)


def test_a_box_does_not_answer_for_a_model_s_flag():
    """The model goes on flagging what redaction hid a corner of, so the row is withheld; a weak box is no reason."""
    for detector in (RedSquares(), RedSquares(flag_threshold=0.95)):
        inspect = Inspect(detectors=(detector,), backend=YES)
        answer = anonymize([picture(red=True)], inspect=inspect)
        assert answer[c.STATUS] == [c.WITHHELD]
        assert answer[c.NOTE][0].startswith("residue")
        assert anonymize([picture(red=True)], inspect=inspect, verify=False)[c.STATUS] == [c.WITHHELD]


def test_redaction_of_what_a_model_flagged_passes_once_the_model_is_content():
    red = picture(red=True)
    colour = tuple(np.asarray(red).mean(axis=(0, 1)).astype(int))
    seen = u2s.Scripted(answers=(("#{:02x}{:02x}{:02x}".format(*colour), {"TRUE": 1.0}),), default={"FALSE": 1.0})
    answer = anonymize([red], inspect=Inspect(detectors=(RedSquares(),), backend=seen))
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert json.loads(answer[c.PROVENANCE][0])["verified"] is True


def test_a_weak_box_alone_is_no_reason_for_a_flag_that_somebody_gave():
    inspect = Inspect(detectors=(RedSquares(flag_threshold=0.95),))
    given = {"image": [picture(red=True)], c.PRIVACY_FLAG: [True]}
    answer = u2s.Anonymize(inspect=inspect, format="png")(given)
    assert answer[c.STATUS] == [c.WITHHELD] and answer[c.NOTE][0].startswith("nothing_to_edit")


def test_what_remains_is_redacted_and_nobody_who_was_not_asked_clears_it():
    """Flagged by somebody's model in an earlier call; here is no model that could look again."""
    judged = {"category": c.JUDGED, "item": "", "reason": "", "box": None, "score": 1.0}
    given = {c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [1.0], c.PRIVACY_REVIEW: [[judged]]}
    weak = Inspect(detectors=(RedSquares(flag_threshold=0.95),))
    step = u2s.Anonymize(inspect=weak, editor=Rewriter(), format="png", attempts=1)
    answer = step({"image": [picture(red=True)], **given})
    assert answer[c.STATUS] == [c.WITHHELD] and answer[c.NOTE][0].startswith("unproven")


def test_a_rewriting_editor_gets_no_boxes_where_a_model_saw_more():
    orders = []

    @dataclass(frozen=True)
    class Listening(Rewriter):
        def edit(self, edits):
            orders.extend(edits)
            return super().edit(edits)

    anonymize([picture(red=True)], inspect=FLAGGED_BY_A_MODEL, editor=Listening())
    assert orders[0].boxes == ()
    anonymize([picture(red=True)], editor=Listening())
    assert len(orders[1].boxes) == 1


def test_a_change_of_tone_is_no_rewriting():
    astronaut = Image.fromarray(data.astronaut())
    box = Detection("face", (170.0, 70.0, 280.0, 190.0), 1.0)
    before = np.asarray(astronaut)
    for after in (np.clip(before * 0.8 + 20, 0, 255), np.clip(before.astype(int) + 14, 0, 255)):
        after = after.astype(np.uint8)
        assert np.abs(before.astype(int) - after).mean() > 10
        assert residue.find_residue([], before, after, [box], absolute=False) == [box]


def test_some_changed_pixels_prove_nothing_of_a_program_that_looks_for_itself():
    """A program that stores a picture once more changes every pixel a little."""
    before = data.astronaut()
    after = np.asarray(Image.open(io.BytesIO(images.encode(Image.fromarray(before), "jpeg"))))
    box = Detection("face", (170.0, 70.0, 280.0, 190.0), 1.0)
    assert residue.find_residue([], before, after, [box], absolute=True, ours=False) == [box]


def test_a_picture_flagged_as_a_whole_that_comes_back_as_it_was_is_withheld():
    """Whatever the model says that compares them."""
    answer = anonymize([picture()], inspect=FLAGGED_BY_A_MODEL, editor=Dim(), judge=u2s.Scripted(GONE))
    assert answer[c.STATUS] == [c.WITHHELD]
    assert answer[c.NOTE][0].startswith("residue")
    assert len(json.loads(answer[c.PROVENANCE][0])["attempts"]) == 3


@pytest.mark.parametrize("flag", [True, 1, 1.0, np.True_, np.int8(1), "true", float("nan")])
def test_a_flag_that_was_given_alone_is_one_in_any_type(flag):
    answer = u2s.Anonymize(inspect=RED)({"image": [picture()], c.PRIVACY_FLAG: [flag]})
    assert answer[c.PRIVACY_FLAG] == [True]
    assert answer[c.STATUS] == [c.WITHHELD]


@pytest.mark.parametrize("flag", [None, False, 0, 0.0, np.False_, np.int8(0)])
def test_no_flag_was_given(flag):
    answer = u2s.Anonymize(inspect=RED)({"image": [picture()], c.PRIVACY_FLAG: [flag]})
    assert answer[c.PRIVACY_FLAG] == [False]
    assert answer[c.STATUS] == [c.SAFE]


@pytest.mark.parametrize("missing", [c.PRIVACY_SCORE, c.PRIVACY_FLAG])
@pytest.mark.parametrize("red", [True, False])
def test_a_given_review_is_kept_without_the_columns_beside_it(missing, red):
    original = picture(red=red)
    given = {
        c.PRIVACY_FLAG: [True],
        c.PRIVACY_SCORE: [0.9],
        c.PRIVACY_REVIEW: [[c.review_item("tattoo", "", "mine", (75, 45, 95, 63), 0.9)]],
    }
    del given[missing]
    answer = u2s.Anonymize(inspect=RED, format="png")({"image": [original], **given})
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert answer[c.PRIVACY_FLAG] == [True]
    assert [i["category"] for i in answer[c.PRIVACY_REVIEW][0]] == ["tattoo", *(["face"] if red else [])]
    assert not (pixels(answer, 0) == np.asarray(original))[45:63, 75:95].all(axis=2).any()


def test_a_flag_that_was_given_alone_brings_weak_readings_into_the_review():
    class Weak(Reads):
        categories = ("text",)

    inspect = Inspect(detectors=(Weak(flag_threshold=0.95),))
    assert u2s.Anonymize(inspect=inspect)({"image": [picture(red=True)]})[c.PRIVACY_REVIEW] == [[]]
    answer = u2s.Anonymize(inspect=inspect)({"image": [picture(red=True)], c.PRIVACY_FLAG: [True]})
    assert [i["item"] for i in answer[c.PRIVACY_REVIEW][0]] == ["ZX 81 QQ7"]


def test_a_failure_in_a_review_counts_without_the_columns_beside_it():
    failed = RED({"image": [b"no image"]})[c.PRIVACY_REVIEW]
    answer = u2s.Anonymize(inspect=RED)({"image": [picture()], c.PRIVACY_REVIEW: failed})
    assert answer[c.STATUS] == [c.WITHHELD]
    assert answer[c.NOTE][0].startswith("unreadable")
    assert answer[c.PRIVACY_REVIEW] == [failed[0]]


def test_boxes_of_the_user_are_hidden_too():
    original = picture()
    batch = {"image": [original, original], "mine": [[[10, 10, 30, 30]], []]}
    answer = u2s.Anonymize(inspect=RED, boxes_column="mine", format="png")(batch)
    assert answer[c.STATUS] == [c.ANONYMIZED, c.SAFE]
    inside = np.s_[10:30, 10:30]
    assert np.abs(pixels(answer, 0)[inside].astype(int) - np.asarray(original)[inside]).mean() > 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "gif"}, "'gif'.*auto, jpeg, png, webp"),
        ({"attempts": 0}, "attempts=0; expected an integer >= 1"),
        ({"inspect": Inspect(detectors=())}, r"detectors=\(\)"),
        (
            {"inspect": Inspect(detectors=("faces",))},
            "detectors='faces'; expected an object of class Detector, such as u2s",
        ),
        ({"inspect": Inspect(detectors=u2s.Faces())}, r"detectors=Faces\(…\); expected a tuple such as "),
        ({"inspect": Inspect(backend="vllm")}, "backend='vllm'; expected an object of class Backend, such as u2s"),
        ({"inspect": Inspect(threshold="0.2")}, "threshold='0.2'; expected a finite number"),
        ({"inspect": u2s.Faces()}, r"inspect=Faces\(…\); expected an object of class Inspect"),
        ({"instruct": u2s.Instruct(backend="vllm")}, "backend='vllm'; expected an object of class Backend"),
        ({"caption": u2s.Caption(backend="vllm")}, "backend='vllm'; expected an object of class Backend"),
        ({"editor": "solid"}, r"editor='solid'; expected an object of class Editor, such as u2s.Redact\("),
        ({"editor": u2s.Redact}, r"editor=<class .*Redact'>; expected an object of class Editor, such as u2s.Redact"),
        ({"seed": "x"}, "seed='x'; expected an integer"),
    ],
)
def test_bad_options_name_the_value_and_the_remedy(options, words):
    with pytest.raises(u2s.SetupError, match=words):
        anonymize([picture()], **options)


def test_the_pattern_that_is_painted_tells_nothing_of_what_it_hides():
    """Two pictures that differ only inside the box come out alike: no hash of the inside enters the noise."""
    first, second = picture(), picture()
    second.paste((0, 90, 180), (12, 12, 28, 28))
    batch = {"image": [first, second], "mine": [[[10, 10, 30, 30]]] * 2}
    answer = u2s.Anonymize(inspect=RED, boxes_column="mine", format="png")(batch)
    assert np.array_equal(pixels(answer, 0), pixels(answer, 1))
    assert answer[c.SEED][0] == answer[c.SEED][1]


IMPOSSIBLE = [
    ([[0.2, 0.2, 0.7, 0.7]], "relative to the image's size"),
    ([[10, 10, 30, 30], [500, 500, 600, 600]], "outside the image"),
    ([[30, 10, 10, 30]], "no area"),
    ([[1, 2, 3]], "invalid box"),
    ([[10, 10, 30, float("nan")]], "no area"),
]


@pytest.mark.parametrize(("boxes", "words"), [(None, "no boxes were given"), *IMPOSSIBLE])
def test_boxes_that_cannot_be_meant_withhold_their_row(boxes, words):
    batch = {"image": [picture(), picture()], "mine": [boxes, []]}
    answer = u2s.Anonymize(inspect=RED, boxes_column="mine")(batch)
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert answer[c.NOTE][0].startswith("boxes: ") and words in answer[c.NOTE][0]


@pytest.mark.parametrize("score", [{c.PRIVACY_SCORE: [0.9, 0.0]}, {}])
@pytest.mark.parametrize(("boxes", "words"), IMPOSSIBLE)
def test_a_review_s_boxes_that_cannot_be_meant_withhold_their_row(boxes, words, score):
    """Also where a detector finds something else, which could be hidden."""
    review = [c.review_item("tattoo", "", "mine", box, 0.9) for box in boxes]
    given = {c.PRIVACY_FLAG: [True, False], c.PRIVACY_REVIEW: [review, []], **score}
    answer = u2s.Anonymize(inspect=RED)({"image": [picture(red=True), picture()], **given})
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert answer[c.NOTE][0].startswith("boxes: ") and words in answer[c.NOTE][0]


@pytest.mark.parametrize(
    "review",
    [
        [None],
        "tattoo",
        ["tattoo"],
        [{"category": "tattoo"}],
        {"category": ["tattoo"], "item": [""], "reason": [""], "box": [None], "score": [0.9]},
        [c.review_item("tattoo", "", "mine", None, 0.9) | {"box": "left"}],
        [c.review_item("tattoo", "", "mine", None, 0.9) | {"box": [1, 2, 3, None]}],
    ],
)
@pytest.mark.parametrize("score", [{c.PRIVACY_SCORE: [0.9, 0.0]}, {}])
def test_a_review_that_cannot_be_read_withholds_its_row_alone(review, score):
    batch = {"image": [picture(), picture()], c.PRIVACY_FLAG: [True, False], c.PRIVACY_REVIEW: [review, []], **score}
    answer = u2s.Anonymize(inspect=RED)(batch)
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert answer[c.NOTE][0].startswith("error: privacy_review ") and "give a list of {category" in answer[c.NOTE][0]
    for step in (u2s.Caption(), u2s.Instruct(), u2s.Score(inspect=RED)):
        step(batch | answer)  # the other steps read it too


@dataclass(frozen=True)
class LeaningLine(RedSquares):
    """Finds a line of text that leans by 45 degrees, until it is painted over."""

    categories = ("text",)

    def _one(self, image):
        quad = ((40.0, 50.0), (50.0, 40.0), (120.0, 110.0), (110.0, 120.0))
        return [Detection("text", (40.0, 40.0, 120.0, 120.0), 0.9, "Alice", quad)] if image[80, 80, 0] == 255 else []


def test_a_leaning_line_is_hidden_along_itself_also_where_its_review_is_given():
    source = np.full((160, 160, 3), 90, np.uint8) + np.random.default_rng(0).integers(0, 9, (160, 160, 3), np.uint8)
    source[80, 80] = 255
    step = u2s.Anonymize(inspect=u2s.Inspect(detectors=(LeaningLine(),)), format="png")
    batch = {"image": [Image.fromarray(source)]}
    for given in ({}, step.inspect(batch)):
        answer = step({**batch, **given})
        assert answer[c.STATUS] == [c.ANONYMIZED]
        changed = (source != pixels(answer, 0)).any(-1)
        assert changed[80, 80] and not changed[40:60, 100:120].any() and not changed[100:120, 40:60].any()


def test_nothing_shows_that_a_box_outside_the_image_is_gone():
    before = np.asarray(picture())
    after = np.full_like(before, 255)
    outside, thin = (500.0, 500.0, 600.0, 600.0), (10.2, 10.0, 10.4, 30.0)
    for hidden in (residue.is_hidden, residue.has_changed):
        assert not hidden(before, after, outside)
        assert hidden(before, after, thin) and not hidden(before, before, thin)


@dataclass(frozen=True)
class Theirs(Rewriter):
    """A third party's editor with a reason code of its own."""

    def edit(self, edits):
        raise RowError("the photo of Alice is too dark", "alice_is_too_dark")


def test_reason_codes_of_others_stay_private():
    row = Row(picture(red=True), {})
    u2s.Anonymize(inspect=RED, editor=Theirs()).run([row])
    assert row.fields[c.REASON] == "error"
    assert row.fields[c.NOTE] == "error: alice_is_too_dark: the photo of Alice is too dark"


def test_a_boxes_column_that_is_not_there_stops_the_run():
    with pytest.raises(u2s.SetupError, match="no column 'bboxes'"):
        u2s.Anonymize(inspect=RED, boxes_column="bboxes")({"image": [picture()], "boxes": [[]]})


@dataclass(frozen=True)
class Reads(RedSquares):
    """Reads a plate in every red square, as the caption's model does."""

    def detect(self, images):
        return [[u2s.Detection("text", d.box, d.score, "ZX 81 QQ7") for d in found] for found in super().detect(images)]


TELLS = u2s.Scripted(
    (
        ("PRIVATE_CAPTION", "PRIVACY_REVIEW\nNONE\n\nPRIVATE_CAPTION\nA car.\n\nPUBLIC_CAPTION\nA car, zx81qq7."),
        ("", "Repaint the car of ZX81QQ7 in blue."),
    )
)


@pytest.mark.parametrize("flag", [None, True, False])
def test_what_detectors_read_stays_out_of_public_texts_whatever_was_given(flag):
    inspect = Inspect(detectors=(Reads(),))
    step = u2s.Anonymize(inspect=inspect, caption=u2s.Caption(backend=TELLS), instruct=u2s.Instruct(backend=TELLS))
    batch = {"image": [picture(red=True)]}
    if flag is not None:  # None: no columns are given
        batch |= {c.PRIVACY_FLAG: [flag], c.PRIVACY_SCORE: [0.9], c.PRIVACY_REVIEW: [[]]}
    answer = step(batch)
    assert answer[c.STATUS] == [c.ANONYMIZED]
    public = " ".join(answer[name][0] for name in (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION))
    assert "81" not in public
    assert [i["item"] for i in answer[c.PRIVACY_REVIEW][0] if i["category"] == "text"] == ["ZX 81 QQ7"]


def test_a_given_review_gains_what_was_found_once():
    inspect = Inspect(detectors=(Reads(),))
    mine = c.review_item("tattoo", "", "seen", (50, 30, 80, 60), 0.9)
    caption = u2s.Caption(backend=TELLS)
    image = {"image": [picture(red=True)]}
    first = {**image, **inspect(image)}
    given = {**first, c.PRIVACY_REVIEW: [[mine, *first[c.PRIVACY_REVIEW][0]]]}
    review = u2s.Anonymize(inspect=inspect, caption=caption)(given)[c.PRIVACY_REVIEW][0]
    assert [i["category"] for i in review if i["category"] != c.LEAK] == ["tattoo", "text"]
    broken = {**first, c.PRIVACY_REVIEW: [[{**mine, "box": [float("nan")] * 4}]]}
    assert u2s.Anonymize(inspect=inspect)(broken)[c.STATUS] == [c.WITHHELD]
