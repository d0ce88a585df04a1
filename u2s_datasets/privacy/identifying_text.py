"""What may not stand in a public text or travel as a kept column: a first, plain rule set.

It errs towards stopping: a kept text that shares a telling word with what was read in its image, or that looks
like a contact, a date, a place or a long number, stays home.
"""

from __future__ import annotations

import datetime
import decimal
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

_MONTH = (
    "(?:jan(?:uary|uar|v|vier)?|janner|enero|ene|feb(?:ruary|ruar|rero)?|fevr?(?:ier)?|mar(?:ch|s|z|zo)?|maerz"
    "|apr(?:il)?|avr(?:il)?|abr(?:il)?|may|mayo|mai|june?|juni|juin|junio|july?|juli|juil(?:let)?|julio"
    "|aug(?:ust)?|aout|agosto|sept?(?:ember|embre|iembre)?|setiembre|o[ck]t(?:ober|obre|ubre)?"
    "|nov(?:ember|embre|iembre)?|de[cz](?:ember|embre)?|dic(?:iembre)?)(?![a-z])"
)
_GAP = r"[\s.,_/'-]{0,3}"

_PATTERNS = {  # quantifiers are bounded, so that a long text costs no more than its length
    "encoded data": re.compile(r"[A-Za-z0-9+/=_-]{80}"),
    "control characters": re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ud800-\uf8ff\U000f0000-\U0010ffff]"),
    "a digest or key": re.compile(
        r"(?<![^\W_])(?:(?:0x)?[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-)", re.IGNORECASE
    ),
    "an e-mail address": re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.\w"),
    "an account": re.compile(r"(?<![\w@])@[^\W\d_]\w"),
    "a link": re.compile(
        r"\b(?:[a-z][a-z0-9+]{1,9}://|www\.)\S|(?<![\w-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[a-z]{2,24}/\w"
        r"|\w\.(?:com|org|net|edu|gov|info|biz)(?!\w)",
        re.IGNORECASE,
    ),
    "a file name": re.compile(
        r"[\w)]\.(?:jpe?g|png|gif|webp|tiff?|bmp|hei[cf]|avif|dng|nef|cr[23w]|arw|raw|mp4|mov|pdf)(?![^\W_])",
        re.IGNORECASE,
    ),
    "a path": re.compile(r"(?:[A-Za-z]:[\\/]|\\\\|~?/)[\w.-]{1,255}[/\\]|(?<!\S)~?/\w"),
    "a date": re.compile(
        r"(?<![^\W_])\d{1,4}[-/._]\d{1,2}[-/._]\d{1,4}(?!\d)"
        r"|(?<!\d)\d{1,2}[-/.]\s\d{1,2}[-/.]\s\d{4}(?!\d)"
        r"|(?<!\d)(?:19|20)\d\d[-/._ ]?(?:0[1-9]|1[0-2])[-/._ ]?(?:0[1-9]|[12]\d|3[01])(?!\d)"
        r"|\d{1,4}\s?[年년]\s?\d{1,2}\s?[月월]"
        rf"|(?<!\d)(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|er)?{_GAP}(?:(?:of|de|del|the)\s)?(?<![a-z]){_MONTH}"
        rf"|(?<!\d)(?:0?[1-9]|[12]\d|3[01]){_MONTH}"
        rf"|(?<![a-z]){_MONTH}{_GAP}(?:(?:of|de|del|the)\s)?(?:\d{{1,2}}|\d{{4}})(?!\d)",
        re.IGNORECASE,
    ),
    "coordinates": re.compile(
        r"-?\d{1,3}[.,]\d{3,15}\s*[,;/\s]\s*-?\d{1,3}[.,]\d{3}"
        r"|\d{1,3}(?:[.,]\d{1,15})?\s*[°º˚]\s*(?:\d{1,2}(?:[.,]\d{1,15})?\s*['′’‘´]|[NSEWO](?!\w))"
        r"|\d{1,3}[.,]\d{3,15}\s*[°º˚]?\s*[NSEWO](?!\w)|\d{1,3}\s\d{1,2}\s\d{1,2}(?:[.,]\d{1,15})?\s?[NSEWO](?!\w)"
    ),
    # A letter before it makes it no number, unless there are seven digits in a row; n02085936 is a WordNet synset.
    "a long number": re.compile(
        r"(?<![^\W_])(?<!\.)\+?\d(?:[ ()./_-]{0,2}\d){6}|(?<![\d.])(?!(?<=(?<![^\W_])n)\d{8}(?!\d))\d{7}"
    ),
}
_TELLING_NAME = re.compile(
    r"(?:^|_|\d)(?:id|ids|uid|uuid|guid|key|hash|md5|sha\d*|lat|latitude|lon|lng|long|longitude|gps|coords?"
    r"|coordinates|geo|location|address|street|date|datetime|day|month|year|time|timestamp|created|taken|birth|dob"
    r"|phone|tel|zip|postcode|ssn|passport|iban|serial|ip|file|filename|path|filepath|url|name|names|firstname"
    r"|lastname|surname|fullname|email|user|username|login|account|author|owner|patient|exif|[adpw]hash|blurhash"
    r"|thumb|thumbs|thumbhash|thumbnail|thumbnails|emb|embed|embedding|embeddings)(?:_|\d|$)"
)
_MIXED = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_PIECE = re.compile(r"[^\s,;:|()\[\]{}'\"]+")
_NUMBER = re.compile(r"[+-]?\d*\.?\d+\.?(?:e[+-]?\d+)?|(?:0?x)?(?:[0-9a-f]{2}){1,8}|true|false", re.IGNORECASE)
_MIXED_MOST = 80
"""Characters in words whose letters and digits alternate, at most: a text of more is data in base 32, 64 or 85."""
_NUMBERS_MOST = 63
"""Numbers that a text may list, as many as a kept column: more are pixels or the bytes of a file."""
_RUN = re.compile(r"[^\W_]+")
CAMEL = re.compile("(?<=[a-zà-öø-ÿа-яё])(?=[A-ZÀ-ÖØ-ÞА-ЯЁ])")
_EDGE = re.compile(rf"{CAMEL.pattern}|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]{2,}"
)
"""Scripts that put no spaces between words, and Korean, whose particles cling to names."""

_NAME = 4
"""Characters of a name in such a script, at most: two of them are its family's or its own."""

_PASSING = (bool, int, float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)


def telling(text: str) -> str | None:
    """What in a text could identify by its shape alone, such as "a date"; none where nothing does.

    Months are known by their English, German, French and Spanish names.
    """
    return next(_kinds(text), None)


def _kinds(text: str) -> Iterator[str]:
    forms = (text, _plain(text))
    yield from (kind for kind, pattern in _PATTERNS.items() if any(pattern.search(f) for f in forms))
    if _carries_data(forms[1]):
        yield "encoded data"


def _carries_data(text: str) -> bool:
    """Whether a text is data as text, however it is wrapped: letters and digits alternate, or numbers make up a third.

    In random base 64 a quarter of the characters follow one of the other kind, in base 85 a seventh; words and names,
    such as "n02085936-Maltese", hardly have a second change.
    """
    words = (word for word in text.split() if len(word) >= 8)
    mixed = sum(len(word) for word in words if len(_MIXED.findall(word)) >= max(2, 0.08 * len(word)))
    pieces = _PIECE.findall(text)
    numbers = sum(bool(_NUMBER.fullmatch(piece)) for piece in pieces)
    return mixed > _MIXED_MOST or (numbers > _NUMBERS_MOST and 3 * numbers >= len(pieces))


def shared_words(text: str, private: Iterable[str]) -> set[str]:
    """What a public text shares with private ones, folded to letters and digits without case or accents.

    Shared are words of three characters and more; a private text as a whole, however it is spaced ("JohnSmith",
    "JOHN SMITH"), from word edge to word edge or, from four characters, inside a word; a word of five letters
    inside words that were read without their spaces; and, in scripts without spaces, two characters in a row, or
    three of a longer run. A private text of fewer than three characters (two in such scripts) is ignored.
    """
    public = Folded(text)
    return {word for other in private for word in public.shared(Folded(other))}


def telling_name(name: str) -> bool:
    """Whether a column's name says that it identifies, dates or locates."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]", "_", name).lower()
    return bool(_TELLING_NAME.search(words))


def says(text: str, names: Iterable[str]) -> bool:
    """Whether a text holds one of these names whole, whatever its case and punctuation.

    A file's name is compared so, and not word by word: beside `dog_01.jpg` a text may speak of a dog.
    """
    glued = "".join(_RUN.findall(_plain(text))).casefold().replace("_", "")
    folded = ("".join(_RUN.findall(_plain(name))).casefold().replace("_", "") for name in names)
    return any(name in glued for name in folded if name)


def withheld_text(value: Any, private: Sequence[str], names: Sequence[str] = ()) -> tuple[Any, int]:
    """A kept value with every text that leaks replaced by none, and how many were.

    The texts of a list are judged in a row as well, for a number or an address may stand there in pieces; where they
    leak together, all of them are replaced.

    Args:
        value: text, or lists and dicts of it; numbers, dates and none pass, for `kept.check_kept` judged them.
        private: the private texts of the same row.
        names: names of the row's own file, see `says`.

    Raises:
        TypeError: for bytes and whatever else no rule knows; `kept.check_kept` lets no such column through.
    """
    if isinstance(value, str):
        return (None, 1) if telling(value) or _says_private(value, private, names) else (value, 0)
    if isinstance(value, dict):
        pairs = {k: withheld_text(v, private, names) for k, v in value.items()}
        return {k: v for k, (v, _) in pairs.items()}, sum(n for _, n in pairs.values())
    if isinstance(value, (list, tuple)):
        items = [withheld_text(v, private, names) for v in value]
        kept, stopped = [v for v, _ in items], sum(n for _, n in items)
        left = list(strings(kept))
        if left and _leak_together(list(strings(value)), left, private, names):
            return _without_texts(kept), stopped + len(left)
        return kept, stopped
    if value is None or isinstance(value, _PASSING):
        return value, 0
    raise TypeError(f"a kept value is {type(value).__name__}, which nothing has inspected; leave its column out")


def strings(value: Any) -> Iterator[str]:
    """Every string in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)


def _says_private(text: str, private: Sequence[str], names: Sequence[str]) -> bool:
    return bool(shared_words(text, private)) or says(text, names)


def _leak_together(pieces: Sequence[str], left: Sequence[str], private: Sequence[str], names: Sequence[str]) -> bool:
    """Whether texts in a row say what none of them says alone, or those that are left by themselves say anything."""
    if len(pieces) < 2:
        return False
    found = _together(left)
    if len(left) < len(pieces):  # what leaks alone, such as a domain, may end what stands before it
        found |= _together(pieces) - {kind for piece in pieces for kind in _kinds(piece)}
    return bool(found) or any(_says_private(text, private, names) for text in (" ".join(left), "".join(left)))


def _together(pieces: Sequence[str]) -> set[str]:
    """What could identify in texts in a row, with spaces between them or without.

    Without, plain words look like data and ids of classes like numbers, which are known with spaces as well.
    """
    return {*_kinds(" ".join(pieces))} | ({*_kinds("".join(pieces))} - {"encoded data", "a long number"})


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_texts(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_texts(v) for v in value]
    return None if isinstance(value, str) else value


def _plain(text: str) -> str:
    """The text without accents and invisible characters, with plain dashes, digits and spaces."""
    kept = (k for k in unicodedata.normalize("NFKD", text) if unicodedata.category(k) not in ("Mn", "Cf"))
    plain = ("-" if unicodedata.category(k) == "Pd" else k for k in kept)
    return unicodedata.normalize("NFC", "".join(plain))


class Folded:
    """A text in the shapes that are compared.

    Attributes:
        runs: its letters and digits from word edge to word edge, without case and accents.
        joined: all of them in a row.
    """

    def __init__(self, text: str) -> None:
        self._runs = _RUN.findall(_plain(text))
        self.runs = [run.casefold() for run in self._runs]
        self.joined = "".join(self.runs)

    @cached_property
    def words(self) -> set[str]:
        """Whole words and the parts of camel case, of three characters and more."""
        parts = {part.casefold() for run in self._runs for part in CAMEL.split(run)}
        return {word for word in {*self.runs, *parts} if len(word) >= 3}

    @cached_property
    def pieces(self) -> list[str]:
        """The text cut wherever a word could begin."""
        return [piece.casefold() for run in self._runs for piece in _EDGE.split(run)]

    def shared(self, private: Folded) -> Iterator[str]:
        """What of the private text stands here."""
        yield from self.words & private.words
        whole = private.joined
        if len(whole) >= 3 and self.says(whole):
            yield whole
        read = [run for run in private.runs if run.isalpha()]
        yield from (w for w in self.words if len(w) >= 5 and w.isalpha() and any(w in run for run in read))
        yield from self.unspaced(private)

    def says(self, whole: str) -> bool:
        """Whether a folded text stands here, however spaced: between word edges, from four characters in a word."""
        if whole not in self.joined:
            return False
        return (len(whole) >= 4 and any(whole in run for run in self.runs)) or self._spells(whole)

    def unspaced(self, private: Folded) -> Iterator[str]:
        """What stands here of the private text's runs in scripts without spaces."""
        for run in _UNSPACED.findall(private.joined):
            size = 2 if len(run) <= _NAME else 3
            yield from (run[i : i + size] for i in range(len(run) - size + 1) if run[i : i + size] in self.joined)

    def _spells(self, word: str) -> bool:
        """Whether some pieces in a row make up the word."""
        pieces = self.pieces
        for first in range(len(pieces)):
            rest, at = word, first
            while at < len(pieces) and rest.startswith(pieces[at]):
                rest, at = rest[len(pieces[at]) :], at + 1
                if not rest:
                    return True
        return False
