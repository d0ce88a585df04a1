"""What of the private content survived. Pure functions on texts and detections."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz import fuzz


def text_similarity(before: Sequence[str], after: Sequence[str]) -> float | None:
    """Token-set ratio of the words read in two images, range [0, 1]; lower means that less survived.

    rapidfuzz's `token_set_ratio` / 100 on case-folded words joined by spaces (the paper's TextSim).

    Returns:
        The value; none where the original holds no words, since there is nothing that could survive.
    """
    first, second = (" ".join(words).casefold().strip() for words in (before, after))
    return fuzz.token_set_ratio(first, second) / 100 if first else None
