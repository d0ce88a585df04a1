"""Stage 1 with a model: flags, captions and instructions, asked again once, failing closed, leaking nothing."""

import json
import logging
import pickle
from dataclasses import dataclass

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.fingerprint import Hasher

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Rewriter, picture
from tests.helpers.scripts import SEES, review, scripted
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.privacy import criteria
from u2s_datasets.stages.instruct import DEMOGRAPHIC_GROUPS

PRIVATE, SAFE = picture(red=True), picture()
RETRY = "cannot be used"


def choose(true, false, **options):
    backend = scripted(default={"TRUE": true, "FALSE": false})
    return u2s.Inspect(**{"detectors": (), "backend": backend, **options})({"image": [SAFE]})


def flagged(picture=PRIVATE, **fields):
    given = {c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [1.0], c.PRIVACY_REVIEW: [[]]}
    return {"image": [picture], **given, **fields}


# --- criteria


def test_criteria_by_name_in_own_words_and_from_a_file(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\npeople\n\nmedals: medals and trophies\nsomething else entirely\n", encoding="utf-8")
    expected = (
        ("people", criteria.CRITERIA["people"]),
        ("medals", "medals and trophies"),
        ("something else entirely", "something else entirely"),
    )
    assert u2s.load_criteria(file) == u2s.load_criteria(str(file)) == expected
    assert u2s.load_criteria(["people", "medals: medals and trophies", "something else entirely"]) == expected
    assert u2s.load_criteria("health") == (("health", "health indicators"),)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["poeple"], "unknown criterion 'poeple'; expected a name .people"),
        ([], "asks for nothing"),
        (["people", "people"], "'people' is given twice"),
        (["error: all that is wrong"], "reserved criterion name 'error'; choose another"),
        (["medals:"], "incomplete criterion 'medals:'; expected 'name: words'"),
        ("nowhere.txt", "nowhere.txt' cannot be read"),
        ([3], "invalid criterion 3; expected a name"),
    ],
)
def test_criteria_that_cannot_be_meant(given, words):
    with pytest.raises(u2s.SetupError, match=words):
        u2s.load_criteria(given)


# --- inspect


@pytest.mark.parametrize(
    ("true", "false", "flag", "score"),
    [(0.9, 0.05, True, 0.95), (0.0, 0.9, False, 0.1), (0.0, 0.8, True, 0.2), (0.01, 0.02, True, 0.98)],
)
def test_the_flag_is_what_is_not_false(true, false, flag, score):
    answer = choose(true, false)
    assert answer[c.PRIVACY_FLAG] == [flag]
    assert answer[c.PRIVACY_SCORE] == [pytest.approx(score)]


def test_the_threshold_is_the_users():
    assert choose(0.3, 0.7)[c.PRIVACY_FLAG] == [True]
    assert choose(0.3, 0.7, threshold=0.5)[c.PRIVACY_FLAG] == [False]


@pytest.mark.parametrize(
    ("text", "flag"), [("PRIVACY_FLAG: FALSE", False), ("**PRIVACY_FLAG:** TRUE", True), ("no idea", True), ("", True)]
)
def test_a_written_flag(text, flag):
    answer = u2s.Inspect(detectors=(), backend=scripted(default=text), method="generate")({"image": [SAFE]})
    assert answer[c.PRIVACY_FLAG] == [flag]
    assert answer[c.PRIVACY_SCORE] == [float(flag)]
    errors = [item["item"] for item in answer[c.PRIVACY_REVIEW][0] if item["category"] == c.ERROR]
    assert errors == (["unparsable_answer"] if text in ("no idea", "") else [])


@pytest.mark.parametrize("first", ["well…", "I'm sorry, I can't help", "PRIVACY_FLAG: FALSE …[cut]", "TRUE or FALSE"])
def test_an_unparsable_flag_is_asked_for_once_more(first):
    backend = scripted((f"user: That reply {RETRY}", "PRIVACY_FLAG: FALSE"), default=first)
    answer = u2s.Inspect(detectors=(), backend=backend, method="generate")({"image": [SAFE]})
    assert answer[c.PRIVACY_FLAG] == [False]


def test_detectors_and_a_model_each_flag_and_the_higher_score_stands():
    quiet = u2s.Inspect(detectors=(RedSquares(),), backend=scripted(default={"FALSE": 0.99}))(
        {"image": [PRIVATE, SAFE]}
    )
    assert quiet[c.PRIVACY_FLAG] == [True, False]
    assert quiet[c.PRIVACY_SCORE] == [0.9, pytest.approx(0.01)]
    loud = u2s.Inspect(detectors=(RedSquares(),), backend=SEES)({"image": [PRIVATE, SAFE]})
    assert loud[c.PRIVACY_FLAG] == [True, True]
    assert loud[c.PRIVACY_SCORE] == [pytest.approx(0.95)] * 2


def test_one_row_that_fails_stays_alone():
    wide = SAFE.resize((120, 64))
    backend = scripted(("120x64", u2s.RowError("no")), default={"FALSE": 1.0})
    answer = u2s.Inspect(detectors=(), backend=backend)({"image": [SAFE, wide, b"no image", SAFE]})
    assert answer[c.PRIVACY_FLAG] == [False, True, True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "guess"}, "unknown method 'guess'; expected one of: choose, generate"),
        ({"threshold": 0}, "invalid threshold=0; expected a finite number > 0 and <= 1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"criteria": ()}, "asks for nothing"),
        ({"criteria": ("people",)}, "u2s.load_criteria"),
        ({"backend": None}, "or a backend"),
    ],
)
def test_options_that_cannot_work(options, words):
    with pytest.raises(u2s.SetupError, match=words):
        choose(0, 1, **options)


def test_a_report_says_what_a_model_was_asked_for_and_repeats_no_criterion_of_the_users():
    inspected, left = u2s.Inspect(detectors=(RedSquares(),), backend=SEES).scope()
    assert "health indicators (judged by a model)" in inspected and left == []
    mine = u2s.load_criteria(["health", "divorce: papers of Anna's divorce"])
    inspected, left = u2s.Inspect(detectors=(), backend=SEES, criteria=mine).scope()
    assert inspected == ["health indicators (judged by a model)", "criteria of the user's own (judged by a model)"]
    assert "personal interactions" in left and "health indicators" not in left
    assert "health indicators" in u2s.Inspect(detectors=(RedSquares(),)).scope()[1]


# --- caption


def caption(backend, batch=None, **options):
    return u2s.Caption(backend=backend, **options)(batch or flagged())


def test_a_caption_answer_becomes_columns():
    answer = caption(SEES)
    assert answer[c.PUBLIC_CAPTION] == ["A person sits at a desk."]
    assert answer[c.PRIVATE_CAPTION] == ["Anna Schmidt sits at a desk."]
    assert answer[c.PRIVACY_REVIEW] == [[c.review_item("text", "name tag Anna Schmidt", "tells who it is", None, 1.0)]]


@pytest.mark.parametrize(
    ("said", "category"), [("People", "people"), ("error", "unknown"), ("leak", "unknown"), ("", "unknown")]
)
def test_a_model_cannot_say_a_category_that_means_something_here(said, category):
    answer = caption(scripted(default=review(category=said)))
    assert answer[c.PRIVACY_REVIEW][0][0]["category"] == category


def test_a_row_that_is_not_flagged_asks_no_model():
    batch = flagged() | {c.PRIVACY_FLAG: [False]}
    answer = caption(scripted(), batch)  # which raises when asked
    assert answer[c.PUBLIC_CAPTION] == ["A landscape photo."]
    assert u2s.Instruct(backend=scripted())(batch | answer)[c.EDIT_CAPTION] == ["A landscape photo."]


REFUSALS = ["I'm sorry, I can't help with that.", review(public="I cannot describe this."), review() + " …[cut]", ""]


@pytest.mark.parametrize("text", REFUSALS)
def test_an_unusable_caption_is_asked_for_again_then_withheld(text):
    assert caption(scripted((RETRY, review()), default=text))[c.PUBLIC_CAPTION] == ["A person sits at a desk."]
    batch = flagged()
    batch |= caption(scripted(default=text), batch)
    assert batch[c.PUBLIC_CAPTION] == batch[c.PRIVATE_CAPTION] == [None]
    assert batch[c.PRIVACY_REVIEW][0][-1]["item"] == "unparsable_answer"
    answer = u2s.Anonymize(inspect=u2s.Inspect(detectors=(RedSquares(),)))(batch)  # in a later map
    assert answer[c.STATUS] == [c.WITHHELD] and answer[c.NOTE][0].startswith("unparsable_answer")


# --- leaks


def test_a_caption_that_leaks_is_asked_for_again():
    leaking = review(public="Anna sits at a desk.")
    answer = caption(scripted((r"private away \(anna\)", review()), ("PRIVATE_CAPTION", leaking)))
    assert answer[c.PUBLIC_CAPTION] == ["A person sits at a desk."]
    assert [item["category"] for item in answer[c.PRIVACY_REVIEW][0]] == ["text"]


@pytest.mark.parametrize("second", [review(public="Schmidt sits."), "I'm sorry", u2s.RowError("gone")])
def test_a_caption_that_leaks_twice_is_replaced_and_counted(second):
    leaking = review(public="Anna sits at a desk.")
    answer = caption(scripted((RETRY, second), ("PRIVATE_CAPTION", leaking)))
    assert answer[c.PUBLIC_CAPTION] == ["A landscape photo."]
    assert [item["category"] for item in answer[c.PRIVACY_REVIEW][0]] == ["text", c.LEAK]
    assert answer[c.PRIVACY_REVIEW][0][1]["reason"] == "public_caption was replaced"


def test_what_a_detector_read_may_not_stand_in_a_public_text_either():
    read = c.review_item("text", "MUELLER 4711", "", (1, 1, 9, 9), 0.9)
    backend = scripted(default=review(public="A sign with 4711."))
    answer = caption(backend, flagged() | {c.PRIVACY_REVIEW: [[read]]})
    assert "4711" not in answer[c.PUBLIC_CAPTION][0] and "one piece of text" in answer[c.PUBLIC_CAPTION][0]


@pytest.mark.parametrize(("column", "prompt"), [(c.EDIT_INSTRUCTION, "Say what"), (c.EDIT_CAPTION, "Describe the")])
def test_instructions_and_merged_captions_are_checked_too(column, prompt):
    batch = flagged(**{c.PUBLIC_CAPTION: ["A person sits."], c.PRIVATE_CAPTION: ["Then Anna sits."]})
    answer = u2s.Instruct(backend=scripted((prompt, "grey hair for anna"), default="grey hair"))(batch)
    assert "anna" not in answer[column][0]
    assert [i["reason"] for i in answer[c.PRIVACY_REVIEW][0]] == [f"{column} was replaced"]


# --- instruct


@dataclass(frozen=True)
class Listening(u2s.Backend):
    """Answers with what it was asked, so that a test can see it; says in `heard` what it got."""

    heard = []  # noqa: RUF012
    sees = False

    def generate(self, requests):
        self.heard.extend(requests)
        return ["grey hair and a hat"] * len(requests)


def instruct(batch=None, **options):
    Listening.heard.clear()
    step = u2s.Instruct(backend=Listening(), **options)
    answer = step(batch or flagged(**{c.PUBLIC_CAPTION: ["A person sits."], c.PRIVATE_CAPTION: ["Anna sits."]}))
    return answer, [" ".join(r.messages[0].content) for r in Listening.heard]


def test_the_instruction_comes_from_the_public_caption_alone():
    answer, (first, second) = instruct()
    assert "A person sits." in first and "A person sits." in second and "grey hair" in second
    assert "Anna" not in first + second  # and no image: the words were joined
    assert answer[c.EDIT_INSTRUCTION] == answer[c.EDIT_CAPTION] == ["grey hair and a hat"]


def test_a_group_is_drawn_by_the_picture_and_not_by_the_batch():
    pictures = [picture(red=True, seed=i) for i in range(24)]

    def drawn(pictures, **options):
        n = len(pictures)
        batch = {"image": pictures, c.PUBLIC_CAPTION: ["A person."] * n}
        texts = instruct(batch, **options)[1][:n]
        return [next(g for g in (*DEMOGRAPHIC_GROUPS, "tall") if f"photo is {g}:" in text) for text in texts]

    together = drawn(pictures, groups="paper", seed=7)
    assert len(set(together)) > 4
    assert [drawn([p], groups="paper", seed=7)[0] for p in pictures[::-1]] == together[::-1]
    assert drawn(pictures, groups="paper", seed=8) != together
    assert drawn(pictures[:3], groups=("tall",)) == ["tall"] * 3
    assert "Everybody" not in instruct()[1][0]


def test_class_names_come_from_a_label_column_alone():
    batch = flagged(label=["grand_piano"], **{c.PUBLIC_CAPTION: ["A person."]})
    assert 'the class "grand piano"' in instruct(batch, label_column="label")[1][1]
    assert "class" not in instruct(batch)[1][1]
    with pytest.raises(u2s.SetupError, match="not names; give a column of names"):
        instruct(batch | {"label": [3]}, label_column="label")
    with pytest.raises(u2s.SetupError, match="no column 'label'"):
        instruct(label_column="label")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("grand_piano", True),  # the model named it, which makes it no secret
        ("street_sign", True),  # common words
        ("Anna Schmidt", False),  # a name, as face collections have for classes
        ("schmidt_family", False),
        ("lucky luke", False),  # what a detector read
        ("anna@web.de", False),
        ("2021-03-04", False),
    ],
)
def test_a_class_name_that_says_what_was_read_is_left_out(name, named):
    review = [
        c.review_item("belongings", "a grand piano", "", None, 1.0),
        c.review_item("text", "name tag Anna Schmidt", "", None, 1.0),
        c.review_item("text", "LUCKY LUKE", "", (1, 1, 9, 9), 0.9),
        c.review_item("text", "STREET", "", (1, 1, 9, 9), 0.9),
    ]
    texts = {c.PUBLIC_CAPTION: ["A person plays."], c.PRIVACY_REVIEW: [review]}
    prompt = instruct(flagged(label=[name], **texts), label_column="label")[1][1]
    assert (f'the class "{name.replace("_", " ")}"' in prompt) is named
    if "Anna" in name or named:  # and then the leak check treats it like any other word
        said = scripted(("Describe the", f"A person and {name}."), default="grey hair")
        answer = u2s.Instruct(backend=said, label_column="label")(flagged(label=[name], **texts))
        assert (name in answer[c.EDIT_CAPTION][0]) is named


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": "all"}, "unknown groups='all'; expected 'paper'"),
        ({"groups": ("",), "backend": SEES}, "give each group as text"),
        ({"groups": "paper"}, "need a language model"),
    ],
)
def test_groups_that_cannot_work(options, words):
    with pytest.raises(u2s.SetupError, match=words):
        u2s.Instruct(**options)(flagged(**{c.PUBLIC_CAPTION: ["A person."]}))


# --- the whole flow


def whole(backend=SEES, **options):
    return u2s.Anonymize(
        inspect=u2s.Inspect(detectors=(RedSquares(),), backend=backend, method=options.pop("method", "choose")),
        caption=u2s.Caption(backend=backend),
        instruct=u2s.Instruct(backend=backend, label_column=options.pop("label_column", None)),
        format="png",
        **options,
    )


def test_from_a_photo_to_a_rewritten_one():
    answer = whole(editor=Rewriter())({"image": [PRIVATE]})
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert answer[c.PUBLIC_CAPTION] == ["A person sits at a desk."]
    assert answer[c.EDIT_INSTRUCTION] == ["grey hair, a blue coat and a round hat for the person"]
    assert answer[c.EDIT_CAPTION] == ["A person with grey hair sits at a desk."]
    assert [i["category"] for i in answer[c.PRIVACY_REVIEW][0]] == ["face", "judged", "text"]
    public = " ".join(str(answer[name][0]) for name in c.PUBLIC if name in answer and name != c.ANONYMIZED_IMAGE)
    assert "Anna" not in public and "Schmidt" not in public


def test_what_a_model_alone_flagged_is_withheld_by_redaction():
    answer = whole()({"image": [SAFE]})
    assert answer[c.STATUS] == [c.WITHHELD] and answer[c.NOTE][0].startswith("nothing_to_edit")


def test_a_rewritten_image_at_which_nobody_looked_does_not_pass_for_verified():
    step = u2s.Anonymize(inspect=u2s.Inspect(detectors=(), backend=SEES), editor=Rewriter(), verify=False)
    assert json.loads(step({"image": [SAFE]})[c.PROVENANCE][0])["verified"] is False


def test_batches_and_their_order_change_nothing():
    pictures = [picture(red=i % 2 == 0, seed=i) for i in range(4)]
    step = whole(editor=Rewriter())
    together = step({"image": pictures})
    for i in (2, 0, 3, 1):
        alone = step({"image": [pictures[i]]})
        assert all(alone[n][0] == together[n][i] for n in alone if n != c.ANONYMIZED_IMAGE)


def test_on_a_dataset_in_one_map_and_in_four():
    features = Features({"image": Image(), "label": ClassLabel(names=["tuba", "grand_piano"]), "other": Value("int8")})
    rows = [{"bytes": images.encode(p, "png"), "path": None} for p in (PRIVATE, SAFE)]
    ds = Dataset.from_dict({"image": rows, "label": [1, 0], "other": [1, 2]}, features=features)
    piano = scripted(('class "grand piano"', "A person sits at a grand piano."), *SEES.answers)
    step = whole(piano, editor=Rewriter(), label_column="label")
    one = ds.map(step, batched=True)
    assert one[c.EDIT_CAPTION][0] == "A person sits at a grand piano."
    assert one["label"] == [1, 0] and one.features["label"] == features["label"]
    for one_step in (step.inspect, step.caption, step.instruct, step):
        ds = ds.map(one_step, batched=True)
    names = [n for n in one.column_names if n not in ("image", c.ANONYMIZED_IMAGE)]
    assert {n: one[n][:] for n in names} == {n: ds[n][:] for n in names}
    assert len(one[c.PRIVACY_REVIEW][0]) == 3


def test_the_fingerprint_follows_criteria_backend_and_method():
    def digest(**options):
        return Hasher.hash(u2s.Inspect(**{"detectors": (), "backend": SEES, **options}))

    first = digest()
    assert digest() == first == Hasher.hash(pickle.loads(pickle.dumps(u2s.Inspect(detectors=(), backend=SEES))))
    others = [
        {"criteria": u2s.load_criteria("people")},
        {"backend": scripted(default="x")},
        {"method": "generate"},
        {"threshold": 0.3},
    ]
    assert len({first, *(digest(**o) for o in others)}) == 5


def test_nothing_private_is_logged_at_the_default_level(caplog):
    caplog.set_level(logging.INFO)
    whole()({"image": [PRIVATE]})
    caption(scripted(default=review(public="Anna sits.")))
    caption(scripted(default="Anna, I'm sorry"))
    assert caplog.text == ""


def test_the_prompt_shows_the_criteria_in_use():
    heard = scripted(("- medals: medals and trophies\n\n", review()))
    mine = u2s.load_criteria(["medals: medals and trophies"])
    assert caption(heard, criteria=mine)[c.PUBLIC_CAPTION] == ["A person sits at a desk."]
