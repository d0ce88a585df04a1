"""The result of an evaluation on VISPR: a table for people, JSON with the curves for everything else."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.layout import write_whole
from u2s_datasets.evaluation.report.tables import Table, share, text_table
from u2s_datasets.parts.metrics import flags


@dataclass(frozen=True)
class Measured:
    """The figures of one question.

    Args:
        name: "all", or the group's.
        title: its row in the table.
        judged_by: "model" and the detectors that took part.
        not_measured: why there are no figures; "" if there are.
        counts: over all images.
        failed: images that could not be read or judged, by reason code; they count as flagged.
        metrics: recall, precision and F1 with their intervals.
        curve: over the threshold of `privacy_score`; None where no image is private.
    """

    name: str
    title: str
    judged_by: tuple[str, ...] = ()
    not_measured: str = ""
    counts: flags.Counts | None = None
    failed: dict[str, int] = dataclasses.field(default_factory=dict)
    metrics: dict[str, flags.Interval] = dataclasses.field(default_factory=dict)
    curve: flags.Curve | None = None


@dataclass(frozen=True)
class VisprResult:
    """The evaluation of one profile; `str()` is a table.

    Args:
        profile: its name.
        split: of the dataset.
        images: how many were judged.
        measured: all attributes, then the groups.
        facts: how it was measured, for the JSON.
    """

    profile: str
    split: str
    images: int
    measured: tuple[Measured, ...]
    facts: dict[str, Any] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        head = ("criterion", "images with it", "flagged", "failed", "recall", "precision", "F1", "average precision")
        rows = []
        for m in self.measured:
            if m.counts is not None:
                positives = m.counts.true_positives + m.counts.false_negatives
                flagged = m.counts.true_positives + m.counts.false_positives
                images = (f"{n:,}" for n in (positives, flagged, sum(m.failed.values())))
                shares = (share(i.value, i.low, i.high) for i in (m.metrics[name] for name in flags.METRICS))
                rows.append((m.title, *images, *shares, share(m.curve and m.curve.average_precision)))
        parts = [text_table(Table(f"VISPR {self.split}, profile {self.profile}, {self.images:,} images", head, rows))]
        parts += [f"{m.title}: not measured: {m.not_measured}" for m in self.measured if m.not_measured]
        if failed := max((sum(m.failed.values()) for m in self.measured), default=0):
            parts.append(f"Up to {failed:,} images could not be read or judged; they count as flagged.")
        parts.append("In brackets: 95% bootstrap intervals over images.")
        if self.facts["not_inspected"]:
            parts.append(text_table(Table("Not looked for", rows=[(words,) for words in self.facts["not_inspected"]])))
        return "\n".join(parts)

    def to_json(self) -> str:
        """Everything, the curves too, as JSON; the same for the same inputs."""
        questions = [dataclasses.asdict(m) for m in self.measured]
        facts = {"dataset": "VISPR", "split": self.split, "profile": self.profile, "images": self.images, **self.facts}
        return json.dumps(facts | {"questions": questions}, indent=1, ensure_ascii=False, allow_nan=False)

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        write_whole(path, self.to_json() + "\n", path.parent, private=False)


def check_result_path(target: Path) -> Path:
    """The path, once it is known to be new or an earlier result. Raises `SetupError`."""
    if target.is_file() and target.stat().st_size:
        try:
            is_result = json.loads(target.read_text("utf-8"))["dataset"] == "VISPR"
        except (OSError, ValueError, KeyError, TypeError):
            is_result = False
        if not is_result:
            raise SetupError(f"out={str(target)!r} holds something else; give a new file, such as vispr.json")
    elif target.is_dir() or target.suffix != ".json":
        raise SetupError(f"out={str(target)!r} cannot be written as a result; give a file such as vispr.json")
    return target
