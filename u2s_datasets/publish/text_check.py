"""What a public text says that is private: the rules of the run once more, and plain containment."""

import re
from collections.abc import Iterator, Sequence

from u2s_datasets import columns as c
from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.identifying_text import iter_strings
from u2s_datasets.privacy.private_words import find_private_words, terms_of_item, terms_of_review
from u2s_datasets.publish.candidate import Candidate
from u2s_datasets.publish.provenance import is_ours
from u2s_datasets.stages import generic_captions

# Columns whose words this program or a model wrote; a kept column's words are the user's.
WRITTEN = (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION)
# What is shorter may stand in a public text by chance: a private caption such as "a cat", or a seed of a few digits.
FEW_WORDS, TELLING_SEED = 3, 10**6
MOST_CHARACTERS = 20_000
"""Of a text that is checked: what is longer is stopped, since the rules compare every private word with every text."""
_LONG_NAME = 6  # letters of a name that do not stand inside other words by chance
# A path from the root or a home.
ABSOLUTE_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:[\\/]|~?/)[\w. -]{1,255}[/\\][\w.-]")


def find_private_text(candidate: Candidate, kept: Sequence[str], size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong) of each public text of a row that says something private. Quotes nothing private.

    Args:
        candidate: the row.
        kept: the kept columns.
        size: (width, height) of the published image.
    """
    if too_long := [name for name in (*WRITTEN, c.PROVENANCE, *kept) if _is_too_long(candidate.public.get(name))]:
        yield too_long[0], f"is longer than {MOST_CHARACTERS:,} characters"
        return
    if _is_too_long([candidate.caption, *(item[key] or "" for item in candidate.review for key in ("item", "reason"))]):
        yield (
            c.PRIVATE_CAPTION,
            f"or the review is longer than {MOST_CHARACTERS:,} characters, so nothing can be checked",
        )
        return
    private = terms_of_review(candidate.review, candidate.caption)
    read = [item["item"] for item in candidate.review if item["category"] not in (c.ERROR, c.LEAK) and item["item"]]
    generic = generic_captions.write_caption([i for i in candidate.review if i.get("box") is not None], size)
    # The generic caption names places in the picture and nothing else: it may stand in public as it is.
    caption = "" if candidate.caption == generic else candidate.caption
    for name in WRITTEN:
        text = candidate.public.get(name)
        if not text:
            continue
        if contains(text, caption):
            yield name, "holds the private caption"
        elif find_private_words(text, private, candidate.classes):
            yield name, "says what was private in its image"
        elif kind := identifying_text.find_pii_pattern(text):
            yield name, f"holds {kind}"
        elif any(says_name(text, file) for file in candidate.names):
            yield name, "says what its file is called"
    for name in kept:
        value = candidate.public.get(name)
        stopped = identifying_text.withhold_texts(value, read, candidate.names)[1]
        if stopped or any(contains(text, caption) for text in iter_strings(value)):
            yield name, "says what was private in its image, or looks like a contact, a date or a place"
    provenance = candidate.public.get(c.PROVENANCE) or ""
    if provenance and not is_ours(provenance):
        yield c.PROVENANCE, "is not what u2s.anonymize writes"
    if any(says_name(provenance, file) for file in candidate.names) or ABSOLUTE_PATH.search(provenance):
        yield c.PROVENANCE, "holds a path or a file's name"
    if candidate.seed is not None and abs(candidate.seed) >= TELLING_SEED:
        for name, value in candidate.public.items():
            if any(str(candidate.seed) in text for text in iter_strings(value)):
                yield name, "holds the row's seed"


def _is_too_long(value: object) -> bool:
    return sum(map(len, iter_strings(value))) > MOST_CHARACTERS


def contains(text: str, private: str) -> bool:
    """Whether a private text of a few words or more stands whole in another, whatever its case and punctuation."""
    words = folded(private)
    return len(words) >= FEW_WORDS and f" {' '.join(words)} " in f" {' '.join(folded(text))} "


def says_name(text: str, name: str) -> bool:
    """Whether a text says what a file is called, as words in a row or run together.

    A name of common words alone, such as "photo" or "cat", tells nothing and stops no caption of a photo of a cat.
    """
    words = folded(re.sub(r"\.\w+$|_", " ", name))
    glued = "".join(words)
    if not words or not (terms_of_item(" ".join(words)).words or any(map(str.isdigit, glued))):
        return False
    spoken = folded(text.replace("_", " "))
    return f" {' '.join(words)} " in f" {' '.join(spoken)} " or (len(glued) >= _LONG_NAME and glued in "".join(spoken))


def folded(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return re.findall(r"\w+", text.casefold())
