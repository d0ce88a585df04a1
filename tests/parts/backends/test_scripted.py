"""The scripted backend: answers by rule, whatever the batch."""

import pickle

import pytest
from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Message, Request
from u2s_datasets.parts.backends.scripted import Scripted, transcript


def ask(colour: str, words: str = "private?") -> Request:
    return Request((Message("user", (Image.new("RGB", (8, 6), colour), words)),))


def test_a_transcript_tells_pictures_apart():
    assert transcript(ask("red")) == "user: <image 8x6 #ff0000> private?"


def test_answers_go_by_rule_and_not_by_order():
    backend = Scripted((("#ff0000", "PRIVACY_FLAG: TRUE"), ("#0000ff", "PRIVACY_FLAG: FALSE")))
    both = [ask("red"), ask("blue")]
    assert backend.generate(both) == ["PRIVACY_FLAG: TRUE", "PRIVACY_FLAG: FALSE"]
    assert backend.generate(both[::-1]) == backend.generate(both)[::-1]


def test_a_second_question_can_be_answered_otherwise():
    backend = Scripted((("cannot be used", "PRIVACY_FLAG: FALSE"),), default="well…")
    assert backend.generate([ask("red")]) == ["well…"]
    assert backend.generate([ask("red", "That reply cannot be used: no flag")]) == ["PRIVACY_FLAG: FALSE"]


def test_choices_get_their_probabilities():
    backend = Scripted((("#ff0000", {"TRUE": 0.7, "FALSE": 0.2}), ("#0000ff", "FALSE")))
    assert backend.choose([ask("red"), ask("blue")], ("TRUE", "FALSE")) == [
        {"TRUE": 0.7, "FALSE": 0.2},
        {"TRUE": 0.0, "FALSE": 1.0},
    ]


def test_a_scripted_failure_is_raised():
    with pytest.raises(RowError, match="server went away"):
        Scripted(default=RowError("the server went away")).generate([ask("red")])


@pytest.mark.parametrize("answer", [None, {"TRUE": 0.9}, {"maybe": 1.0}, {"TRUE": 0.9, "FALSE": 0.9}, "maybe"])
def test_a_script_with_a_gap_stops_the_run(answer):
    backend = Scripted(default=answer)
    with pytest.raises(SetupError):
        if answer is None or answer == {"TRUE": 0.9}:
            backend.generate([ask("red")])
        else:
            backend.choose([ask("red")], ("TRUE", "FALSE"))


def test_a_wrong_pattern_is_found_before_the_run():
    with pytest.raises(SetupError, match="regular expression"):
        Scripted((("(", "x"),)).check()


def test_it_pickles_as_its_script():
    backend = Scripted((("#ff0000", {"TRUE": 1.0}),), default="FALSE")
    copy = pickle.loads(pickle.dumps(backend))
    assert copy == backend
    assert copy.config()["part"] == "Scripted"
