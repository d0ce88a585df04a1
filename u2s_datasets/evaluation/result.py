"""What an evaluation adds to the scores of single rows, as plain values for the owner and for anyone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from u2s_datasets.evaluation.attacks import Attack
from u2s_datasets.parts.metrics.definitions import FEW

BEYOND = ("reidentification", "controls", "absent", "inspection")
"""The keys of `Evaluation.plain`, which a report reads again from `eval.json`."""


@dataclass(frozen=True)
class Evaluation:
    """What was found of a set beyond its rows' scores.

    Args:
        attacks: re-identification, for every encoder that was given.
        controls: "no-op" and "shuffled" -> score -> (rows, mean), on a few rows.
        absent: score -> (what it would need, why that is not here). The second may name folders: private.
        inspection: a result of `u2s vispr`, see `inspection.read_inspection`.
    """

    attacks: tuple[Attack, ...]
    controls: Mapping[str, Mapping[str, tuple[int, float]]]
    absent: Mapping[str, tuple[str, str]]
    inspection: Mapping[str, Any] | None = None

    def plain(self, private: bool) -> dict[str, Any]:
        """As plain values; for anyone only rates and means of 5 rows or more, with two digits."""
        attacks = [dataclasses.asdict(attack) for attack in self.attacks]
        controls = {
            kind: {name: {"n": n, "mean": mean} for name, (n, mean) in found.items()}
            for kind, found in self.controls.items()
        }
        absent = {name: ": ".join(filter(None, why if private else why[:1])) for name, why in self.absent.items()}
        if not private:
            attacks = _public_attacks(attacks)
            controls = {
                kind: {k: {"n": v["n"], "mean": round(v["mean"], 2)} for k, v in found.items() if v["n"] >= FEW}
                for kind, found in controls.items()
            }
        known = {} if self.inspection is None else {"inspection": dict(self.inspection)}
        return {"reidentification": attacks, "controls": controls, "absent": absent, **known}


def _public_attacks(attacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rates over 5 rows or more, rounded, of the encoders whose attack on the edited images has any.

    A control alone says nothing.
    """
    shown = []
    for attack in attacks:
        rates = [
            {k: rate[k] for k in ("k", "n", "gallery")}
            | {k: None if rate[k] is None else round(rate[k], 2) for k in ("rate", "low", "high", "chance")}
            for rate in attack["rates"]
            if rate["n"] >= FEW and rate["gallery"] >= FEW
        ]
        if rates:
            shown.append({"encoder": attack["encoder"], "kind": attack["kind"], "rates": rates})
    tried = {attack["encoder"] for attack in shown if attack["kind"] == "edited"}
    return [attack for attack in shown if attack["encoder"] in tried]
