"""The prompts, as text files beside this one, and their filling-in (paper, figures S8 to S15; the words are ours)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent

_PLACE = re.compile(r"\{([a-z_]+)\}")


def render(name: str, /, **values: object) -> str:
    """The prompt of this name with its places filled in, once: braces inside a value stay as they are.

    Args:
        name: a file beside this module, without its ending.
        values: one for every place, no more and no fewer.

    Raises:
        ValueError: a value is missing or has no place.
    """
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
    places = set(_PLACE.findall(text))
    if places != set(values):
        raise ValueError(f"prompt {name!r} has the places {sorted(places)} and was given {sorted(values)}")
    return re.sub(r"\n{3,}", "\n\n", _PLACE.sub(lambda match: str(values[match.group(1)]), text))


def criteria_lines(criteria: Mapping[str, str]) -> str:
    """Criteria as a list, each with the name by which an answer may call it: "- people: faces whole or partial, …"."""
    return "\n".join(
        f"- {name}" if words == name else f"- {name}: {words.removeprefix(f'{name}: ')}"
        for name, words in criteria.items()
    )
