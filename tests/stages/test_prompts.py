"""The prompts: places filled once, answers in the form that the parser reads."""

from pathlib import Path

import pytest

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.privacy.criteria import CRITERIA
from u2s_datasets.stages import answers, prompts

NAMES = {path.stem for path in Path(prompts.__file__).parent.glob("*.txt")}
VALUES = {
    "flag": {"criteria": prompts.criteria_lines(CRITERIA)},
    "flag_one_criterion": {"name": "face", "description": "a face"},
    "caption": {"criteria": prompts.criteria_lines(CRITERIA), "max_items": 10, "max_tokens": 50},
    "instruct": {"public_caption": "A person.", "criteria": "- text", "group_rule": "", "max_words": 45},
    "instruct_group": {"group": "East Asian"},
    "merge": {"public_caption": "A person.", "edit_instruction": "grey hair", "class_rule": "", "max_words": 50},
    "merge_class": {"class_name": "accordion"},
    "extract_text": {},
    "demographics": {},
    "judge": {"criteria": prompts.criteria_lines(CRITERIA)},
    "retry": {"error": "there is no flag"},
    "still_there": {"item": "a name tag"},
}


def test_every_prompt_is_known_here():
    assert set(VALUES) == NAMES


@pytest.mark.parametrize("name", VALUES)
def test_every_place_is_filled(name):
    text = prompts.render(name, **VALUES[name])
    assert "{" not in text and text == text.strip()


def test_a_value_is_not_filled_in_itself():
    assert "{max_words}" in prompts.render("instruct", **VALUES["instruct"] | {"public_caption": "a {max_words} sign"})


@pytest.mark.parametrize("values", [{}, {"criteria": "x", "more": "y"}])
def test_a_missing_or_a_needless_value_is_named(values):
    with pytest.raises(ValueError, match="criteria"):
        prompts.render("flag", **values)


def test_criteria_are_listed_under_their_names():
    assert prompts.criteria_lines({"people": "people: faces", "health": "health indicators"}) == (
        "- people: faces\n- health: health indicators"
    )


@pytest.mark.parametrize("name", ["flag", "flag_one_criterion", "retry"])
def test_a_prompt_that_is_echoed_is_never_safe(name):
    with pytest.raises(UnparsableAnswer):
        answers.parse_flag(prompts.render(name, **VALUES[name]))


@pytest.mark.parametrize("name", ["caption", "judge"])
def test_an_echo_is_no_answer(name):
    parse = {"caption": answers.parse_caption, "judge": answers.parse_score}[name]
    with pytest.raises(UnparsableAnswer):
        parse(prompts.render(name, **VALUES[name]))
