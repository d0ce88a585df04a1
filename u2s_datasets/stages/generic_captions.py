"""Where in a picture a box lies and how many there are, in words that identify nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from u2s_datasets.parts import Box, Category
from u2s_datasets.parts.catalog import known_categories

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_OTHER = Category("", "")


def place(box: Box, size: tuple[int, int]) -> str:
    """The ninth of a (width, height) picture that holds the middle of a box, such as "upper left"."""
    width, height = size
    column = min(2, max(0, int(3 * (box[0] + box[2]) / 2 / max(width, 1))))
    row = min(2, max(0, int(3 * (box[1] + box[3]) / 2 / max(height, 1))))
    if row == column == 1:
        return "centre"
    return f"{_ROWS[row]} {_COLUMNS[column]}"


def shape(size: tuple[int, int]) -> str:
    """ "landscape", "portrait" or "square"."""
    width, height = size
    if max(width, height) <= 1.05 * min(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def counted(number: int, category: str) -> str:
    """A number of regions of a category in words, such as "two faces" or "several faces"."""
    kind = known_categories().get(category, _OTHER)
    words = _NUMBERS[number] if number < len(_NUMBERS) else "several"
    return f"{words} {kind.noun if number == 1 else kind.plural}"


def regions(review: Sequence[dict[str, Any]], size: tuple[int, int]) -> dict[str, list[str]]:
    """Category -> place of each of its boxes, in a steady order.

    Nothing that was read is used, and no category beyond our own words: a user's or a model's may say anything.
    """
    found: dict[str, list[str]] = {}
    for item in review:
        if item["box"] is not None:
            category = item["category"] if item["category"] in known_categories() else _OTHER.noun
            found.setdefault(category, []).append(place(tuple(item["box"]), size))
    return dict(sorted(found.items()))


def caption(found: dict[str, list[str]], size: tuple[int, int]) -> str:
    """The public caption of a picture of which nothing but its `regions` is told."""
    return f"A {shape(size)} photo" + (f" with {phrase(found)}" if found else "") + "."


def phrase(found: dict[str, list[str]]) -> str:
    """The regions in one phrase, such as "two faces (centre, upper left) and one piece of text (lower right)"."""
    parts = [
        f"{counted(len(places), category)} ({', '.join(list(dict.fromkeys(places))[:4])})"
        for category, places in found.items()
    ]
    return " and ".join(parts)
