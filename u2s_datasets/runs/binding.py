"""What keeps a run from going on in a folder: in what its binding differs from the one that the folder belongs to."""

from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 4
"""Values of a configuration that are named; another profile differs in all of them."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two bindings differ, and what to do about it; "" where they are alike.

    Of the values only numbers and versions are told: a text may be a path, or say what nobody else is to know.
    """
    other = [key for key in now if before.get(key) != now[key]]
    configured = dict(_leaves(before.get("configuration"), now.get("configuration"), "configuration"))
    versions = dict(_leaves(before.get("versions"), now.get("versions"), "versions", told=True))
    if code := [name for name in ("code", "foreign_code") if configured.pop(name, None) is not None]:
        versions.setdefault(code[0], "")
    if configured.keys() - {"parts"} or versions:
        configured.pop("parts", None)  # all steps as one text, which holds private values and names no field
    kinds = [key for key in other if key not in ("configuration", "versions")]
    if configured:
        kinds.append(f"configuration ({_listed(configured)})")
    if versions:
        kinds.append(f"version of u2s_datasets or a library ({_listed(versions)})")
    if not other:
        return ""
    call = "resume with that version" if versions else "repeat that call to resume it"
    return f"{' and '.join(kinds or other)}; {call}, or use a new folder"


def _listed(leaves: Mapping[str, str]) -> str:
    words = [f"{name} {change}".strip() for name, change in leaves.items()]
    return ", ".join([*words[:_MOST], *(["…"] if len(words) > _MOST else [])])


def _leaves(before: Any, now: Any, name: str, told: bool = False) -> Iterator[tuple[str, str]]:
    """(name, "0 -> 4") of every value that differs; the values where they are numbers, or all may be told."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            yield from _leaves(before.get(key), now.get(key), key, told)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for one, other in zip(before, now, strict=True):
            yield from _leaves(one, other, name, told)
    elif before != now:
        numbers = all(isinstance(value, (int, float, type(None))) for value in (before, now))
        yield name, f"{before} -> {now}" if told or numbers else ""
