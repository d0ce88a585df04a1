"""Whether a public text says what was private, by a plain rule whose misses `test_leak_check.py` counts.

Private are words that name something in the review or were read in the image and are not in `common_words.txt`, words
with a digit, and names (a capital within a sentence); also readings and quotations of several words, even common ones.
The private caption and the review's reasons describe at length, so only their digits, names and quotations count.
Spaces, dots and hyphens change nothing: AB12CDE gives AB 12 CDE away, and JohnSmith John Smith.

Not recognised: another wording for the same thing, such as a number in words, a translation or a nickname; spellings
that differ by more than accents, capitals, plurals and spaces; a name of five letters or fewer inside a longer word; a
name that is a common word, in lower case or at the start of its sentence.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from u2s_datasets import columns
from u2s_datasets.privacy.identifying_text import FoldedText, base_letters, split_camel_case

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?…]\s")
_LONG_NUMBER = re.compile(r"\d(?:[ \-./(),]*\d){3,}")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]+)[\"”“»]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
_INITIALS = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_]))+")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly")

Run = tuple[str, ...]  # folded words in a row


@dataclass(frozen=True)
class PrivateTerms:
    """What a public text may not say.

    Args:
        words: folded words.
        names: folded common words that are private only with a capital within a sentence.
        phrases: runs of words, in their own spacing.
        joined: runs of words, in any other spacing.
    """

    words: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    phrases: frozenset[Run] = frozenset()
    joined: frozenset[Run] = frozenset()

    def __or__(self, other: PrivateTerms) -> PrivateTerms:
        return PrivateTerms(
            self.words | other.words, self.names | other.names, self.phrases | other.phrases, self.joined | other.joined
        )


def terms_of_review(review: Iterable[Mapping[str, Any]], caption: str = "") -> PrivateTerms:
    """What a review and a private caption make private."""
    review = list(review)
    found = terms_in_image(review, caption)
    for item in _about_the_image(review):
        if item["box"] is None:
            found |= terms_of_item(item["item"] or "")
    return found


def terms_in_image(review: Iterable[Mapping[str, Any]], caption: str = "") -> PrivateTerms:
    """What stands in the image itself: readings, names, digits and quotations, but not what was merely named."""
    found = terms_of_description(caption)
    for item in _about_the_image(review):
        if item["box"] is not None:  # a detector's: its item is a reading and its reason our own words
            found |= terms_of_item(item["item"] or "", read=True)
        else:
            found |= terms_of_description(item["item"] or "") | terms_of_description(item["reason"] or "")
    return found


def _about_the_image(review: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (item for item in review if item["category"] not in (columns.ERROR, columns.LEAK))


def terms_of_item(text: str, read: bool = False) -> PrivateTerms:
    """The private terms of a text that names something private.

    Args:
        text: the name of it.
        read: whether the text itself stood in the image.
    """
    rare = {
        word.folded
        for word in _words(_with_camel_case_split(text))
        if not is_common(word.text) and len(word.text) > (1 if word.text[0].isupper() or not word.text.isascii() else 2)
    }
    found = PrivateTerms(frozenset(rare), joined=_runs_around(text, rare)) | terms_of_description(text)
    return found | _phrases(text) if read else found


def terms_of_description(text: str) -> PrivateTerms:
    """The private terms of a text that describes: digits, names and quotations."""
    words = _words(_with_camel_case_split(text))
    names = {word for word in words if word.is_name and len(word.text) > 1}
    common = {word for word in names if is_common(word.text)}
    private = {word.folded for word in names - common}
    private |= {word.folded for word in words if any(c.isdigit() for c in word.text)}
    found = PrivateTerms(
        frozenset(private | _long_numbers(text)),
        frozenset(word.folded for word in common),
        joined=_runs_around(text, private),
    )
    for double, single in _QUOTED.findall(text):
        found |= _phrases(double or single)
    return found


def find_private_words(text: str, private: PrivateTerms, allowed: str = "") -> list[str]:
    """Every private word or phrase in a public text, folded and sorted.

    Args:
        text: the public text.
        private: what it may not say.
        allowed: words that it may say all the same, such as the class that the user named.
    """
    words = _words(_with_camel_case_split(text))
    free = {word.folded for word in _words(allowed)}
    found = ({word.folded for word in words} | _long_numbers(text)) & private.words
    found |= {word.folded for word in words if word.is_name} & private.names
    found |= _respelled(text, private.words)
    line = f" {' '.join(word.folded for word in _words(text))} "
    runs = {run for run in private.phrases if not free.issuperset(run) and f" {' '.join(run)} " in line}
    runs |= {run for run in _respaced(text, private.joined) if not free.issuperset(map(_folded, run))}
    return sorted((found - free) | {" ".join(run) for run in runs})


class _Word(NamedTuple):
    """A word, and whether it stands within a sentence rather than first in one."""

    text: str
    inside: bool

    @property
    def folded(self) -> str:
        return _folded(self.text)

    @property
    def is_name(self) -> bool:
        return self.inside and self.text[0].isupper()


def _words(text: str) -> list[_Word]:
    text = unicodedata.normalize("NFKC", text)
    found: list[_Word] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]  # an underscore in it belongs to a word, though to none that is looked at
        first = not found and "_" not in gap
        found.append(_Word(match[0], not first and not _SENTENCE_END.search(gap.rpartition("_")[2])))
        end = match.end()
    return found


def _with_camel_case_split(text: str) -> str:
    """The text, followed by itself with its camel case split if it has any."""
    split = split_camel_case(text)
    return text if split == text else f"{text}. {split}"


def _folded(word: str) -> str:
    """The word without case, accents and a plural "s"."""
    plain = base_letters(word).casefold()
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss") else plain


def _phrases(text: str) -> PrivateTerms:
    """Every three words in a row of a reading; both of them if it has but two."""
    return PrivateTerms(phrases=_threes([word.folded for word in _words(text)]), joined=_threes(FoldedText(text).runs))


def _threes(words: Sequence[str]) -> frozenset[Run]:
    runs = _runs(words, min(3, len(words))) if len(words) > 1 else ()
    return frozenset(run for run in runs if any(len(word) > 3 for word in run))


def _runs_around(text: str, private: set[str]) -> frozenset[Run]:
    """Two to four words in a row that include a private one, or that are single letters."""
    return frozenset(
        run
        for run in _runs(FoldedText(text).runs, 2, 3, 4)
        if not private.isdisjoint(map(_folded, run)) or len("".join(run)) == len(run) > 2
    )


def _runs(words: Sequence[str], *lengths: int) -> Iterator[Run]:
    """All runs of these lengths."""
    return (tuple(words[i : i + n]) for n in lengths for i in range(len(words) - n + 1))


def _respelled(text: str, words: Iterable[str]) -> set[str]:
    """Private words that the text holds in parts (K.F.C., B 7), inside others, or without spaces around them."""
    public, squeezed = FoldedText(text), "".join(word.folded for word in _words(text))
    initials = [FoldedText(run).joined for run in _INITIALS.findall(unicodedata.normalize("NFKC", text))]
    return {
        word
        for word in words
        if (len(word) > (5 if word.isascii() else 1) and word in squeezed)
        or any(word in run for run in initials)
        or (any(c.isdigit() for c in word) and public.contains(word))
        or (not word.isascii() and public.shares_unspaced(FoldedText(word)))
    }


def _respaced(text: str, runs: Iterable[Run]) -> Iterator[Run]:
    """The runs of words that the text holds in another spacing; in their own, the rules for words judge them."""
    public = FoldedText(text)
    line = f" {' '.join(public.runs)} "
    for run in runs:
        joined = "".join(run)
        known = f" {' '.join(run)} " in line or is_common(joined)
        if not known and (len(joined) > 2 or not joined.isalpha()) and public.contains(joined):
            yield run


def _long_numbers(text: str) -> set[str]:
    return {re.sub(r"\D", "", number) for number in _LONG_NUMBER.findall(text)}


def is_common(word: str) -> bool:
    """Whether it is a single letter, or a word of `common_words.txt` with one of the usual endings."""
    low, known = word.casefold(), _common_words()
    if len(low) == 1 and low.isascii() and low.isalpha():
        return True
    stems = [low.removesuffix(ending) for ending in _ENDINGS if low.endswith(ending)]
    undoubled = (stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2])
    return any(stem in known for stem in itertools.chain(stems, (f"{stem}e" for stem in stems), undoubled))


@functools.cache
def _common_words() -> frozenset[str]:
    lines = (Path(__file__).parent / "common_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
