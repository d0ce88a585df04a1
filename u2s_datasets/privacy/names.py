"""Persons and places in short names, such as a class or a column, by lists of them.

A list is no recognizer of names in prose: "rose", "grace" and "reading" are words there. In the name of a class a hit
is worth a question, which `--allow` answers; dog breeds and towns are classes, too.
"""

import functools
import itertools
import re
import unicodedata
from pathlib import Path

from u2s_datasets.privacy.plain_text import script_of

_LISTS = Path(__file__).parent / "gazetteer"
_UNFOLDED = str.maketrans({"ß": "ss", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "ı": "i"})
_MOST_WORDS = 4  # of a place


def find_name(text: str, any_script: bool = False) -> str | None:
    """What a short name looks like: "a person's name", "a place", or what no list can tell; None for neither.

    Only names in Latin letters can be looked up, so those in other scripts are a hit.

    Args:
        text: the name of a class or a column.
        any_script: whether other scripts are no hit, since a recognizer reads them.
    """
    if not any_script and any(
        letter.isalpha() and not letter.isascii() and script_of(letter) not in ("LATIN", "GREEK") for letter in text
    ):
        return "letters of a script whose names no list here holds"
    words, places = _folded_words(text), _listed("places")
    if " ".join(words) in places:
        return "a place"
    given, either, family, also = map(
        _listed, ("given_names", "given_names_also_words", "family_names", "family_names_also_words")
    )
    for word, following in itertools.pairwise([*words, ""]):
        if word in given or word in family:
            return "a person's name"
        if word in either and following in either | family | also:
            return "a person's name"
    for length in range(1, _MOST_WORDS + 1):
        if any(" ".join(words[i : i + length]) in places for i in range(len(words) - length + 1)):
            return "a place"
    return None


def _folded_words(text: str) -> list[str]:
    """The words of a name, with camel case and underscores split, without case and accents."""
    split = re.sub(r"(?<=[a-zà-ÿ])(?=[A-ZÀ-Þ])", " ", text)
    plain = unicodedata.normalize("NFKD", split.casefold().translate(_UNFOLDED))
    return re.findall(r"[^\W\d_]+", "".join(k for k in plain if not unicodedata.combining(k)))


@functools.cache
def _listed(name: str) -> frozenset[str]:
    lines = (_LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    entries = (line for line in lines if not line.startswith("#"))
    return frozenset(entries if name == "places" else (word for line in entries for word in line.split()))
