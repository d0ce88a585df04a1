"""The answers to the evaluation's questions about one image: its text, and the apparent races of its people.

As in `answers`, what is not beyond doubt raises: an empty answer is neither "no text" nor "nobody".
"""

from __future__ import annotations

import re

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts.metrics.privacy import NO_TEXT, RACES
from u2s_datasets.stages.answers import markup

NO_HUMAN = "NO_HUMAN"

_HEADING = re.compile(r"\A[#*\s]*TEXT[*:\s]*(?:\n|\Z)", re.IGNORECASE)
_RACE = re.compile(r"^[#*\s]*RACES?[*]*[ \t]*:?[* \t]*\n?(?P<names>[^\n#]*)", re.IGNORECASE | re.MULTILINE)


def parse_text(text: str) -> list[str]:
    """The lines that a model copied out of an image, [] for NO_TEXT.

    Args:
        text: the whole answer to the text prompt. "[unclear]" stands for nothing and is left out.

    Raises:
        UnparsableAnswer: there is neither text under the heading nor NO_TEXT.
    """
    bare = markup.unfenced(markup.thought_and_answer(text)[1])
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
    bare = markup.unfenced(markup.thought_and_answer(text)[1])
    if markup.peeled(bare).rstrip(".") == NO_HUMAN:
        return []
    said = _RACE.findall(bare)
    if len(said) != 1 or NO_HUMAN in bare:
        raise UnparsableAnswer("reply with ### GENDER and ### RACE, each with its words, or with NO_HUMAN")
    offered = {name.casefold(): name for name in RACES}
    names = [markup.peeled(word).strip(" .").casefold() for word in said[0].split(",")]
    if unknown := [name for name in names if name not in offered]:
        raise UnparsableAnswer(f"{len(unknown)} races are none of: {', '.join(RACES)}")
    return list(dict.fromkeys(offered[name] for name in names))
