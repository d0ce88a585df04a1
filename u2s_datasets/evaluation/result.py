"""What an evaluation adds to the scores of single rows, as plain values for the owner and for anyone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from u2s_datasets.evaluation.attacks import Attack
from u2s_datasets.parts.metrics.definitions import FEW


@dataclass(frozen=True)
class Evaluation:
    """What was found of a set beyond its rows' scores.

    Args:
        attacks: re-identification, where an encoder was given.
        controls: "no-op" and "shuffled" -> score -> (rows, mean), on a few rows.
        absent: score -> (what it would need, why that is not here). The second may name folders: private.
        inspection: a result of `u2s vispr`, see `inspection.read_inspection`.
    """

    attacks: tuple[Attack, ...]
    controls: Mapping[str, Mapping[str, tuple[int, float | None]]]
    absent: Mapping[str, tuple[str, str]]
    inspection: Mapping[str, Any] | None = None

    def plain(self, private: bool) -> dict[str, Any]:
        """As plain values; for anyone only rates and means of 5 rows or more, with two digits."""
        attacks = [dataclasses.asdict(a) for a in self.attacks]
        absent = {name: ": ".join(filter(None, why if private else why[:1])) for name, why in self.absent.items()}
        known = {} if self.inspection is None else {"inspection": dict(self.inspection)}
        if private:
            controls: Any = {k: {n: {"n": m, "mean": v} for n, (m, v) in d.items()} for k, d in self.controls.items()}
            return {"reidentification": attacks, "controls": controls, "absent": absent, **known}
        for attack in attacks:
            attack["rates"] = [_public(r) for r in attack["rates"] if r["n"] >= FEW and r["gallery"] >= FEW]
            attack.pop("without")
        shown = {
            kind: {name: {"n": n, "mean": round(v, 2)} for name, (n, v) in made.items() if n >= FEW and v is not None}
            for kind, made in self.controls.items()
        }
        shown_of = {a["encoder"] for a in attacks if a["kind"] == "edited" and a["rates"]}
        tried = [a for a in attacks if a["encoder"] in shown_of and a["rates"]]  # a control alone says nothing
        return {"reidentification": tried, "controls": shown, "absent": absent, **known}


BEYOND = ("reidentification", "controls", "absent", "inspection")
"""The keys of `Evaluation.plain`, which a report reads again from `eval.json`."""


def _public(rate: dict[str, Any]) -> dict[str, Any]:
    shown = {k: rate[k] for k in ("k", "n", "gallery")}
    return shown | {k: None if rate[k] is None else round(rate[k], 2) for k in ("rate", "low", "high", "chance")}
