"""The answers to the evaluation's questions: the judge's score, an image's text, the apparent races of its people.

What is not beyond doubt raises `UnparsableAnswer`: an empty answer is neither "no text" nor "nobody".
"""

import re

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts.metrics.privacy import NO_TEXT, RACES
from u2s_datasets.stages.answers import markup
from u2s_datasets.stages.answers.markup import AFTER, CLOSE, FINAL_STOP, OPEN, SEPARATOR

NO_HUMAN = "NO_HUMAN"

_HEADING = re.compile(r"\A[#*\s]*TEXT[*:\s]*(?:\n|\Z)", re.IGNORECASE)
_RACE = re.compile(r"^[#*\s]*RACES?[*]*[ \t]*:?[* \t]*\n?(?P<names>[^\n#]*)", re.IGNORECASE | re.MULTILINE)


def parse_text(text: str) -> list[str]:
    """The lines that a model copied out of an image; [] for NO_TEXT.

    Args:
        text: the whole answer to the text prompt. "[unclear]" is left out.

    Raises:
        UnparsableAnswer: there is neither text under the heading nor NO_TEXT.
    """
    bare = markup.bare_answer(text)
    if markup.peeled(bare).rstrip(".") == NO_TEXT:
        return []
    heading = _HEADING.match(bare)
    if heading is None:
        raise UnparsableAnswer("the heading is missing: reply with ### TEXT and the text, or with NO_TEXT")
    lines = [line.strip() for line in bare[heading.end() :].replace("[unclear]", " ").splitlines()]
    if markup.peeled(" ".join(lines)).rstrip(".") == NO_TEXT:
        return []
    if not any(lines):
        raise UnparsableAnswer("there is no text under the heading: reply with the text, or with NO_TEXT")
    return [line for line in lines if line]


def parse_races(text: str) -> list[str]:
    """The apparent races that a model names, in the prompt's words, each once; [] for NO_HUMAN.

    Args:
        text: the whole answer to the demographics prompt.

    Raises:
        UnparsableAnswer: there is no heading, no name, or a name that the prompt does not offer.
    """
    bare = markup.bare_answer(text)
    if markup.peeled(bare).rstrip(".") == NO_HUMAN:
        return []
    found = _RACE.findall(bare)
    if len(found) != 1 or NO_HUMAN in bare:
        raise UnparsableAnswer("reply with ### GENDER and ### RACE, each with its words, or with NO_HUMAN")
    offered = {name.casefold(): name for name in RACES}
    names = [markup.peeled(word).strip(" .").casefold() for word in found[0].split(",")]
    if unknown := [name for name in names if name not in offered]:
        raise UnparsableAnswer(f"{len(unknown)} races are none of: {', '.join(RACES)}")
    return list(dict.fromkeys(offered[name] for name in names))


_NUMBER = r"\d{1,3}(?:\.\d{1,4})?"
_OF_100 = r"(?:[ ]?%|[ ]?/[ ]?100|[ ]out[ ]of[ ]100)?"
_LONE_SCORE = re.compile(rf"({_NUMBER}){_OF_100}", re.ASCII)
_SCORE = re.compile(
    rf"\b(?:anonymi[sz]ation[ _-]?)?score{CLOSE}{SEPARATOR}{AFTER}\s*{OPEN}(?P<number>[-+]?\d[\d.,]*)", re.I | re.ASCII
)
_AFTER_SCORE = re.compile(rf"{_OF_100}(?![\w/%.,]*\d)(?!\s*(?:[-–—~/±,;]|to|or)\s*\d)(?!\s*(?:out|±))", re.I | re.ASCII)


def parse_score(text: str) -> float:
    """A judge's score from 0 to 100; higher is better anonymised.

    Args:
        text: the whole answer to a judge prompt.

    Raises:
        UnparsableAnswer: no score, several, or one on another scale or out of range.
    """
    bare = markup.unbulleted(markup.unruled(markup.bare_answer(text)).replace("*", ""))
    lone = _LONE_SCORE.fullmatch(markup.peeled(FINAL_STOP.sub("", markup.peeled(bare))))
    found = [lone.group(1)] if lone else [_labelled_score(bare, match) for match in _SCORE.finditer(bare)]
    scores = {float(number) for number in found}
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
