"""One type for a column that several files declare: class names are kept by name, all else has to agree.

A file's ClassLabel numbers its names in an order of its own: 0 may be a cat here and a dog in the next file.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from u2s_datasets.errors import SetupError

_ALIKE = {"large_string": "string", "large_binary": "binary"}


def common_feature(column: str, declared: Mapping[str, Any]) -> Any:
    """The type that holds a column's values of all files.

    Class names may stand in another order, or be some of those of another file; the first file's order counts.
    A column of nulls fits any other type.

    Args:
        column: its name, for the message.
        declared: file -> the column's `datasets` type there.

    Raises:
        SetupError: two files disagree otherwise. Labels are never guessed.
    """
    from datasets import Value

    known = {file: feature for file, feature in declared.items() if getattr(feature, "dtype", None) != "null"}
    features = list(known.values()) or list(declared.values())
    first = features[0]
    if all(feature == first for feature in features):
        return first
    if all(hasattr(feature, "names") for feature in features):
        return _common_classes(column, known)
    if all(isinstance(feature, dict) and set(feature) == set(first) for feature in features):
        return {name: common_feature(f"{column}.{name}", {f: v[name] for f, v in known.items()}) for name in first}
    if hasattr(first, "feature") and len({(type(f), getattr(f, "length", None)) for f in features}) == 1:
        return dataclasses.replace(first, feature=common_feature(column, {f: v.feature for f, v in known.items()}))
    if len({_ALIKE.get(f.dtype, f.dtype) if type(f) is Value else repr(f) for f in features}) == 1:
        return first
    file, other = next((file, feature) for file, feature in known.items() if feature != first)
    raise _disagreement(column, next(iter(known)), first, file, other)


def _common_classes(column: str, declared: Mapping[str, Any]) -> Any:
    """A ClassLabel of all names, if one file has them all."""
    from datasets import ClassLabel

    names = list(dict.fromkeys(name for feature in declared.values() for name in feature.names))
    if not any(set(names) == set(feature.names) for feature in declared.values()):
        (one, first), *others = declared.items()
        file, other = next((f, o) for f, o in others if not set(o.names) <= set(first.names))
        raise _disagreement(column, one, first.names, file, other.names)
    return ClassLabel(names=names)


def _disagreement(column: str, one: str, first: Any, file: str, other: Any) -> SetupError:
    return SetupError(
        f"column {column!r} is {_short(first)} in {one!r} and {_short(other)} in {file!r}; "
        f"write it alike into all files, or leave --keep {column.split('.')[0]} out"
    )


def _short(feature: Any) -> str:
    text = " ".join(str(feature).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def renumber(value: Any, declared: Any, common: Any) -> Any:
    """A value of a file's own type as one of the common type: a class keeps its name and gets that name's number.

    Args:
        value: of any depth; None and negative numbers, which are no class, stay as they are.
        declared: its type in its file.
        common: from `common_feature`.

    Returns:
        The value; None in place of a number that its file has no name for.
    """
    if value is None or declared == common:
        return value
    if hasattr(common, "names"):
        number = int(value)
        if number < 0:
            return number
        return common.str2int(declared.names[number]) if number < len(declared.names) else None
    if isinstance(common, dict):
        return {name: renumber(inner, declared[name], common[name]) for name, inner in value.items()}
    if hasattr(common, "feature"):
        return [renumber(inner, declared.feature, common.feature) for inner in value]
    return value


def require_columns(files: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `SetupError` if a file lacks one of these columns.

    Args:
        files: file -> its `datasets.Features`.
        names: the columns.
    """
    for name in names:
        if missing := [file for file, features in files.items() if name not in features]:
            more = f" (nor do {len(missing) - 1} others)" if len(missing) > 1 else ""
            raise SetupError(
                f"{missing[0]!r} has no column {name!r}{more}; its columns are {list(files[missing[0]])}; "
                "give only files that have every column that is read"
            )
