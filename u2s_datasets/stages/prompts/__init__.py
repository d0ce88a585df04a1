"""The prompts, text files beside this one, and how they are filled in (paper, figures S8 to S15; our words)."""

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def render(name: str, /, **values: object) -> str:
    """The prompt of this name with its placeholders filled in, once: braces inside a value stay as they are.

    Args:
        name: a file beside this module, without its suffix.
        values: one for every placeholder, no more and no fewer.

    Raises:
        ValueError: a value is missing or has no placeholder.
    """
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
    placeholders = set(_PLACEHOLDER.findall(text))
    if placeholders != set(values):
        raise ValueError(f"prompt {name!r} has the placeholders {sorted(placeholders)} and was given {sorted(values)}")
    return re.sub(r"\n{3,}", "\n\n", _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), text))


def criteria_lines(criteria: Mapping[str, str]) -> str:
    """Criteria as a list, each under the name by which an answer may call it: "- people: faces whole or partial, …"."""
    return "\n".join(
        f"- {name}" if words == name else f"- {name}: {words.removeprefix(f'{name}: ')}"
        for name, words in criteria.items()
    )
