"""What may not stand in a public text or travel as a kept column: a first, plain rule set.

It errs towards stopping: a kept text that shares a telling word with what was read in its image, or that looks
like a contact, a date or a long number, stays home; a kept number that looks like an identifier, a date or a
coordinate needs to be allowed by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_PATTERNS = {
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w+"),
    "a link": re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    "a path": re.compile(r"(?:[A-Za-z]:\\|~?/)[\w.-]+[/\\]"),
    "a date": re.compile(r"\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b"),
    "a long number": re.compile(r"(?<![\w.])\+?\d(?:[ ().-]?\d){6,}(?!\w)"),
    "coordinates": re.compile(r"-?\d{1,3}\.\d{3,}\s*[,;]\s*-?\d{1,3}\.\d{3,}"),
}
_TELLING_NAME = re.compile(
    r"(?:^|_)(?:id|ids|uid|uuid|guid|key|hash|md5|sha\d*|lat|latitude|lon|lng|long|longitude|gps|coords?|coordinates"
    r"|date|datetime|day|month|year|time|timestamp|created|taken|birth|dob|phone|tel|zip|postcode|ssn|file|path|url"
    r"|name|email|user|username|author|owner)(?:_|$)"
)
_WORD = re.compile(r"[^\W_]{3,}")


def telling(text: str) -> str | None:
    """What in a text could identify by its shape alone, such as "a date"; none where nothing does."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(text)), None)


def shared_words(text: str, private: Iterable[str]) -> set[str]:
    """Words of three letters or digits and more that a public text shares with private ones, case-folded."""
    return _words(text) & {word for other in private for word in _words(other)}


def telling_name(name: str) -> bool:
    """Whether a column's name says that it identifies, dates or locates."""
    return bool(_TELLING_NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]", "_", name).lower()))


def identifying_numbers(values: Sequence[Any]) -> str | None:
    """Why these numbers look like identifiers, dates or coordinates; none where they do not."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    whole = [v for v in numbers if float(v).is_integer()]
    if len(numbers) < 2:
        return None
    if len(whole) == len(numbers):
        if all(9e8 <= v <= 4e9 or 9e11 <= v <= 4e12 for v in whole):
            return "seconds since 1970"
        if len(set(whole)) == len(whole) and max(abs(v) for v in whole) >= 10_000:
            return "distinct large whole numbers, as identifiers are"
    elif all(-180 <= v <= 180 and round(v, 4) != round(v, 1) for v in numbers):
        return "coordinates"
    return None


def withheld_text(value: Any, private: Sequence[str]) -> tuple[Any, int]:
    """A kept value with every text that leaks replaced by none, and how many were.

    Args:
        value: text, or lists and dicts of it; other values pass.
        private: the private texts of the same row.
    """
    if isinstance(value, str):
        leaks = telling(value) or shared_words(value, private)
        return (None, 1) if leaks else (value, 0)
    if isinstance(value, dict):
        pairs = {k: withheld_text(v, private) for k, v in value.items()}
        return {k: v for k, (v, _) in pairs.items()}, sum(n for _, n in pairs.values())
    if isinstance(value, (list, tuple)):
        items = [withheld_text(v, private) for v in value]
        return [v for v, _ in items], sum(n for _, n in items)
    return value, 0


def _words(text: str) -> set[str]:
    return {w.casefold() for w in _WORD.findall(text)}
