"""What comes off an answer before it is read, and what stays on it, so that nothing becomes a word that counts."""

import pytest

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts import CUT
from u2s_datasets.stages.answers import markup


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("FALSE", "", "FALSE"),
        ("  FALSE \r\n", "", "FALSE"),
        ("<think>TRUE?</think>\nFALSE", "<think>TRUE?", "FALSE"),
        ("a</think>b</think>FALSE", "a</think>b", "FALSE"),
        ("FALSE<|im_end|>", "", "FALSE"),
        ("FALSE </s> <|endoftext|>\n", "", "FALSE"),
        ("<|im_end|>FALSE", "", "<|im_end|>FALSE"),  # an end in the middle is not the end
        ("FALSE<|END|>", "", "FALSE<|END|>"),
    ],
)
def test_an_answer_is_what_follows_the_thinking(text, thought, answer):
    assert markup.thought_and_answer(text) == (thought, answer)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " \n",
            None,
            17,
            ["FALSE"],
            "<|im_end|>",
            "</think>",
            "<think>FALSE",
            "TRUE</think> \n",
            "a</think><think>b",
        ),
        *(f"FALSE {CUT}", f"FALSE {CUT} \n", "x" * (markup.MAX_CHARS + 1)),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_there_is_no_answer(text):
    with pytest.raises(UnparsableAnswer):
        markup.thought_and_answer(text)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("```\nFALSE\n```", "FALSE"),
        ("```json\n{}\n```", "{}"),
        ("<answer>FALSE</answer>", "FALSE"),
        ("<ANSWER>```\nFALSE\n```</ANSWER>", "FALSE"),
        ("<answer>FALSE</output>", "<answer>FALSE</output>"),
        ("so ```FALSE```", "so ```FALSE```"),
        ("```python\nFALSE\n```", "```python\nFALSE\n```"),
        ("<think>FALSE</think>", "<think>FALSE</think>"),
    ],
)
def test_a_fence_or_a_tag_comes_off_the_whole_text_alone(text, inside):
    assert markup.unfenced(text) == inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("**FALSE**", "FALSE"),
        ('"“[FALSE]”"', "FALSE"),
        ("{`FALSE`}", "FALSE"),
        ("**FALSE", "**FALSE"),
        ("(FALSE) or (TRUE)", "(FALSE) or (TRUE)"),
        ('"FALSE" not "TRUE"', '"FALSE" not "TRUE"'),
        ("[]", "[]"),
        ("ＦＡＬＳＥ", "ＦＡＬＳＥ"),  # a lookalike stays one
        ("F\u200bALSE", "F\u200bALSE"),
    ],
)
def test_marks_come_off_in_pairs_around_the_whole_of_it(text, inside):
    assert markup.peeled(text) == inside


@pytest.mark.parametrize("text", ["FALSE", "**FALSE** (sure)", "a -> b", '"a" <b> “c”', "[x] FALSE"])
def test_marks_that_are_balanced(text):
    assert markup.balanced(text)


@pytest.mark.parametrize("text", ["**FALSE", "[ ] FALSE", "FALSE)", "(FALSE", "“FALSE", "it's FALSE", '"FALSE', "{}"])
def test_marks_that_are_not(text):
    assert not markup.balanced(text)


def test_lines_become_one_line_of_plain_words():
    text = "# Caption\n- **A person** sits\n\n2) at a `desk`\x07\u2028with\ta cup"
    assert markup.flattened(text) == "Caption A person sits at a desk with a cup"
    assert markup.flattened("- grey hair\n- a hat", joint=", ") == "grey hair, a hat"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((text, "is empty") for text in ("", "None", "n/a", "**null**", "- nothing.", None, 7, ["a person"])),
        *((text, "is a refusal") for text in ("I'm sorry, no.", "**As an AI model**, I", "Désolé", "我无法描述")),
        *((text, "repeats the form") for text in ("A {caption}.", "PUBLIC_CAPTION: a cat", "the PRIVACY_FLAG is on")),
        *((text, "is too long") for text in ("a cat " * 11, "x" * 241)),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_prose_that_cannot_be_used(text, why):
    with pytest.raises(UnparsableAnswer, match=f"the caption {why}") as caught:
        markup.prose(text, "caption", 20)
    if isinstance(text, str) and len(text) > 6:
        assert text.strip() not in str(caught.value)  # an answer is private


def test_prose_that_only_looks_like_a_refusal_is_prose():
    for text in ("A person who is sorry sits there.", "Nothing but a lake and a nil sign.", "I scream ice cream van."):
        assert markup.prose(text, "caption", 20) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"privacy_flag": false, "privacy_flag": true}',
        '{"privacy_flag": false, "PRIVACY FLAG": true}',
        '{"a": {"item": 1, "Item": 2}}',
        *("[]", "false", "{", '{"a": 1} {"b": 2}', "{'a': 1}", "[" * 100_000),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_could_mean_two_things_is_refused(text):
    with pytest.raises(UnparsableAnswer):
        markup.json_object(text)


def test_json_that_means_one():
    assert markup.json_object('{"a": [{"b": 1}, {"b": 2}], "c": null}') == {"a": [{"b": 1}, {"b": 2}], "c": None}
    assert markup.key("Public caption:") == markup.key("PUBLIC_CAPTION") == "publiccaption"
