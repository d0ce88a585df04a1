"""From what a model said to fields, or to a named error: the one parser for all shapes of an answer.

It fails closed. FALSE is read by allowlist: the whole answer has to be that word, once, with at most a label and
marks around it. Whatever else comes raises `UnparsableAnswer`; the stage asks once more, naming the error, and then
flags and withholds the row (law 1).
"""

from __future__ import annotations

import re

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.stages.answers import markup
from u2s_datasets.stages.answers.caption import Captions, ReviewItem, parse_caption

__all__ = [
    "Captions",
    "ReviewItem",
    "UnparsableAnswer",
    "parse_caption",
    "parse_flag",
    "parse_instruction",
    "parse_score",
]

MAX_INSTRUCTION_WORDS = 90
"""Twice what the prompt asks for; beyond it an answer has run away and is asked for again."""


_OPEN, _CLOSE, _AFTER = r"[*_`\"'“‘\[({<]*", r"[*_`\"'”’\])}>]*", r"[*`\"'”’\])}>]*"
_SEP = r"[ \t]*(?:={1,2}>?|->|[:：→]|[-–—](?=\s)|\bis\b:?|(?=\s))"
_NAME = r"(?:the )?privacy[ _-]?flag"
_LABEL = re.compile(
    rf"\A(?:[-+*#]+[ \t]+)?{_OPEN}"
    rf"(?:{_NAME}|(?:the )?flag|section|(?:the )?(?:final )?answer|assistant|output|result){_CLOSE}{_SEP}{_AFTER}\s*",
    re.IGNORECASE | re.ASCII,
)
_STOP = re.compile(r"(?<=[\w*`\"'”’\])}>])[.。](?=[*_`\"'”’\])}>]*\Z)")
_LONE_FALSE = ("FALSE", "False", "false")
_TRUE = r"[*_`\"'“‘\[(<]*(?P<word>TRUE|True|true)(?![\w'’])(?![ \t,]*(?:or|and|if|when|unless)\b)(?!\s*[?/|])"
_TRUE_FIRST = re.compile(_TRUE, re.ASCII)
_SAID_TRUE = re.compile(rf"\b{_NAME}{_CLOSE}{_SEP}{_AFTER}\s*{_TRUE}", re.IGNORECASE | re.ASCII)
_HEDGE = re.compile(r"\b(?:if|when|unless|whether|or|not|never|set|default|should|would|could|may|might)\b", re.I)
_FLAGS = re.compile(r"true|false", re.IGNORECASE | re.ASCII)


def parse_flag(text: str) -> bool:
    """Whether the model calls the image private.

    Args:
        text: the whole answer to a flag prompt.

    Returns:
        True for private; False only for an answer that is one unmistakable FALSE.

    Raises:
        UnparsableAnswer: anything else: no flag or several, a part of a word, a refusal, a hedge, an echo.
    """
    thought, answer = markup.thought_and_answer(text)
    if _is_lone_false(answer):
        concluded = _FLAGS.findall(thought)
        if concluded and concluded[-1].upper() == "TRUE":
            raise UnparsableAnswer("the thinking ends in TRUE and the answer is FALSE: decide on one")
        if thought and (not thought.lstrip(markup.BLANK).startswith("<think>") or thought.count("think>") > 1):
            raise UnparsableAnswer("something stands before the thinking: reply with the flag and nothing else")
        return False
    if re.search("fals", answer, re.IGNORECASE):
        raise UnparsableAnswer("a FALSE does not stand alone: reply with one line, the flag and nothing else")
    if any(_says_true(line) for line in answer.splitlines()):
        return True
    raise UnparsableAnswer("there is no flag: reply with one line, PRIVACY_FLAG: TRUE or PRIVACY_FLAG: FALSE")


def _is_lone_false(answer: str) -> bool:
    whole = markup.unfenced(answer)
    bare = markup.unbulleted(markup.unruled(whole))
    return not whole.endswith("---") and markup.balanced(bare) and _unlabelled(bare) in _LONE_FALSE


def _unlabelled(text: str) -> str:
    while True:
        inner = markup.peeled(_LABEL.sub("", markup.peeled(_STOP.sub("", text)), count=1))
        if inner == text:
            return text
        text = inner


def _says_true(line: str) -> bool:
    bare = markup.peeled(markup.unbulleted(markup.unfenced(line)))
    value = _unlabelled(bare)
    first = _TRUE_FIRST.match(value)
    if first and (_LABEL.match(bare) or first["word"] == "TRUE" or not re.search(r"\w", value[first.end() :])):
        return True
    said = _SAID_TRUE.search(bare)
    return said is not None and not _HEDGE.search(bare[: said.start()])


_NUMBER = r"\d{1,3}(?:\.\d{1,4})?"
_OF_100 = r"(?:[ ]?%|[ ]?/[ ]?100|[ ]out[ ]of[ ]100)?"
_LONE_SCORE = re.compile(rf"({_NUMBER}){_OF_100}", re.ASCII)
_SCORE = re.compile(
    rf"\b(?:anonymi[sz]ation[ _-]?)?score{_CLOSE}{_SEP}{_AFTER}\s*{_OPEN}(?P<number>[-+]?\d[\d.,]*)", re.I | re.ASCII
)
_AFTER_SCORE = re.compile(rf"{_OF_100}(?![\w/%.,]*\d)(?!\s*(?:[-–—~/±,;]|to|or)\s*\d)(?!\s*(?:out|±))", re.I | re.ASCII)


def parse_score(text: str) -> float:
    """A judge's score from 0 to 100, higher being better anonymised.

    Args:
        text: the whole answer to a judge prompt.

    Raises:
        UnparsableAnswer: no score, several, one on another scale or out of range.
    """
    _, answer = markup.thought_and_answer(text)
    bare = markup.unbulleted(markup.unruled(markup.unfenced(answer)).replace("*", ""))
    lone = _LONE_SCORE.fullmatch(markup.peeled(_STOP.sub("", markup.peeled(bare))))
    said = [lone.group(1)] if lone else [_labelled_score(bare, match) for match in _SCORE.finditer(bare)]
    scores = {float(number) for number in said}
    if len(scores) != 1:
        raise UnparsableAnswer(f"{len(scores)} scores were given: end with one line, ANONYMIZATION_SCORE: and a number")
    score = scores.pop()
    if score > 100 or 0 < score < 1:
        raise UnparsableAnswer("the score is on another scale: give a whole number from 0 to 100")
    return score


def _labelled_score(text: str, match: re.Match[str]) -> str:
    number = match["number"].rstrip(".,")
    rest = text[match.start("number") + len(number) :]
    if not re.fullmatch(_NUMBER, number, re.ASCII) or not _AFTER_SCORE.match(rest):
        raise UnparsableAnswer("the score is no plain number: give a whole number from 0 to 100")
    return number


_LEAD = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[!,. ]+|here(?:['’]s| is| are)\b[^:\n]{0,80}:"
    r"|(?:the )?(?:(?:final|suggested|proposed|combined|merged|edited|edit|editing|new)[ _-]?){0,2}"
    r"(?:instructions?|captions?|modifications?|changes|edits?|output|answer|result|prompt)[*_`\"]*\s*[:：][*_`]*)\s*",
    re.IGNORECASE,
)
_COUNT = re.compile(r"^\W*(?:word|token)s?[ _]?count\b.*$|^\W*\d+ (?:words|tokens)\W*$", re.IGNORECASE | re.MULTILINE)


def parse_instruction(text: str, max_words: int = MAX_INSTRUCTION_WORDS) -> str:
    """One line of plain words: an edit instruction or a merged caption.

    Args:
        text: the whole answer to an instruct or merge prompt.
        max_words: the most words to accept.

    Raises:
        UnparsableAnswer: nothing is left, a refusal, an echo of the prompt, or too many words.
    """
    bare = markup.unfenced(markup.thought_and_answer(text)[1])
    if bare.startswith("{"):
        values = [value for value in markup.json_object(bare).values() if isinstance(value, str)]
        bare = values[0] if len(values) == 1 else ""
    bare = _COUNT.sub("", bare)
    while True:
        shorter = _LEAD.sub("", markup.unbulleted(markup.unruled(markup.peeled(bare))).lstrip("*_`"), count=1)
        if shorter == bare:
            return markup.prose(bare, "text", max_words, joint=", ")
        bare = shorter
