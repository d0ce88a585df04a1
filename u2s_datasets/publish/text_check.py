"""What a public text says that is private: the rules of the run once more, and plain containment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from u2s_datasets import columns as c
from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.identifying_text import iter_strings
from u2s_datasets.privacy.private_words import find_private_words, terms_of_item, terms_of_review
from u2s_datasets.publish.candidate import Candidate
from u2s_datasets.stages import generic_captions

WRITTEN = (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION)
"""Columns whose words this program or a model wrote; a kept column's words are the user's."""

_FEW = 3  # words; a private caption of fewer, such as "a cat", may stand in a public text by chance
_LONG = 6  # letters of a name that stand by chance in no other words
_ABSOLUTE = re.compile(r"(?<![\w.])(?:[A-Za-z]:[\\/]|~?/)[\w. -]{1,255}[/\\][\w.-]")


def said(candidate: Candidate, kept: tuple[str, ...], size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong) of each public text of a row that says something private. Quotes nothing private.

    Args:
        kept: the kept columns.
        size: (width, height) of the published image.
    """
    private = terms_of_review(candidate.review, candidate.caption)
    read = [item["item"] for item in candidate.review if item["category"] not in (c.ERROR, c.LEAK) and item["item"]]
    for name in WRITTEN:
        text = candidate.public.get(name)
        if not text:
            continue
        if contains(text, _caption(candidate, size)):
            yield name, "holds the private caption"
        elif find_private_words(text, private, candidate.classes):
            yield name, "says what was private in its image"
        elif kind := identifying_text.find_pii_pattern(text):
            yield name, f"holds {kind}"
        elif any(says_name(text, file) for file in candidate.names):
            yield name, "says what its file is called"
    for name in kept:
        stopped = identifying_text.withhold_texts(candidate.public.get(name), read, candidate.names)[1]
        if stopped or any(contains(t, _caption(candidate, size)) for t in iter_strings(candidate.public.get(name))):
            yield name, "says what was private in its image, or looks like a contact, a date or a place"
    provenance = candidate.public.get(c.PROVENANCE) or ""
    if any(says_name(provenance, file) for file in candidate.names) or holds_path(provenance):
        yield c.PROVENANCE, "holds a path or a file's name"
    if candidate.seed is not None and abs(candidate.seed) >= 10**6:
        for name, value in candidate.public.items():
            if any(str(candidate.seed) in text for text in iter_strings(value)):
                yield name, "holds the row's seed"


def _caption(candidate: Candidate, size: tuple[int, int]) -> str:
    """The private caption, or "" where it is the generic one, which names places in the picture and nothing else."""
    located = [item for item in candidate.review if item.get("box") is not None]
    return "" if candidate.caption == generic_captions.write_caption(located, size) else candidate.caption


def contains(text: str, private: str) -> bool:
    """Whether a private text of a few words or more stands whole in another, whatever its case and punctuation."""
    words = folded(private)
    return len(words) >= _FEW and f" {' '.join(words)} " in f" {' '.join(folded(text))} "


def says_name(text: str, name: str) -> bool:
    """Whether a text says what a file is called, as words in a row or run together.

    A name of common words alone, such as "photo" or "cat", tells nothing and stops no caption of a photo of a cat.
    """
    words = folded(re.sub(r"\.\w+$|_", " ", name))
    if not words or not (terms_of_item(" ".join(words)).words or any(any(k.isdigit() for k in word) for word in words)):
        return False
    spoken = folded(text.replace("_", " "))
    glued = "".join(words)
    return f" {' '.join(words)} " in f" {' '.join(spoken)} " or (len(glued) >= _LONG and glued in "".join(spoken))


def holds_path(text: str) -> bool:
    """Whether a text holds a path from the root or a home."""
    return bool(_ABSOLUTE.search(text))


def folded(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return re.findall(r"\w+", text.casefold())
