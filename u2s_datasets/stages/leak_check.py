"""Whether a public text says what was private, by a plain rule that `tests/test_leak_check.py` measures.

Telling is what was named in the review or read in the image and is none of `common_words.txt`, has a digit, or is a
name (a capital within a sentence); and a reading or quotation of several words, even common ones. Of the private
caption and the review's reasons, which describe at length, only digits, names and quotations are telling.

Not seen: another wording for the same thing, such as a number in words, a translation or a nickname; another
spelling than accents, capitals, plurals and hyphens; a name that is a common word, in lower case or first in its
sentence.
"""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import RowError
from u2s_datasets.parts import Backend, Request
from u2s_datasets.rows import Row
from u2s_datasets.stages.ask import objection
from u2s_datasets.stages.step import each, each_row

_OURS = (columns.ERROR, columns.LEAK)
_WORD = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(r"\d(?:[ \-./(),]*\d){3,}")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]+)[\"”“»]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly")


@dataclass(frozen=True)
class Private:
    """What may not be said: words as they are folded, names (common words, with a capital), runs of words."""

    words: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    phrases: frozenset[tuple[str, ...]] = frozenset()

    def __or__(self, other: Private) -> Private:
        return Private(self.words | other.words, self.names | other.names, self.phrases | other.phrases)


def private_of(review: Iterable[Mapping[str, Any]], caption: str = "") -> Private:
    """What a review and a private caption make private."""
    review = list(review)
    words = (item["item"] or "" for item in review if item["category"] not in _OURS and item["box"] is None)
    return functools.reduce(operator.or_, map(named, words), read_of(review, caption))


def read_of(review: Iterable[Mapping[str, Any]], caption: str = "") -> Private:
    """Of that, what stands in the image: readings, names, digits, quotations. A thing that was only named is none."""
    found = described(caption)
    for item in review:
        if item["category"] in _OURS:
            continue
        if item["box"] is not None:  # by a detector: the item is a reading, the reason our own words
            found |= named(item["item"] or "", read=True)
        else:
            found |= described(item["item"] or "") | described(item["reason"] or "")
    return found


def named(text: str, read: bool = False) -> Private:
    """What is telling in a text that names something private; `read` where the text itself stood in the image."""
    tokens = [word for word, _ in _words(text)]
    rare = {_folded(w) for w in tokens if not _common(w) and len(w) > (1 if w[0].isupper() or not w.isascii() else 2)}
    return Private(frozenset(rare), phrases=_phrases(text) if read else frozenset()) | described(text)


def described(text: str) -> Private:
    """What is telling in a text that describes: digits, names, quotations."""
    tokens = _words(text)
    capital = {w for w, inside in tokens if inside and w[0].isupper() and len(w) > 1}
    digits = {_folded(w) for w, _ in tokens if any(c.isdigit() for c in w)}
    quoted = [first or second for first, second in _QUOTED.findall(text)]
    return Private(
        frozenset(digits | _long_numbers(text) | {_folded(w) for w in capital if not _common(w)}),
        frozenset(_folded(w) for w in capital if _common(w)),
        frozenset(phrase for words in quoted for phrase in _phrases(words)),
    )


def leaks(text: str, private: Private, allowed: str = "") -> list[str]:
    """Every private word or phrase that a public text says, folded.

    Args:
        allowed: words that may be said all the same, such as the class that the user named.
    """
    tokens = _words(text)
    said = [_folded(word) for word, _ in tokens]
    free = {_folded(word) for word, _ in _words(allowed)}
    words = (set(said) | _long_numbers(text)) & private.words
    words |= {_folded(word) for word, inside in tokens if inside and word[0].isupper()} & private.names
    squeezed = "".join(said)
    words |= {w for w in private.words if len(w) > (5 if w.isascii() else 1) and w in squeezed}
    line = f" {' '.join(said)} "
    runs = {" ".join(p) for p in private.phrases if not set(p) <= free and f" {' '.join(p)} " in line}
    return sorted((words - free) | runs)


@dataclass
class Draft:
    """One public text that a model wrote.

    Attributes:
        request, answer: what was asked, and the whole of what came back.
        text: the public text in it.
        generic: what stands in its place where it says something private twice.
        parse: an answer to its public text and what else it makes private.
        naming: whether the model, having seen the image, may be told which words it was.
    """

    row: Row
    column: str
    request: Request
    answer: str
    text: str
    private: Private
    generic: str
    parse: Callable[[str], tuple[str, Private]]
    naming: bool = False
    allowed: str = ""
    usable: bool = field(default=True, init=False)

    def fail(self, error: RowError) -> None:
        """The second answer is of no use."""
        self.usable = False

    def found(self) -> list[str]:
        return leaks(self.text, self.private, self.allowed)

    def again(self) -> Request:
        said = f" ({', '.join(self.found())})" if self.naming else ", such as a name, a number or a brand"
        what = self.column.replace("_", " ")
        return objection(self.request, self.answer, f"the {what} gives something private away{said}: say it generally")

    def hear(self, answer: str) -> None:
        self.text, more = self.parse(answer)
        self.private |= more


def settle(backend: Backend, drafts: Sequence[Draft]) -> None:
    """Write every draft into its row: as it is, or asked for again, or replaced and counted in the review."""
    leaking = [draft for draft in drafts if draft.found()]
    answers = each(leaking, lambda ds: backend.generate([d.again() for d in ds]), "no_answer")
    heard = {id(draft): answer for draft, answer in zip(leaking, answers, strict=True)}
    each_row([draft for draft in leaking if draft.usable], lambda d: d.hear(heard[id(d)] or ""), "no_answer")
    for draft in leaking:
        if not draft.usable or draft.found():
            draft.text = draft.generic
            item = columns.review_item(columns.LEAK, "", f"{draft.column} was replaced", None, 0.0)
            review = draft.row.fields.get(columns.PRIVACY_REVIEW) or ()
            draft.row.fields[columns.PRIVACY_REVIEW] = [*review, item]
    for draft in drafts:
        draft.row.fields[draft.column] = draft.text


def _words(text: str) -> list[tuple[str, bool]]:
    """Every word, and whether it stands within a sentence rather than first in one."""
    return [
        (match.group(), not re.search(r"(?:\A|[.!?…]\s)\W*\Z", text[: match.start()]))
        for match in _WORD.finditer(unicodedata.normalize("NFKC", text))
    ]


def _folded(word: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).casefold()
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss") else plain


def _phrases(text: str) -> frozenset[tuple[str, ...]]:
    """The runs of three words in a reading; the whole of it, where it has but two."""
    words = [_folded(word) for word, _ in _words(text)]
    length = min(3, len(words))
    runs = (tuple(words[i : i + length]) for i in range(len(words) - length + 1) if length > 1)
    return frozenset(run for run in runs if any(len(word) > 3 for word in run))


def _long_numbers(text: str) -> set[str]:
    return {re.sub(r"\D", "", number) for number in _LONG_NUMBER.findall(text)}


def _common(word: str) -> bool:
    low = word.casefold()
    if len(low) == 1 and low.isascii() and low.isalpha():
        return True
    return any(low.endswith(e) and _plain(low[: len(low) - len(e)]) for e in _ENDINGS)


def _plain(stem: str) -> bool:
    known = _common_words()
    return stem in known or stem + "e" in known or (len(stem) > 3 and stem[-1] == stem[-2] and stem[:-1] in known)


@functools.cache
def _common_words() -> frozenset[str]:
    lines = (Path(__file__).parent / "common_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
