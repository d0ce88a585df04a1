"""What may not stand in a public text or leave with a kept column, by what a text looks like and what it repeats.

The rules err towards stopping: a kept text is withheld if it shares a word with what was read in its image, or if it
looks like a contact, a date, a place or a long number.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from u2s_datasets.privacy.plain_text import MAX_CHARS, plain, refusal
from u2s_datasets.privacy.recognizers import RECOGNIZERS

_IDENTIFYING_NAME = re.compile(
    r"(?:^|_|\d)(?:id|ids|idx|index|indices|rownum|rowid|uid|uuid|guid|key|hash|md5|sha\d*|lat|latitude|lon|lng|long"
    r"|longitude|gps|coords?"
    r"|coordinates|geo|location|address|street|date|datetime|day|month|year|time|timestamp|created|taken|birth|dob"
    r"|phone|tel|zip|postcode|ssn|passport|iban|serial|ip|file|filename|path|filepath|url|name|names|firstname"
    r"|lastname|surname|fullname|email|user|username|login|account|author|owner|patient|exif|[adpw]hash|blurhash"
    r"|thumb|thumbs|thumbhash|thumbnail|thumbnails|emb|embed|embedding|embeddings|vec|vector|vectors|feat|feats|features"
    r"|latent|latents|logits|easting|northing|utm|mgrs|altitude|elevation|epoch|born|postal|plz|plate)(?:_|\d|$)"
)
# Random base 64 changes between letters and digits after every fourth character, base 85 after every seventh; words
# and names such as "n02085936-Maltese" hardly do so twice.
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_PIECE = re.compile(r"[^\s,;:|()\[\]{}'\"]+")
_NUMBER = re.compile(r"[+-]?\d*\.?\d+\.?(?:e[+-]?\d+)?|(?:0?x)?(?:[0-9a-f]{2}){1,8}|true|false", re.IGNORECASE)
_MAX_MIXED_CHARS = 80  # in words of alternating letters and digits: beyond it the text is data in base 32, 64 or 85
_MAX_NUMBERS = 63  # as many as a kept column may list: more are pixels or the bytes of a file
_MAX_TOGETHER = 25 * MAX_CHARS  # characters of a list of texts, which are read twice more, joined

_RUN = re.compile(r"[^\W_]+")
_CAMEL = re.compile("(?<=[a-zà-öø-ÿа-яё])(?=[A-ZÀ-ÖØ-ÞА-ЯЁ])")
_EDGE = re.compile(rf"{_CAMEL.pattern}|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
# Scripts that put no spaces between words, and Korean, whose particles cling to names.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]{2,}"
)
_MAX_UNSPACED_NAME = 4  # characters of a name in such a script: any two of them are its family's part or its own

_PASSING = (bool, int, float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)


def find_pii_pattern(text: str) -> str | None:
    """Why a text is stopped by its form alone: it is refused whole, or holds such as "a date"; None if it is harmless.

    See `plain_text.refusal` and `recognizers.RECOGNIZERS`.
    """
    return refusal(text) or next(_pii_patterns(text), None)


def _pii_patterns(text: str) -> Iterator[str]:
    spellings = {text, plain(text), without_accents(plain(text))}
    for recognizer in RECOGNIZERS:
        if any(next(recognizer.analyze(spelling), None) for spelling in spellings):
            yield recognizer.says
    if _is_encoded_data(without_accents(text)):
        yield "encoded data"


def _is_encoded_data(text: str) -> bool:
    """Whether a text holds data, however it is wrapped: letters and digits alternate, or a third are numbers."""
    words = (word for word in text.split() if len(word) >= 8)
    mixed = sum(len(word) for word in words if len(_CHANGE.findall(word)) >= max(2, 0.08 * len(word)))
    pieces = _PIECE.findall(text)
    numbers = sum(bool(_NUMBER.fullmatch(piece)) for piece in pieces)
    return mixed > _MAX_MIXED_CHARS or (numbers > _MAX_NUMBERS and 3 * numbers >= len(pieces))


def is_identifying_name(name: str) -> bool:
    """Whether a column's name says that its values identify, date or locate."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]", "_", name).lower()
    return bool(_IDENTIFYING_NAME.search(words))


def withhold_texts(
    value: Any,
    private: Sequence[str],
    names: Sequence[str] = (),
    holds_name: Callable[[str], bool] | None = None,
) -> tuple[Any, int]:
    """A kept value with None in place of every text that leaks, and the number of these texts.

    The texts of a list are also judged joined, since a number or an address may stand there in pieces; if they leak
    together, all of them are withheld.

    Args:
        value: text, or lists and dicts of it. Numbers, dates and None pass: `kept_columns.check_kept` judged them.
        private: the private texts of the same row.
        names: names of the row's own file, whole: beside `dog_01.jpg` a text may speak of a dog.
        holds_name: whether a recognizer of names finds one in a text; None where there is none.

    Raises:
        TypeError: a value of a type that no rule knows, such as bytes.
    """
    private_texts = [FoldedText(text) for text in private]
    file_names = [name for name in (FoldedText(name).joined for name in names) if name]

    def says_private(text: str) -> bool:
        public = FoldedText(text)
        return any(map(public.shares_words, private_texts)) or any(name in public.joined for name in file_names)

    def leaks(text: str) -> bool:
        return says_private(text) or (holds_name is not None and holds_name(text))

    kept = _without_leaks(value, leaks)
    return kept, len(list(iter_strings(value))) - len(list(iter_strings(kept)))


def _without_leaks(value: Any, says_private: Callable[[str], bool]) -> Any:
    if isinstance(value, str):
        return None if find_pii_pattern(value) or says_private(value) else value
    if isinstance(value, dict):
        return {k: _without_leaks(v, says_private) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        kept = [_without_leaks(v, says_private) for v in value]
        leak = _leak_together(list(iter_strings(value)), list(iter_strings(kept)), says_private)
        return _without_leaks(kept, lambda text: True) if leak else kept
    if value is None or isinstance(value, _PASSING):
        return value
    raise TypeError(f"a kept value is {type(value).__name__}, which nothing has inspected; leave its column out")


def _leak_together(pieces: Sequence[str], left: Sequence[str], says_private: Callable[[str], bool]) -> bool:
    """Whether the texts of a list say joined what none of them says alone.

    Args:
        pieces: all of them.
        left: those that do not leak alone.
    """
    if not left or len(pieces) < 2:
        return False
    if sum(map(len, pieces)) > _MAX_TOGETHER:
        return True
    found = _patterns_across(left)
    if len(left) < len(pieces):  # what leaks alone, such as a domain, may end what stands before it
        found |= _patterns_across(pieces) - {kind for piece in pieces for kind in _pii_patterns(piece)}
    return bool(found) or says_private(" ".join(left)) or says_private("".join(left))


def _patterns_across(pieces: Sequence[str]) -> set[str]:
    # Without spaces plain words look like data and class ids like numbers and keys; all are found with spaces as well.
    glued = {*_pii_patterns("".join(pieces))} - {recognizer.says for recognizer in RECOGNIZERS if recognizer.of_tokens}
    return {*_pii_patterns(" ".join(pieces))} | glued


def iter_strings(value: Any) -> Iterator[str]:
    """Every string in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from iter_strings(inner)


def base_letters(text: str) -> str:
    """The text without accents and invisible characters, with plain dashes, digits and spaces; Hangul is decomposed."""
    kept = (k for k in unicodedata.normalize("NFKD", text) if unicodedata.category(k) not in ("Mn", "Cf"))
    return "".join("-" if unicodedata.category(k) == "Pd" else k for k in kept)


def without_accents(text: str) -> str:
    """`base_letters`, composed again."""
    return unicodedata.normalize("NFC", base_letters(text))


class FoldedText:
    """A text in the forms in which a public one is compared with a private one.

    Attributes:
        runs: its letters and digits from word edge to word edge, without case and accents.
        joined: all of them in a row.
    """

    def __init__(self, text: str) -> None:
        self._cased_runs = _RUN.findall(without_accents(text))
        self.runs = [run.casefold() for run in self._cased_runs]
        self.joined = "".join(self.runs)

    @cached_property
    def words(self) -> set[str]:
        """Whole words and the parts of camel case, of three characters and more."""
        parts = {part.casefold() for run in self._cased_runs for part in split_camel_case(run).split()}
        return {word for word in {*self.runs, *parts} if len(word) >= 3}

    @cached_property
    def _edges(self) -> set[int]:
        """Where in `joined` a word could begin or end."""
        pieces = (piece.casefold() for run in self._cased_runs for piece in _EDGE.split(run))
        return {0, *itertools.accumulate(map(len, pieces))}

    def shares_words(self, private: FoldedText) -> bool:
        """Whether a private text can be recognised in this one.

        It can by a word of three characters and more; by the whole of it, however it is spaced ("JohnSmith", "JOHN
        SMITH"); by a word of five letters that stands here alone and there within a run that was read without its
        spaces; and in scripts without spaces, see `shares_unspaced`. A private text of fewer than three characters
        (two in such scripts) is ignored.
        """
        return (
            bool(self.words & private.words)
            or (len(private.joined) >= 3 and self.contains(private.joined))
            or any(len(w) >= 5 and w.isalpha() and w in r for r in private.runs if r.isalpha() for w in self.words)
            or self.shares_unspaced(private)
        )

    def contains(self, joined: str) -> bool:
        """Whether folded letters stand here, however spaced: between word edges, or from four letters in one word."""
        if joined not in self.joined:
            return False
        if len(joined) >= 4 and any(joined in run for run in self.runs):
            return True
        return any(i + len(joined) in self._edges and self.joined.startswith(joined, i) for i in self._edges)

    def shares_unspaced(self, private: FoldedText) -> bool:
        """Whether two characters in a row, or three of a longer run, are shared in a script without spaces."""
        for run in _UNSPACED.findall(private.joined):
            size = 2 if len(run) <= _MAX_UNSPACED_NAME else 3
            if any(run[i : i + size] in self.joined for i in range(len(run) - size + 1)):
                return True
        return False


def split_camel_case(text: str) -> str:
    """The text with a space wherever a word begins inside another, as in "JohnSmith"."""
    return _CAMEL.sub(" ", text)
