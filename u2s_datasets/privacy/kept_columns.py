"""Which of the columns that a user keeps may be published.

An allowlist: whatever is not a text, a number or a class, nor a list or struct of these, is refused at any depth.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.kept_numbers import ColumnNumbers, Together, boxes_of, is_class, is_number
from u2s_datasets.privacy.names import find_name
from u2s_datasets.privacy.private_words import is_common

_RESERVED = {
    name
    for value in (v for k, v in vars(columns).items() if k.isupper())
    for name in ((value,) if isinstance(value, str) else value if isinstance(value, tuple) else ())
} - {*columns.STATUSES, columns.ERROR} | {"kept_texts_withheld", "kept_emptied"}
_TEXT = ("string", "large_string")
_NUMBER = ("int", "uint", "float")
_DATED = ("timestamp", "date", "time", "duration", "decimal")
_WORDS_OF_A_CLASS = 2
_MOST_BETWEEN = 6  # spaces and marks around the words of a class: more are data in dots and dashes
_MOST_LETTERS = 3  # texts of one letter in a list: more can spell a name
_SHOWN = 5  # class names that a message lists

NOT_CHECKED = "names and addresses were not checked"
"""What summaries, reports and cards say of a text column that was allowed where nothing recognised names."""


def check_kept(
    features: Mapping[str, Any],
    read_rows: Callable[[Sequence[str]], Iterable[Mapping[str, Any]]],
    allow: Sequence[str] = (),
    names_checked: bool = False,
    holds_name: Callable[[str], bool] | None = None,
) -> None:
    """Raise `SetupError` for a kept column that may not be published, with the reason and how to allow it.

    Classes, boxes of pixels, label masks, lengths and counts pass, texts of one or two common words, and other texts
    where names are recognised (they are checked row by row). Images, sounds, bytes and types that no rule knows never
    do, at any depth. All else needs `allow`: names of columns, fields and classes that look like a contact, a date, a
    person or a place, dates, times, decimals, numbers of no known meaning, for which every number of every row is
    read, and free texts where no recognizer of names is at hand.

    All class names of a kept column stand in the schema of every published file, also those of which each image
    was withheld or which no image has.

    Args:
        features: the kept columns and their types.
        read_rows: given names of columns, returns the values of these in every row.
        allow: names of kept columns that may pass although they look identifying.
        names_checked: whether a recognizer of names reads every text.
        holds_name: what it says of a text, for the names of classes; None if it is not at hand now.

    Raises:
        SetupError: a kept column may not be published, or `allow` names one that is not kept.
    """
    for name in set(allow) - set(features):
        raise SetupError(f"allow={name!r} is not a kept column; name it in --keep as well")
    for name, feature in features.items():
        if name in _RESERVED:
            raise SetupError(f"keep={name!r} is a column that this program writes; rename it in the source")
        _check_types(name, feature)
    judged = {name: feature for name, feature in features.items() if name not in allow}
    for name, feature in judged.items():
        _refuse(name, _identifying_type(name, feature, holds_name))
    if not names_checked:
        _check_texts(_with_texts(judged), read_rows)
    _check_numbers(features, judged, read_rows)


def unchecked_texts(features: Mapping[str, Any], allow: Sequence[str], names_checked: bool) -> list[str]:
    """The columns with free texts that were allowed and that no recognizer of names reads."""
    return [] if names_checked else [name for name in _with_texts(features) if name in allow]


def say_classes(value: Any) -> bool:
    """Whether all texts of a value are what classes may be called, and no list spells something letter by letter."""
    texts = list(identifying_text.iter_strings(value))
    letters = sum(len(text.strip()) == 1 for text in texts)
    return letters <= _MOST_LETTERS and all(map(_says_class, texts))


def _says_class(text: str) -> bool:
    """Whether it is one or two words of `common_words.txt`, which holds no name, with little between them."""
    words = re.findall(r"[^\W_]+", text)
    between = re.sub(r"[^\W_]+", "", text)
    plain = len(between) <= _MOST_BETWEEN and not between.strip(" -_/&,.'()+")
    return plain and len(words) <= _WORDS_OF_A_CLASS and all(map(is_common, words)) and bool(words or not text)


def _with_texts(features: Mapping[str, Any]) -> list[str]:
    return [name for name, feature in features.items() if any(_dtype(leaf) in _TEXT for leaf in _leaves(feature))]


def _check_texts(names: Sequence[str], read_rows: Callable[[Sequence[str]], Iterable[Mapping[str, Any]]]) -> None:
    """Raise `SetupError` for a column with a text that is longer than a class, or of words that may be names."""
    for row in read_rows(names) if names else ():
        for name in names:
            if not say_classes(row.get(name)):
                raise SetupError(
                    f"keep={name!r} holds texts, in which no recognizer looks for names and addresses; give one "
                    f"(--text-check presidio), or say --allow {name} to keep it unchecked"
                )


def _check_numbers(
    features: Mapping[str, Any],
    judged: Mapping[str, Any],
    read_rows: Callable[[Sequence[str]], Iterable[Mapping[str, Any]]],
) -> None:
    numeric = {n: f for n, f in features.items() if any(is_number(leaf) or is_class(leaf) for leaf in _leaves(f))}
    numbers = {name: ColumnNumbers(name, feature) for name, feature in judged.items() if name in numeric}
    together = Together({name: judged[name] for name in numbers})
    for row in read_rows(list(numeric)) if numbers else ():
        boxes = boxes_of(row, numeric)
        together.add(row)
        for column in numbers.values():
            column.add(row, boxes)
    for name, column in numbers.items():
        _refuse(name, column.reason())
    if numbers:
        _refuse(next(iter(numbers)), together.reason())


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


def _identifying_type(name: str, feature: Any, holds_name: Callable[[str], bool] | None) -> str | None:
    """Why a column's name, fields, classes or types may identify; None if they do not."""
    from datasets import ClassLabel

    if (kind := _identifying_name(name)) is not None:
        return f"its name {kind}".strip()
    for field in _field_names(feature):
        if (kind := _identifying_name(field)) is not None:
            return f"the name of its field {field!r} {kind}".strip()
    for leaf in _leaves(feature):
        if isinstance(leaf, ClassLabel):
            if reason := _identifying_classes(leaf.names, holds_name):
                return reason
        elif _dtype(leaf).startswith(_DATED):
            return f"its type {leaf.dtype}"
    return None


def _identifying_name(name: str) -> str | None:
    """How the name of a column or field may identify, "" if by itself as "user_id" does; None if it does not."""
    if identifying_text.is_identifying_name(name):
        return ""
    found = identifying_text.find_pii_pattern(name) or find_name(name)
    return f"looks like {found}" if found else None


def _identifying_classes(names: Sequence[str], holds_name: Callable[[str], bool] | None) -> str | None:
    """Why the names of classes may identify, with the first few that do."""

    def kind_of(label: str) -> str | None:
        if holds_name is not None and holds_name(label.replace("_", " ")):
            return "a name"
        return find_name(label, any_script=holds_name is not None)

    for label in names:
        if kind := identifying_text.find_pii_pattern(label):
            return f"class {label!r} holds {kind}"
    found = {label: kind for label in names if (kind := kind_of(label))}
    if not found:
        return None
    shown = ", ".join(f"{label!r} looks like {kind}" for label, kind in list(found.items())[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"of its {len(names)} classes {shown}{more}"


def _dtype(leaf: Any) -> str:
    """The name of a plain value's type; "" for classes, images and whatever else is not a `Value` itself."""
    from datasets import Value

    return leaf.dtype if type(leaf) is Value else ""
