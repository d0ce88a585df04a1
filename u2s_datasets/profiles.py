"""Profiles: named sets of steps, chosen by name and never behind the user's back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import catalog
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Part
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.gate import Gate
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.score import Score

NAMES = {"cpu": "detectors and redaction: no download, no GPU, no account"}


@dataclass(frozen=True)
class Profile:
    """Five steps that belong together.

    Args:
        name: the profile's name, for reports.
        anonymize: the fourth arrow, which holds the first three.
        score: the fifth.
        gate: what withholds rows by their scores; none lets all pass.
    """

    name: str
    anonymize: Anonymize
    score: Score
    gate: Gate | None = Gate()

    @property
    def inspect(self) -> Inspect:
        """The first arrow."""
        return self.anonymize.inspect

    @property
    def caption(self) -> Caption:
        """The second arrow."""
        return self.anonymize.caption

    @property
    def instruct(self) -> Instruct:
        """The third arrow."""
        return self.anonymize.instruct

    def with_engine(self, engine: str, threads: int = 1) -> Profile:
        """The same profile with its detectors on another inference engine."""
        anonymize = _with_engine(self.anonymize, engine, threads)
        return dataclasses.replace(self, anonymize=anonymize, score=_with_engine(self.score, engine, threads))


def profile(
    name: str = "cpu", *, detectors: Sequence[str] | None = None, editor: str | None = None, **options: Any
) -> Profile:
    """The profile of this name.

    Args:
        name: a key of `NAMES`.
        detectors: names of `catalog.DETECTORS` instead of the profile's own.
        editor: a name of `catalog.EDITORS` instead of the profile's own.
        options: arguments of `Anonymize`, such as `seed=7`.

    Raises:
        SetupError: an unknown name, detector or editor.
    """
    if name not in NAMES:
        raise SetupError(f"unknown profile {name!r}; use one of: {', '.join(NAMES)}")
    inspect = Inspect()
    if detectors is not None:
        inspect = Inspect(detectors=tuple(catalog.make("detector", d, catalog.DETECTORS) for d in detectors))
    if editor is not None:
        options["editor"] = catalog.make("editor", editor, catalog.EDITORS)
    anonymize = Anonymize(inspect=inspect, **options)
    anonymize.check()
    return Profile(
        name,
        anonymize,
        Score(inspect=inspect if anonymize.verify else None, image_column=anonymize.image_column),
    )


def _with_engine(part: Any, engine: str, threads: int) -> Any:
    """A copy of a part in which every part with an `engine` has this one."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        if isinstance(value, Part):
            changes[f.name] = _with_engine(value, engine, threads)
        elif isinstance(value, tuple) and any(isinstance(v, Part) for v in value):
            changes[f.name] = tuple(_with_engine(v, engine, threads) for v in value)
        elif f.name == "engine":
            changes |= {"engine": engine, "threads": threads}
    return dataclasses.replace(part, **changes) if changes else part
