"""Whether a public text says what was private, by a plain rule that `tests/test_leak_check.py` measures.

Telling is what was named in the review or read in the image and is none of `common_words.txt`, has a digit, or is a
name (a capital within a sentence); and a reading or quotation of several words, even common ones. Of the private
caption and the review's reasons, which describe at length, only digits, names and quotations are telling. Spaces,
dots and hyphens change nothing: AB12CDE gives AB 12 CDE away, and JohnSmith John Smith.

Not seen: another wording for the same thing, such as a number in words, a translation or a nickname; another
spelling than accents, capitals, plurals and spaces; a name of five letters or fewer within a longer word; a name that
is a common word, in lower case or first in its sentence.
"""

from __future__ import annotations

import dataclasses
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
from u2s_datasets.privacy.identifying_text import CAMEL, Folded
from u2s_datasets.stages.base import each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.query import objection

_OURS = (columns.ERROR, columns.LEAK)
_WORD = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(r"\d(?:[ \-./(),]*\d){3,}")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]+)[\"”“»]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
_INITIALS = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_]))+")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly")


@dataclass(frozen=True)
class Private:
    """What may not be said: words as they are folded, names (common words, with a capital), runs of words.

    `joined` are the runs of words that may not be said in another spacing either.
    """

    words: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    phrases: frozenset[tuple[str, ...]] = frozenset()
    joined: frozenset[tuple[str, ...]] = frozenset()

    def __or__(self, other: Private) -> Private:
        fields = (f.name for f in dataclasses.fields(self))
        return Private(*(getattr(self, name) | getattr(other, name) for name in fields))


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
    tokens = [word for word, _ in _words(_parted(text))]
    rare = {_folded(w) for w in tokens if not _common(w) and len(w) > (1 if w[0].isupper() or not w.isascii() else 2)}
    found = Private(frozenset(rare), joined=_runs(text, rare)) | described(text)
    return found | _phrases(text) if read else found


def described(text: str) -> Private:
    """What is telling in a text that describes: digits, names, quotations."""
    tokens = _words(_parted(text))
    capital = {w for w, inside in tokens if inside and w[0].isupper() and len(w) > 1}
    digits = {_folded(w) for w, _ in tokens if any(c.isdigit() for c in w)}
    names = {_folded(w) for w in capital if not _common(w)}
    quoted = [first or second for first, second in _QUOTED.findall(text)]
    found = Private(
        frozenset(digits | _long_numbers(text) | names),
        frozenset(_folded(w) for w in capital if _common(w)),
        joined=_runs(text, digits | names),
    )
    return functools.reduce(operator.or_, map(_phrases, quoted), found)


def leaks(text: str, private: Private, allowed: str = "") -> list[str]:
    """Every private word or phrase that a public text says, folded.

    Args:
        allowed: words that may be said all the same, such as the class that the user named.
    """
    tokens = _words(_parted(text))
    said = {_folded(word) for word, _ in tokens}
    free = {_folded(word) for word, _ in _words(allowed)}
    words = (said | _long_numbers(text)) & private.words
    words |= {_folded(word) for word, inside in tokens if inside and word[0].isupper()} & private.names
    words |= _respelled(text, private.words)
    line = f" {' '.join(_folded(word) for word, _ in _words(text))} "
    runs = {" ".join(p) for p in private.phrases if not set(p) <= free and f" {' '.join(p)} " in line}
    runs |= {" ".join(p) for p in _respaced(text, private.joined) if not {*map(_folded, p)} <= free}
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


def _parted(text: str) -> str:
    """The text, and behind it once more with its camel case taken apart, where it has some."""
    parted = CAMEL.sub(" ", text)
    return text if parted == text else f"{text}. {parted}"


def _folded(word: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).casefold()
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss") else plain


def _phrases(text: str) -> Private:
    """The runs of three words in a reading; the whole of it, where it has but two."""
    folded = [_folded(word) for word, _ in _words(text)]
    return Private(phrases=_threes(folded), joined=_threes(Folded(text).runs))


def _threes(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    length = min(3, len(words))
    runs = (tuple(words[i : i + length]) for i in range(len(words) - length + 1) if length > 1)
    return frozenset(run for run in runs if any(len(word) > 3 for word in run))


def _runs(text: str, telling: set[str]) -> frozenset[tuple[str, ...]]:
    """Two to four words in a row of which one is telling, or which are single letters."""
    words = Folded(text).runs
    runs = (tuple(words[i : i + n]) for n in (2, 3, 4) for i in range(len(words) - n + 1))
    return frozenset(run for run in runs if telling & {*map(_folded, run)} or len("".join(run)) == len(run) > 2)


def _respelled(text: str, words: Iterable[str]) -> set[str]:
    """Private words that stand here in parts: K.F.C. and B 7, longer ones anyhow, and pieces of unspaced scripts."""
    public, squeezed = Folded(text), "".join(_folded(word) for word, _ in _words(text))
    initials = [Folded(run).joined for run in _INITIALS.findall(unicodedata.normalize("NFKC", text))]
    return {
        word
        for word in words
        if (len(word) > (5 if word.isascii() else 1) and word in squeezed)
        or any(word in run for run in initials)
        or (any(c.isdigit() for c in word) and public.says(word))
        or (not word.isascii() and any(public.unspaced(Folded(word))))
    }


def _respaced(text: str, runs: Iterable[tuple[str, ...]]) -> Iterable[tuple[str, ...]]:
    """The runs of words that stand here in another spacing; in their own the rules for words judge."""
    public = Folded(text)
    line = f" {' '.join(public.runs)} "
    for run in runs:
        whole = "".join(run)
        known = f" {' '.join(run)} " in line or _common(whole)
        if not known and (len(whole) > 2 or not whole.isalpha()) and public.says(whole):
            yield run


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
