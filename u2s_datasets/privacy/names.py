"""Persons and places in short names, such as a class or a column, by lists of them.

Names of persons stand in `gazetteer`. Places are those of the time zone database, which the package `tzdata` carries:
all countries, and the towns and islands after which a zone is called, in most countries one or two.

A list is no recognizer of names in prose: "rose", "grace" and "reading" are words there. In the name of a class a hit
is worth a question, which `--allow` answers; dog breeds and towns are classes, too.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from u2s_datasets.privacy.plain_text import script_of

_LISTS = Path(__file__).parent / "gazetteer"
_UNFOLDED = str.maketrans({"ß": "ss", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "ı": "i"})
# user_8472, subject 3, S001, u8472; classes such as A340, n02085936, class_12 and character01 are left alone
_PERSON_NUMBER = re.compile(
    r"(?i)(?<![^\W_])(?:user|person|people|subject|subj|patient|customer|client|member|student|pupil|employee|player|actor"
    r"|donor|participant|volunteer|worker|driver|resident|owner|author|annotator|speaker|identity|celeb|celebrity|pid|uid"
    r"|individual|face|man|woman|boy|girl|child)s?[ _#.:-]{0,2}\d+(?![^\W_])|(?<![^\W_])[up]\d{3,}(?![^\W_])|^s\d{2,4}$"
)
_MOST_WORDS = 4  # of a place
_AREAS = {"Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"}
_LEAST_LETTERS = 4  # of a place: NSW and Yap are too short to tell anything
# Zones and countries that a class or column is hardly named for: points of the compass, animals, feasts and the like.
_ALSO_WORDS = {
    *("canary", "casey", "center", "central", "chad", "china", "christmas", "cocos", "currie", "darwin", "davis"),
    *("dawson", "easter", "eastern", "guinea", "jersey", "johnston", "knox", "midway", "nome", "north", "oral"),
    *("palmer", "phoenix", "resolute", "south", "stanley", "troll", "turkey", "virgin", "wake", "west", "yukon"),
}


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
    if _PERSON_NUMBER.search(text):
        return "the number of a person"
    words, places = _folded_words(text), _places()
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
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@functools.cache
def _places() -> frozenset[str]:
    """Countries and the places that zones are called after, as folded words."""
    names = (" ".join(_folded_words(name)) for name in itertools.chain(_zones(), _countries()))
    return frozenset(name for name in names if len(name) >= _LEAST_LETTERS) - _ALSO_WORDS


def _zones() -> Iterator[str]:
    for zone in resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split():
        area, *parts = zone.split("/")  # America/Indiana/Tell_City
        if area in _AREAS:
            yield from parts


def _countries() -> Iterator[str]:
    """Countries as the database spells them and as people do: South Korea for "Korea (South)", Bosnia, Saint Lucia."""
    table = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line and not line.startswith("#"):
            name, _, which = line.split("\t")[1].removesuffix(")").partition(" (")
            yield from (name, f"{which} {name}", *name.split(" & "), re.sub(r"^St ", "Saint ", name))
