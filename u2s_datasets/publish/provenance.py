"""What published rows say of how they were made, gathered row by row from their provenance."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from u2s_datasets.privacy.identifying_text import find_pii_pattern

_FACTS = {"editor", "identity", "prior", "attempts", "verified", "inspected", "versions"}
"""What `u2s.anonymize` writes into a row's provenance."""


@dataclass(frozen=True)
class Provenance:
    """What the provenance of the published rows says.

    Args:
        verified: whether every one of them was inspected again.
        editors: configuration of each editor that was used.
        categories: what was looked for.
        versions: package -> version.
    """

    verified: bool
    editors: list[dict[str, Any]]
    categories: list[str]
    versions: dict[str, str]


class ProvenanceTally:
    """Counts the provenance texts of published rows."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()

    def add(self, text: Any) -> None:
        """Take that of one row; what is not a text says nothing."""
        self._texts[text if isinstance(text, str) else ""] += 1

    def read(self) -> Provenance:
        """What they say together; complete once every row was added. A text that cannot be read proves nothing."""
        read = [_parsed(text) for text in self._texts]
        editors = {json.dumps(one["editor"], sort_keys=True): one["editor"] for one in read if one.get("editor")}
        stated = (one["versions"] for one in read if isinstance(one.get("versions"), dict))
        versions: dict[str, Any] = next(stated, {})
        return Provenance(
            verified=bool(read) and all(one.get("verified") is True for one in read),
            editors=[editor for editor in editors.values() if isinstance(editor, dict)],
            categories=sorted({str(name) for one in read for name in _items(one.get("inspected"))}),
            versions={str(name): str(version) for name, version in versions.items()},
        )


def is_ours(text: str) -> bool:
    """Whether a provenance has the form in which `u2s.anonymize` writes it: its facts and no others, and no prose.

    A text with a space in it, such as a prompt of an editor, may hold no contact, date or address.
    """
    facts = _parsed(text)
    return {"editor", "verified", "inspected"} <= set(facts) <= _FACTS and all(map(_is_plain, _texts(facts)))


def _is_plain(text: str) -> bool:
    if " " in text or not text.isascii():
        return find_pii_pattern(text) is None
    return "@" not in text and text.isprintable()


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names of fields included."""
    if isinstance(value, dict):
        yield from value
        yield from _texts([*value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
