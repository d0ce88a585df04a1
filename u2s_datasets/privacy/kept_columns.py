"""The columns that a user keeps: which may leave, and where those of a folder come from.

An allowlist: what is no text, number or class, nor lists and structs of these, is refused at any depth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import identifying_text

if TYPE_CHECKING:
    from datasets import Features

    from u2s_datasets.sources.base import Source

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
"""Numbers of a row that are no contents: a thumbnail of 8 x 8 pixels and a perceptual hash have 64."""
_MOST_PLACES = 1000
"""The same where a name says that they are boxes, masks, polygons or keypoints."""


def check_kept(source: Source, allow: Sequence[str] = ()) -> None:
    """Raise `SetupError` for a kept column that may not leave, saying why and how to let it.

    Classes, boxes, masks of booleans and texts pass (texts are checked row by row). Images, sounds, bytes and types
    that no rule knows never do, at any depth. Names of columns and fields, class names, dates, times, decimals and
    numbers that look like identifiers, times, coordinates or contents need `allow`; numbers are read whole for this,
    row by row. Those of a mask, a polygon or keypoints are known by their names.

    All class names of a kept column stand in the schema of every published file, also those of which each image
    was withheld or which no image has.

    Args:
        source: its `kept` holds the typed columns.
        allow: names of kept columns whose looks the user answers for.
    """
    for name in set(allow) - set(source.kept):
        raise SetupError(f"allow={name!r} is no kept column; name it in --keep as well")
    if not source.kept:
        return  # without the second that importing datasets takes
    for name, feature in source.kept.items():
        if name in _RESERVED:
            raise SetupError(f"keep={name!r} is a column that this program writes; rename it in the source")
        _check_types(name, feature)
        if name not in allow:
            _stop(name, _look(name, feature))
    judged = {name: feature for name, feature in source.kept.items() if name not in allow and _has_numbers(feature)}
    found: dict[str, dict[str, Numbers]] = {name: {} for name in judged}
    for row in source.kept_values(list(judged)) if judged else ():
        for name, feature in judged.items():
            _read_numbers(row.get(name), feature, name, found[name])
    for name, fields in found.items():
        _stop(name, next((reason for numbers in fields.values() if (reason := numbers.reason())), None))


def _stop(name: str, reason: str | None) -> None:
    if reason:
        raise SetupError(f"keep={name!r} may identify people or places ({reason}); say --allow {name} to keep it")


def _leaves(name: str, feature: Any) -> Iterator[tuple[str, Any]]:
    """(nearest name, type) of everything in a feature that is no list or struct; a struct's field names first."""
    from datasets import LargeList, List

    if isinstance(feature, dict):
        for key, inner in feature.items():
            yield from _leaves(key, inner)
    elif isinstance(feature, (List, LargeList)):
        yield from _leaves(name, feature.feature)
    else:
        yield name, feature


def _field_names(feature: Any) -> Iterator[str]:
    if isinstance(feature, dict):
        for key, inner in feature.items():
            yield key
            yield from _field_names(inner)
    elif hasattr(feature, "feature"):
        yield from _field_names(feature.feature)


def _check_types(name: str, feature: Any) -> None:
    from datasets import ClassLabel, Value

    for _, leaf in _leaves(name, feature):
        dtype = leaf.dtype if type(leaf) is Value else ""
        if not (type(leaf) is ClassLabel or dtype in ("bool", *_TEXT) or dtype.startswith((*_NUMBER, *_DATED))):
            raise SetupError(
                f"keep={name!r} holds {leaf!r}, which nothing has inspected; leave it out: only texts, numbers, "
                "classes and lists and structs of them can be kept"
            )


def _look(name: str, feature: Any) -> str | None:
    """Why a column's names, classes or types may identify."""
    from datasets import ClassLabel

    if identifying_text.is_identifying_name(name):
        return "its name"
    for field in _field_names(feature):
        if identifying_text.is_identifying_name(field):
            return f"the name of its field {field!r}"
    for _, leaf in _leaves(name, feature):
        if isinstance(leaf, ClassLabel):
            for label in leaf.names:
                if kind := identifying_text.find_pii_pattern(label):
                    return f"class {label!r} holds {kind}"
        elif leaf.dtype.startswith(_DATED):
            return f"its type {leaf.dtype}"
    return None


def _is_number(leaf: Any) -> bool:
    from datasets import Value

    return type(leaf) is Value and leaf.dtype.startswith(_NUMBER)


def _is_bit(leaf: Any) -> bool:
    from datasets import Value

    return type(leaf) is Value and leaf.dtype == "bool"


def _has_numbers(feature: Any) -> bool:
    return any(_is_number(leaf) or _is_bit(leaf) for _, leaf in _leaves("", feature))


def _read_numbers(row: Any, feature: Any, column: str, found: dict[str, Numbers]) -> None:
    """Add one row's numbers to those found so far, by path; boxes are passed over, and a number for each is usual."""
    boxes = 0
    for path, number in _numbers(row, feature, column, column):
        if path is None:
            boxes += 1
        else:
            found.setdefault(path, Numbers(_most(path))).add(number)
    for numbers in found.values():
        numbers.end_row(boxes)


def _most(path: str) -> int:
    places = _MASK.search(path) or path.rpartition(".")[2].lower() in _BOXES
    return _MOST_PLACES if places else _MOST_NUMBERS


def _numbers(value: Any, feature: Any, name: str, path: str) -> Iterator[tuple[str | None, Any]]:
    """(path, number) of every number and boolean of a value; (none, box) for a box. Masks of booleans are left out."""
    if value is None:
        return
    if isinstance(feature, dict):
        for key, inner in feature.items():
            yield from _numbers(value.get(key), inner, key, f"{path}.{key}")
    elif hasattr(feature, "feature"):
        if name.lower() in _BOXES and len(value) == 4 and _is_number(feature.feature):
            yield None, value
            return
        for item in value:
            yield from _numbers(item, feature.feature, name, path)
    elif _is_number(feature) or (_is_bit(feature) and not _MASK.search(path)):
        yield path, value


class Numbers:
    """What is known of the numbers of one column or field, in memory that does not grow with them.

    Args:
        most: how many a row may have.
    """

    def __init__(self, most: int = _MOST_NUMBERS) -> None:
        self.most = most
        self.finite = self.fractions = self.fine = self.rough = self.whole = self.in_row = self.most_in_row = 0
        self.large: float | None = None
        self.distinct: set[int] = set()  # below seven digits each, so two million at most

    def add(self, number: float | None) -> None:
        """Take one more; what is no finite number says nothing of the others."""
        self.in_row += 1
        if number is None or not math.isfinite(number):
            return
        self.finite += 1
        if abs(number) >= 1_000_000:
            self.large = number if self.large is None else self.large
        elif float(number).is_integer():
            self.whole += 1
            self.distinct.add(int(number))
        else:
            self.fractions += 1
            if abs(number) <= 180:  # 5e-5: what a float32 may be off at 180
                self.fine += abs(number - round(number, 2)) > 5e-5
                self.rough += abs(number - round(number, 1)) > 5e-5

    def end_row(self, boxes: int = 0) -> None:
        """Say that the next number is another row's, and how many boxes this row has: one number for each is free."""
        self.in_row, self.most_in_row = 0, max(self.in_row - boxes, self.most_in_row)

    def reason(self) -> str | None:
        """Why these look like identifiers, times, coordinates or contents; none where they do not."""
        if self.most_in_row > self.most:
            return f"up to {self.most_in_row} numbers in a row, as pixels, hashes, file contents and embeddings have"
        if self.large is not None:
            times = 9e8 <= abs(self.large) <= 4e9 or 9e11 <= abs(self.large) <= 4e12
            return "seconds since 1970" if times else "numbers of seven digits and more, as identifiers have"
        if 2 * self.fine >= self.fractions > 0 or self.rough == self.finite >= 2:
            return "coordinates"
        largest = max(map(abs, self.distinct), default=0)
        if self.whole >= 2 and largest >= 10_000 and 2 * len(self.distinct) > self.whole:
            return "distinct large whole numbers, as identifiers are"
        return None


def folder_columns(
    root: Path, files: Sequence[str], keep: Sequence[str]
) -> tuple[Mapping[str, Any], dict[str, dict[str, Any]]]:
    """The kept columns of a folder of images: their types, and each one's values by file.

    Args:
        files: paths relative to the root.
        keep: "label" is the class folder; others come from metadata.csv or metadata.jsonl.

    Raises:
        SetupError: there are no class folders, or no such column.
    """
    if not keep:
        return {}, {}  # without the second that importing datasets takes: the workers are started first
    from datasets import ClassLabel, Features

    features: Features = Features()
    values: dict[str, dict[str, Any]] = {}
    if "label" in keep:
        folders = {path: Path(path).parent.name for path in files}
        names = sorted({name for name in folders.values() if name})
        if len(names) < 2:
            raise SetupError("keep='label' needs class folders, at least two; this folder has none")
        features["label"] = ClassLabel(names=names)
        values["label"] = {path: names.index(name) for path, name in folders.items() if name}
    others = [name for name in keep if name != "label"]
    if others:
        table = _metadata(root)
        by_file = dict(zip(table["file_name"].to_pylist(), range(len(table)), strict=True))
        for name in others:
            if name not in table.column_names:
                raise SetupError(f"keep={name!r} is no column of the folder's metadata: {table.column_names}")
            features[name] = Features.from_arrow_schema(table.select([name]).schema)[name]
            column = table[name].to_pylist()
            values[name] = {path: column[i] for path, i in by_file.items()}
    return features, values


def _metadata(root: Path) -> Any:
    import pyarrow.csv
    import pyarrow.json

    readers = {"metadata.csv": pyarrow.csv.read_csv, "metadata.jsonl": pyarrow.json.read_json}
    for name, reader in readers.items():
        if (root / name).is_file():
            try:
                table = reader(root / name)
            except (OSError, ValueError) as error:
                raise SetupError(
                    f"{str(root / name)!r} cannot be read: {error}; mend it or leave --keep out"
                ) from error
            if "file_name" in table.column_names:
                return table
    raise SetupError(f"--keep needs class folders for 'label', or a file of {' or '.join(readers)} with 'file_name'")
