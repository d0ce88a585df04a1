"""What an inspection looks for and what it does not, in words for reports and cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from u2s_datasets.parts import Category
from u2s_datasets.parts.catalog import known_categories
from u2s_datasets.privacy import vispr_attributes as vispr
from u2s_datasets.privacy.criteria import CRITERIA, Criteria

BEYOND = {
    "people": {"bodies": "people without a visible face: backs, bodies, hands, tattoos, skin"},
    "text": {
        "handwriting": "handwriting",
        "logos": "logos",
        "codes": "QR codes",
        "unreadable": "text too small or too blurred to be read",
    },
    **{name: {name: words} for name, words in CRITERIA.items() if name not in ("people", "text")},
}
"""Per criterion what no detector of ours looks for, whatever is switched on; see `Category.covers`."""


def scope(categories: Sequence[Category], asked: Criteria = ()) -> tuple[list[str], list[str]]:
    """(inspected, not inspected), in words for anyone: a user's own criteria are not repeated.

    Args:
        categories: what detectors look for.
        asked: what a model is asked for.
    """
    ours = [name for name, words in asked if CRITERIA.get(name) == words]
    known = [name for name, words in asked if name in vispr.ATTRIBUTES and vispr.ATTRIBUTES[name].words == words]
    own = len(asked) > len(ours) + len(known)
    judged = [CRITERIA[name] for name in ours] + _attributes(known) + (["criteria of the user's own"] if own else [])
    if len(known) == len(vispr.ATTRIBUTES):
        ours = list(CRITERIA)  # which sum them up
    looked_for = {category.name for category in categories}
    left = [c for c in known_categories().values() if c.name not in looked_for and c.criterion not in ours]
    covered = {key for category in categories for key in category.covers}
    beyond = [
        _listed(words for key, words in parts.items() if key not in covered)
        for criterion, parts in BEYOND.items()
        if criterion not in ours and not covered.issuperset(parts)
    ]
    inspected = [category.description for category in categories] + [f"{words} (judged by a model)" for words in judged]
    return inspected, [*(category.description for category in left), *beyond]


def _attributes(ids: list[str]) -> list[str]:
    if len(ids) == len(vispr.ATTRIBUTES):
        return [f"all {len(ids)} attributes of VISPR"]
    return [vispr.ATTRIBUTES[name].words for name in ids]


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
