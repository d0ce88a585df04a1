"""Which numbers of kept columns may leave without being allowed by name: an allowlist of what they mean.

Boxes of pixels, label masks, one class or count for each box, and lengths and counts with few values. What is left,
such as embeddings, thumbnails, digits in a list, rounded coordinates and row numbers, looks like nothing in particular
and can be anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

BOXES = {"bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "objects"}
_MASK = re.compile(r"mask|seg", re.IGNORECASE)
_LENGTH = re.compile(r"(?:^|_)(?:w|h|width|height|length|size|depth|area|pixels|channels|radius|diameter)(?:_|$)")
_COUNT = re.compile(r"(?:^|_)(?:n|num|number_of|no_of|count|counts|total|amount)(?:_|$)")

MAX_LENGTH = 20_000
"""Pixels of a side; a day in Excel's count is beyond it since 1954."""
_MAX_COUNT = 999
_MAX_UNNAMED = 99
_FEW = 32
_MANY_FIELDS = 6  # numbers under names that tell nothing: fewer are ratings and the like
_MANY_FLAGS = 48  # fields of any kind: attributes of faces are 40, the bits of a perceptual hash 64
_MANY_LISTED = 63  # different values in a list, beside no boxes or beside boxes in one place: more are pixels
_MANY = 4096  # distinct values that are told apart
_LEAST_MASK = 256  # pixels: a thumbnail or a perceptual hash has fewer
_MAX_LABELS = 32  # of one mask; a photograph enlarged from 8 x 8 pixels has more
_BEYOND = 8  # pixels that a box may reach beyond an image whose size is not known
_EVEN = 0.8  # share of neighbouring pixels with the same label, across and down; half of them in noise


class Found(NamedTuple):
    """A box, a mask or a single number in a row.

    Args:
        kind: "box", "mask", "class" or "number".
        path: the names of column and fields, with dots.
        value: it.
        listed: whether it stands in a list.
    """

    kind: str
    path: str
    value: Any
    listed: bool


def is_number(feature: Any) -> bool:
    """Whether a feature is a plain number or boolean; a class is none."""
    from datasets import Value

    return type(feature) is Value and feature.dtype.startswith(("int", "uint", "float", "bool"))


def is_class(feature: Any) -> bool:
    """Whether a feature is a class."""
    from datasets import ClassLabel

    return isinstance(feature, ClassLabel)


def find_numbers(value: Any, feature: Any, path: str, listed: bool = False) -> Iterator[Found]:
    """Every box, mask and other number of a value, at any depth.

    A box is four numbers under a name of `BOXES`, a mask a list of lists under a name with "mask" or "seg". In a list,
    classes that are called by numbers count as these.
    """
    if value is None:
        return
    name = path.rpartition(".")[2]
    if isinstance(feature, dict):
        for key, inner in feature.items():
            yield from find_numbers(value.get(key), inner, f"{path}.{key}", listed)
    elif hasattr(feature, "feature"):
        inner = feature.feature
        if is_number(inner) and name.lower() in BOXES and len(value) == 4:
            yield Found("box", path, value, listed)
        elif _MASK.search(name) and hasattr(inner, "feature") and is_number(inner.feature):
            yield Found("mask", path, value, listed)
        else:
            for item in value:
                yield from find_numbers(item, inner, path, True)
    elif is_number(feature):
        yield Found("number", path, value, listed)
    elif is_class(feature):
        digits = listed and all(re.fullmatch(r"[\d\s.+-]+", name) for name in feature.names)
        yield Found("number" if digits else "class", path, value, listed)


def box_fault(box: Sequence[Any], size: tuple[int, int] | None = None) -> str | None:
    """Why four numbers are no box of pixels; None for one.

    Args:
        box: x, y, and width and height or the other corner; as rows and columns, too.
        size: (width, height) of the image, or None where it is not known. A box may reach two pixels, or a hundredth
            of the side, beyond it.
    """
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in box):
        return "a box without four numbers"
    width, height = size or (MAX_LENGTH, MAX_LENGTH)
    beyond_x, beyond_y = (max(2, 0.01 * side) if size else _BEYOND for side in (width, height))
    fits = all(-beyond_x <= n <= width + beyond_x for n in box[::2])
    fits &= all(-beyond_y <= n <= height + beyond_y for n in box[1::2])
    turned = all(-beyond_y <= n <= height + beyond_y for n in box[::2])
    turned &= all(-beyond_x <= n <= width + beyond_x for n in box[1::2])
    return None if fits or turned else "a box outside its image"


def mask_fault(mask: Sequence[Any], size: tuple[int, int] | None = None) -> str | None:
    """Why rows of numbers are no label mask; None for one: whole numbers, few of them, in patches.

    Args:
        mask: rows of pixels.
        size: (width, height) of the image, or None where it is not known.
    """
    import numpy as np

    try:
        array = np.asarray(mask)
    except ValueError:
        return "a mask whose rows differ in length"
    if array.ndim != 2 or array.dtype.kind not in "biu" or array.size < _LEAST_MASK:
        return "a mask that is no grid of labels"
    if size is not None and array.shape != size[::-1]:
        return "a mask of another size than its image"
    even = min((array[1:] == array[:-1]).mean(), (array[:, 1:] == array[:, :-1]).mean())
    if even < _EVEN or len(np.unique(array)) > _MAX_LABELS or array.min() < 0 or array.max() > 255:
        return "a mask that is not made of patches of few labels"
    return None


class ColumnNumbers:
    """What is known of the numbers of one kept column, in memory that does not grow with them.

    Args:
        name: the column's.
        feature: its type.
    """

    def __init__(self, name: str, feature: Any) -> None:
        self.name, self.feature = name, feature
        self._fault: str | None = None
        self._largest_in_boxes, self._only_points = -math.inf, True
        self._classes: dict[str, tuple[int, set[int]]] = {}  # path -> (rows, which classes)
        self._fields: dict[str, _Field] = {}

    def add(self, row: Mapping[str, Any], boxes: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """Add one row's numbers.

        Args:
            row: its kept columns.
            boxes: of the whole row, by path.
        """
        listed: dict[str, list[Any]] = {}
        classes: dict[str, list[Any]] = {}
        for found in find_numbers(row.get(self.name), self.feature, self.name):
            if found.kind == "class":
                rows, seen = self._classes.setdefault(found.path, (0, set()))
                seen.add(found.value)
                self._classes[found.path] = rows + 1, seen
                classes.setdefault(found.path, []).append(found.value)
            elif found.kind == "mask":
                self._fault = self._fault or mask_fault(found.value)
            elif found.kind == "box":
                self._fault = self._fault or box_fault(found.value)
                self._largest_in_boxes = max(self._largest_in_boxes, *(n or 0 for n in found.value))
                self._only_points &= found.value[:2] == found.value[2:] or not any(found.value[2:])
            elif found.listed:
                listed.setdefault(found.path, []).append(found.value)
            else:
                self._field(found.path).add(found.value)
        if any(_are_pixels(of, boxes.values()) for of in (*classes.values(), *listed.values())):
            self._fault = self._fault or "long lists that are not of boxes in many places, as pixels are"
        for path, numbers in listed.items():
            aligned = next((of for of in boxes.values() if len(of) == len(numbers)), None)
            self._field(path, each=True).add_each(numbers, aligned)

    def _field(self, path: str, each: bool = False) -> _Field:
        if path not in self._fields:
            self._fields[path] = _Field(path, each)
        return self._fields[path]

    def reason(self) -> str | None:
        """Why the column needs to be allowed; None if all its numbers have a meaning that is known."""
        if self._fault is None and -math.inf < self._largest_in_boxes <= 1.5:
            self._fault = "boxes that are not in pixels"
        if self._fault is None and self._largest_in_boxes > -math.inf and self._only_points:
            self._fault = "boxes without extent, as coordinates are"
        for path, (rows, seen) in self._classes.items():
            if len(seen) > _FEW and 2 * len(seen) > rows:
                self._fault = self._fault or f"{path}: nearly as many classes as rows, as row numbers have"
        return self._fault or next((r for field in self._fields.values() if (r := field.reason())), None)


def _are_pixels(values: Sequence[Any], boxes: Iterable[Sequence[Sequence[Any]]]) -> bool:
    """Whether many different values stand beside no boxes, or beside boxes most of which lie in one place."""
    if len(values) <= _MANY_LISTED or len({*values}) < 2:
        return False
    places = [len({*map(tuple, of)}) for of in boxes if len(of) == len(values)]
    return 2 * max(places, default=0) < len(values)


def boxes_of(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, list[Sequence[Any]]]:
    """Path -> the boxes of a row's kept columns."""
    boxes: dict[str, list[Sequence[Any]]] = {}
    for name, feature in features.items():
        for found in find_numbers(row.get(name), feature, name):
            if found.kind == "box":
                boxes.setdefault(found.path, []).append(found.value)
    return boxes


class _Field:
    """The numbers of one field: one in a row, or one for each box of a row."""

    def __init__(self, path: str, each: bool = False) -> None:
        self.path, self.each = path, each
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.rpartition(".")[2]).lower()
        self.of_areas = each and name == "area"
        length, count = _LENGTH.search(name), _COUNT.search(name)
        self.most = MAX_LENGTH if length else _MAX_COUNT if count else _MAX_UNNAMED
        self.named = bool(length or count)
        self.rows = 0
        self.fault: str | None = None
        self.distinct: set[float] = set()
        self.rising = self.falling = True
        self.last: float | None = None

    def add_each(self, numbers: Sequence[Any], boxes: Sequence[Sequence[Any]] | None) -> None:
        """Add the numbers of a list, which must be as many as the row has boxes."""
        if boxes is None:
            self.fault = "lists of numbers that are neither boxes of pixels nor a label mask nor one for each box"
            return
        for number, box in zip(numbers, boxes, strict=True):
            # Of a polygon at most the box's area; of a box given by two corners at most the product of the second.
            if not (self.of_areas and number is not None and 0 <= number <= 2 + 1.01 * float(box[2]) * float(box[3])):
                self.add(number)

    def add(self, number: float | None) -> None:
        """Add one number; None tells nothing."""
        if number is None or isinstance(number, bool):
            return
        self.rows += 1
        fraction = not math.isfinite(number) or not float(number).is_integer()
        if fraction or (isinstance(number, float) and not self.named):
            self.fault = "fractions, as coordinates, scores and embeddings have, or numbers that may have them"
        elif number < 0:
            self.fault = "negative numbers, as coordinates have"
        elif number > self.most:
            self.fault = f"numbers above {self.most:,}, as dates, identifiers and coordinates have"
        if self.last is not None:
            self.rising &= number >= self.last
            self.falling &= number <= self.last
        self.last = number
        if len(self.distinct) < _MANY:
            self.distinct.add(number)

    def reason(self) -> str | None:
        """Why these numbers may be other than lengths or counts; None if there is no sign of it."""
        different = len(self.distinct)
        if self.fault is None and not self.each:
            if 2 * different > self.rows > 1 or different > max(_FEW, self.rows // 20):
                return f"{self.path}: as many different numbers as identifiers and row numbers have"
            if different > 3 and (self.rising or self.falling):
                return f"{self.path}: numbers in the order of the rows, as row numbers are"
        return self.fault and f"{self.path}: {self.fault}"


class Together:
    """Small numbers of several columns that tell rows apart when they are read together, as pixels and digits do.

    Args:
        features: the columns that are judged.
    """

    def __init__(self, features: Mapping[str, Any]) -> None:
        self.features, self._rows = features, 0
        self._seen: set[int] = set()
        self._seen_flags: set[int] = set()
        self._flags: set[str] = set()
        self._paths: dict[str, bool] = {}  # path -> whether its name says a length or a count

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        found = [f for name, feature in self.features.items() for f in find_numbers(row.get(name), feature, name)]
        flags = [f for f in found if f.kind in ("number", "class") and not f.listed]
        self._flags.update(f.path for f in flags)
        numbers = [f for f in found if f.kind == "number" and not f.listed and not isinstance(f.value, bool)]
        for number in numbers:
            self._paths.setdefault(number.path, _Field(number.path).named)
        self._rows += 1
        if len(self._seen_flags) < _MANY:
            self._seen_flags.add(hash(tuple(f.value for f in flags)))
        if len(self._seen) < _MANY:
            self._seen.add(hash(tuple(number.value for number in numbers if not self._paths[number.path])))

    def reason(self) -> str | None:
        """Why the columns need to be allowed; None if there are few of them, or few different rows."""
        if len(self._flags) >= _MANY_FLAGS and 2 * len(self._seen_flags) > min(self._rows, _MANY):
            return f"one of {len(self._flags)} flags, classes and numbers that together are another in nearly every row"
        unnamed = sum(not named for named in self._paths.values())
        if unnamed < _MANY_FIELDS or 2 * len(self._seen) <= min(self._rows, _MANY):
            return None
        return f"one of {unnamed} numbers that together are another in nearly every row, as digits and pixels are"
