"""Which of the columns that a user keeps may be published.

An allowlist: whatever is not a text, a number or a class, nor a list or struct of these, is refused at any depth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import identifying_text

_RESERVED = {
    name
    for value in (v for k, v in vars(columns).items() if k.isupper())
    for name in ((value,) if isinstance(value, str) else value if isinstance(value, tuple) else ())
} - {*columns.STATUSES, columns.ERROR} | {"kept_texts_withheld"}
_TEXT = ("string", "large_string")
_NUMBER = ("int", "uint", "float")
_DATED = ("timestamp", "date", "time", "duration", "decimal")
_BOXES = {"bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "objects"}
_MASK = re.compile(r"mask|segment|polygon|keypoint", re.IGNORECASE)
_MOST_NUMBERS = 63
"""Numbers per row that cannot be contents: a thumbnail of 8 x 8 pixels and a perceptual hash have 64."""
_MOST_COORDINATES = 1000
"""The same for a column whose name says that it holds boxes, masks, polygons or keypoints."""


def check_kept(
    features: Mapping[str, Any],
    read_rows: Callable[[Sequence[str]], Iterable[Mapping[str, Any]]],
    allow: Sequence[str] = (),
) -> None:
    """Raise `SetupError` for a kept column that may not be published, with the reason and how to allow it.

    Classes, boxes, masks of booleans and texts pass (texts are checked row by row). Images, sounds, bytes and types
    that no rule knows never do, at any depth. Names of columns and fields, class names, dates, times, decimals and
    numbers that look like identifiers, times, coordinates or contents need `allow`; for this every number of every
    row is read. Those of a mask, a polygon or keypoints are known by their names.

    All class names of a kept column stand in the schema of every published file, also those of which each image
    was withheld or which no image has.

    Args:
        features: the kept columns and their types.
        read_rows: given names of columns, returns the values of these in every row.
        allow: names of kept columns that may pass although they look identifying.

    Raises:
        SetupError: a kept column may not be published, or `allow` names one that is not kept.
    """
    for name in set(allow) - set(features):
        raise SetupError(f"allow={name!r} is not a kept column; name it in --keep as well")
    found: dict[str, dict[str, NumberStatistics]] = {}
    for name, feature in features.items():
        if name in _RESERVED:
            raise SetupError(f"keep={name!r} is a column that this program writes; rename it in the source")
        _check_types(name, feature)
        if name not in allow:
            _refuse(name, _identifying_type(name, feature))
            if any(_dtype(leaf).startswith((*_NUMBER, "bool")) for leaf in _leaves(feature)):
                found[name] = {}
    for row in read_rows(list(found)) if found else ():
        for name, statistics in found.items():
            _add_row(row.get(name), features[name], name, statistics)
    for name, statistics in found.items():
        _refuse(name, next((reason for field in statistics.values() if (reason := field.reason())), None))


def _refuse(name: str, reason: str | None) -> None:
    if reason:
        raise SetupError(f"keep={name!r} may identify people or places ({reason}); say --allow {name} to keep it")


def _leaves(feature: Any) -> Iterator[Any]:
    """The types of everything in a feature that is not a list or struct."""
    from datasets import LargeList, List

    if isinstance(feature, dict):
        for inner in feature.values():
            yield from _leaves(inner)
    elif isinstance(feature, (List, LargeList)):
        yield from _leaves(feature.feature)
    else:
        yield feature


def _field_names(feature: Any) -> Iterator[str]:
    if isinstance(feature, dict):
        for name, inner in feature.items():
            yield name
            yield from _field_names(inner)
    elif hasattr(feature, "feature"):
        yield from _field_names(feature.feature)


def _check_types(name: str, feature: Any) -> None:
    from datasets import ClassLabel

    for leaf in _leaves(feature):
        dtype = _dtype(leaf)
        if not (type(leaf) is ClassLabel or dtype in ("bool", *_TEXT) or dtype.startswith((*_NUMBER, *_DATED))):
            raise SetupError(
                f"keep={name!r} holds {leaf!r}, which nothing has inspected; leave it out: only texts, numbers, "
                "classes and lists and structs of them can be kept"
            )


def _identifying_type(name: str, feature: Any) -> str | None:
    """Why a column's name, fields, classes or types may identify; None if they do not."""
    from datasets import ClassLabel

    if identifying_text.is_identifying_name(name):
        return "its name"
    for field in _field_names(feature):
        if identifying_text.is_identifying_name(field):
            return f"the name of its field {field!r}"
    for leaf in _leaves(feature):
        if isinstance(leaf, ClassLabel):
            for label in leaf.names:
                if kind := identifying_text.find_pii_pattern(label):
                    return f"class {label!r} holds {kind}"
        elif leaf.dtype.startswith(_DATED):
            return f"its type {leaf.dtype}"
    return None


def _dtype(leaf: Any) -> str:
    """The name of a plain value's type; "" for classes, images and whatever else is not a `Value` itself."""
    from datasets import Value

    return leaf.dtype if type(leaf) is Value else ""


def _add_row(value: Any, feature: Any, column: str, found: dict[str, NumberStatistics]) -> None:
    """Add one row's numbers to those found so far, by field; boxes are passed over, and a number for each is usual."""
    boxes = 0
    for path, number in _numbers(value, feature, column, column):
        if path is None:
            boxes += 1
            continue
        if path not in found:
            coordinates = _MASK.search(path) or path.rpartition(".")[2].lower() in _BOXES
            found[path] = NumberStatistics(_MOST_COORDINATES if coordinates else _MOST_NUMBERS)
        found[path].add(number)
    for statistics in found.values():
        statistics.end_row(boxes)


def _numbers(value: Any, feature: Any, name: str, path: str) -> Iterator[tuple[str | None, Any]]:
    """(path, number) of every number and boolean of a value; (None, box) for a box. Masks of booleans are left out."""
    if value is None:
        return
    if isinstance(feature, dict):
        for key, inner in feature.items():
            yield from _numbers(value.get(key), inner, key, f"{path}.{key}")
    elif hasattr(feature, "feature"):
        if name.lower() in _BOXES and len(value) == 4 and _dtype(feature.feature).startswith(_NUMBER):
            yield None, value
        else:
            for item in value:
                yield from _numbers(item, feature.feature, name, path)
    elif _dtype(feature).startswith(_NUMBER) or (_dtype(feature) == "bool" and not _MASK.search(path)):
        yield path, value


class NumberStatistics:
    """What is known of the numbers of one column or field, in memory that does not grow with them.

    Args:
        most_per_row: how many numbers a row may have.
    """

    def __init__(self, most_per_row: int = _MOST_NUMBERS) -> None:
        self.most_per_row = most_per_row
        self.finite = self.integers = self.fractions = self.beyond_tenths = self.beyond_hundredths = 0
        self.in_row = self.largest_row = 0
        self.large: float | None = None
        self.distinct: set[int] = set()  # below seven digits each, so two million at most

    def add(self, number: float | None) -> None:
        """Add one number; None, infinities and NaN only count as one more in the row."""
        self.in_row += 1
        if number is None or not math.isfinite(number):
            return
        self.finite += 1
        if abs(number) >= 1_000_000:
            self.large = number if self.large is None else self.large
        elif float(number).is_integer():
            self.integers += 1
            self.distinct.add(int(number))
        else:
            self.fractions += 1
            if abs(number) <= 180:  # degrees; 5e-5 is how far a float32 may be off at 180
                self.beyond_tenths += abs(number - round(number, 1)) > 5e-5
                self.beyond_hundredths += abs(number - round(number, 2)) > 5e-5

    def end_row(self, boxes: int = 0) -> None:
        """End a row that has so many boxes; one number for each of them is not counted."""
        self.in_row, self.largest_row = 0, max(self.in_row - boxes, self.largest_row)

    def reason(self) -> str | None:
        """Why the numbers look like identifiers, times, coordinates or contents; None if they do not."""
        if self.largest_row > self.most_per_row:
            return f"up to {self.largest_row} numbers in a row, as pixels, hashes, file contents and embeddings have"
        if self.large is not None:
            times = 9e8 <= abs(self.large) <= 4e9 or 9e11 <= abs(self.large) <= 4e12
            return "seconds since 1970" if times else "numbers of seven digits and more, as identifiers have"
        # A hundredth of a degree is about a kilometre, so finer fractions may tell a place.
        if 2 * self.beyond_hundredths >= self.fractions > 0 or self.beyond_tenths == self.finite >= 2:
            return "coordinates"
        largest = max(map(abs, self.distinct), default=0)
        if self.integers >= 2 and largest >= 10_000 and 2 * len(self.distinct) > self.integers:
            return "distinct large whole numbers, as identifiers are"
        return None
