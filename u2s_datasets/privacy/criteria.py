"""What can make an image private: nine criteria condensed from VISPR's attributes (paper, section 3.1)."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from u2s_datasets.columns import ERROR, JUDGED, LEAK
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import vispr_attributes as vispr

Criteria = tuple[tuple[str, str], ...]
"""(name, description) of each, as the steps hold them: ordered, hashable, part of the fingerprint."""

CriteriaLike = str | Path | Iterable[str] | Criteria
"""What a user may give for them: criteria, or what `load_criteria` takes."""

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

UNKNOWN = "unknown"  # category of a review item that a model put under none of the criteria that it was given

_RESERVED = (ERROR, JUDGED, LEAK, UNKNOWN)
_EXPECTED = (
    f"expected a name ({', '.join(CRITERIA)}), one of VISPR's (a9_face_complete, vispr) or your own as 'name: words'"
)


def load_criteria(given: str | Path | Iterable[str]) -> Criteria:
    """Criteria for the `criteria` of the steps: from the nine or VISPR by name, and your own.

    Args:
        given: names of `CRITERIA`; ids of VISPR's attributes, "vispr" for all of them or "vispr:" and a group, such
            as "vispr:health"; or your own, "name: words" or a phrase. One or several of these, or a text file with one
            per line, in which empty lines and those that start with "#" do not count.

    Raises:
        SetupError: an unknown name, a file that cannot be read, no criteria at all, or a name that is given twice.
    """
    if isinstance(given, Path) or (isinstance(given, str) and _is_file_name(given)):
        lines = _read_lines(Path(given))
    else:
        lines = [given] if isinstance(given, str) else list(given)
    found = tuple(criterion for line in lines for criterion in _parse_criteria(line))
    check_criteria(found)
    return found


def as_criteria(given: CriteriaLike) -> Criteria:
    """Criteria as they are, or those of what `load_criteria` takes."""
    if isinstance(given, tuple) and given and all(isinstance(one, tuple) for one in given):
        check_criteria(cast(Criteria, given))
        return cast(Criteria, given)
    return load_criteria(cast(str | Path | Iterable[str], given))


def check_criteria(criteria: Criteria) -> None:
    """Raise `SetupError` unless a step can ask for these criteria."""
    if not criteria:
        raise SetupError(f"criteria=() asks for nothing; {_EXPECTED}")
    for pair in criteria:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, str) and v.strip() for v in pair)):
            raise SetupError(f"invalid criterion {pair!r}; expected (name, words), as u2s.load_criteria makes them")
    names = [name.casefold() for name, _ in criteria]
    for name in names:
        if names.count(name) > 1:
            raise SetupError(f"criterion {name!r} is given twice; name each once")
        if name in _RESERVED:
            raise SetupError(f"reserved criterion name {name!r}; choose another name")


def match_criterion(word: str, criteria: Criteria) -> str:
    """The name of the criterion that a model calls by this word, else `UNKNOWN`: never a reserved category."""
    return next((name for name, _ in criteria if name.casefold() == word.strip().casefold()), UNKNOWN)


def _is_file_name(given: str) -> bool:
    return "\n" not in given and (given.endswith(".txt") or (":" not in given and Path(given).is_file()))


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"criteria file {str(path)!r} cannot be read: {error}; give a UTF-8 text file") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _parse_criteria(line: str) -> Criteria:
    if not isinstance(line, str) or not line.strip():
        raise SetupError(f"invalid criterion {line!r}; {_EXPECTED}")
    text = " ".join(line.split())
    if text in CRITERIA:
        return ((text, CRITERIA[text]),)
    if attributes := vispr.attributes_named(text):
        return tuple((a.id, a.words) for a in attributes)
    name, colon, words = (part.strip() for part in text.partition(":"))
    if colon and name == vispr.PREFIX:
        raise SetupError(f"unknown VISPR group {text!r}; expected one of: {', '.join(vispr.set_names())}")
    if colon and not (name and words):
        raise SetupError(f"incomplete criterion {text!r}; expected 'name: words'")
    if not colon and " " not in text:
        raise SetupError(f"unknown criterion {text!r}; {_EXPECTED}")
    return ((name, words) if colon else (text, text),)
