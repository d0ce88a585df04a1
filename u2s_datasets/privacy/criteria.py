"""What can make an image private: nine criteria condensed from VISPR's attributes (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from u2s_datasets.columns import ERROR, JUDGED, LEAK
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import vispr_attributes as vispr

Criteria = tuple[tuple[str, str], ...]
"""(name, words) of each, as the steps hold them: ordered, hashable, part of the fingerprint."""

Given = str | Path | Iterable[str] | Criteria
"""What a user may say for them, see `load_criteria`."""

CRITERIA = {
    "people": "people: faces whole or partial, skin in private contexts, tattoos, emotion",
    "appearance": "appearance that tells gender, culture, religion, status or role",
    "health": "health indicators",
    "text": "text and symbols: signs, receipts, documents, screens, handwriting, plates, names, numbers",
    "places": "locations and timestamps",
    "interactions": "personal interactions",
    "settings": "professional and school settings",
    "affiliations": "cultural, political and religious identifiers",
    "belongings": "private belongings and behaviours",
}

DEFAULT: Criteria = tuple(CRITERIA.items())

UNKNOWN = "unknown"
"""Category of a review item that a model put under no criterion that it was given."""

_RESERVED = (ERROR, JUDGED, LEAK, UNKNOWN)
_HINT = f"use a name ({', '.join(CRITERIA)}), one of VISPR's (a9_face_complete, vispr), or your own as 'name: words'"


def load_criteria(given: str | Path | Iterable[str]) -> Criteria:
    """Criteria for the steps' `criteria`, of the nine and of VISPR's by name, and of your own.

    Args:
        given: names of `CRITERIA`; ids of `vispr.ATTRIBUTES`, "vispr" for all of them or "vispr:" and a group, such
            as "vispr:health"; or own criteria, "name: words" or a phrase; one or several; or a text file with one to
            a line, where empty lines and those that begin with "#" do not count.

    Raises:
        SetupError: no such file or name, none at all, or the same name twice.
    """
    if isinstance(given, Path) or (isinstance(given, str) and _names_a_file(given)):
        lines = _lines(Path(given))
    else:
        lines = [given] if isinstance(given, str) else list(given)
    found = tuple(criterion for line in lines for criterion in _criteria(line))
    check(found)
    return found


def as_criteria(given: Given) -> Criteria:
    """Criteria as they are, or of what `load_criteria` takes."""
    if isinstance(given, tuple) and given and all(isinstance(one, tuple) for one in given):
        check(given)  # type: ignore[arg-type]
        return given  # type: ignore[return-value]
    return load_criteria(given)  # type: ignore[arg-type]


def check(criteria: Criteria) -> None:
    """Raise `SetupError` where these are no criteria that a step can ask for."""
    if not criteria:
        raise SetupError(f"criteria=() asks for nothing; {_HINT}")
    for pair in criteria:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, str) and v.strip() for v in pair)):
            raise SetupError(f"the criterion {pair!r} is no (name, words); make them with u2s.load_criteria")
    names = [name.casefold() for name, _ in criteria]
    for name in names:
        if names.count(name) > 1:
            raise SetupError(f"the criterion {name!r} is given twice; name each once")
        if name in _RESERVED:
            raise SetupError(f"{name!r} cannot name a criterion, it has a meaning here; choose another name")


def category(said: str, criteria: Criteria) -> str:
    """The criterion that a model means by this word, or `UNKNOWN`: never a category that has a meaning here."""
    return next((name for name, _ in criteria if name.casefold() == said.strip().casefold()), UNKNOWN)


def _names_a_file(given: str) -> bool:
    return "\n" not in given and (given.endswith(".txt") or (":" not in given and Path(given).is_file()))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"criteria file {str(path)!r} cannot be read: {error}; give a UTF-8 text file") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _criteria(line: str) -> Criteria:
    if not isinstance(line, str) or not line.strip():
        raise SetupError(f"{line!r} is no criterion; {_HINT}")
    text = " ".join(line.split())
    if text in CRITERIA:
        return ((text, CRITERIA[text]),)
    if attributes := vispr.attributes_named(text):
        return tuple((a.id, a.words) for a in attributes)
    name, colon, words = (part.strip() for part in text.partition(":"))
    if colon and name == vispr.PREFIX:
        raise SetupError(f"unknown group {text!r} of VISPR's attributes; use one of: {', '.join(vispr.set_names())}")
    if colon and not (name and words):
        raise SetupError(f"the criterion {text!r} lacks its name or its words; write 'name: words'")
    if not colon and " " not in text:
        raise SetupError(f"unknown criterion {text!r}; {_HINT}")
    return ((name, words) if colon else (text, text),)
