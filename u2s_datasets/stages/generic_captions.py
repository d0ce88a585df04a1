"""Captions and instructions from the boxes of a review alone: how many regions there are and where, naming nobody."""

from collections.abc import Sequence
from typing import Any

from u2s_datasets.parts import Box, Category
from u2s_datasets.parts.catalog import known_categories

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_OTHER = Category("", "")


def write_caption(review: Sequence[dict[str, Any]], size: tuple[int, int]) -> str:
    """The public caption of an image, such as "A square photo with one face (centre)."

    Args:
        review: the row's review.
        size: (width, height) of the image.
    """
    regions = describe_regions(review, size)
    return f"A {describe_shape(size)} photo" + (f" with {regions}" if regions else "") + "."


def describe_regions(review: Sequence[dict[str, Any]], size: tuple[int, int]) -> str:
    """The boxes of a review in one phrase: "two faces (centre, upper left) and one piece of text (lower right)".

    What was read is not used, and no category but our own is named: a user's or a model's could say anything.

    Args:
        review: the row's review.
        size: (width, height) of the image.

    Returns:
        "" without a box.
    """
    found: dict[str, list[str]] = {}
    for item in review:
        if item["box"] is not None:
            category = item["category"] if item["category"] in known_categories() else _OTHER.noun
            found.setdefault(category, []).append(_position(tuple(item["box"]), size))
    phrases = []
    for category, positions in sorted(found.items()):
        kind, number = known_categories().get(category, _OTHER), len(positions)
        count = _NUMBERS[number] if number < len(_NUMBERS) else "several"
        noun = kind.noun if number == 1 else kind.plural
        phrases.append(f"{count} {noun} ({', '.join(list(dict.fromkeys(positions))[:4])})")
    return " and ".join(phrases)


def describe_shape(size: tuple[int, int]) -> str:
    """ "landscape", "portrait" or "square", for a (width, height)."""
    width, height = size
    if max(width, height) <= 1.05 * min(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def _position(box: Box, size: tuple[int, int]) -> str:
    """The ninth of a (width, height) image that holds the middle of a box, such as "upper left"."""
    width, height = size
    column = min(2, max(0, int(3 * (box[0] + box[2]) / 2 / max(width, 1))))
    row = min(2, max(0, int(3 * (box[1] + box[3]) / 2 / max(height, 1))))
    return "centre" if row == column == 1 else f"{_ROWS[row]} {_COLUMNS[column]}"
