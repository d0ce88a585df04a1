"""One push from the sources to the files: judge, build, scan, and the card that goes up last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.publish import facts as facts_
from u2s_datasets.publish.build import Builder, Built
from u2s_datasets.publish.card import About, dataset_card
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import Gate, Refused
from u2s_datasets.publish.hub import CARD, HubError
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.publish.scan import Index, folder_files, scan, scan_text

Split = RunSplit | DatasetSplit


@dataclass(frozen=True)
class Plan:
    """What would leave, or why nothing may.

    Args:
        reasons: code -> words of everything that stands against it; empty where it may leave.
        files: path -> size in bytes.
        columns: name -> type.
        sample: a few rows; their images as format and size.
        card: the README.md.
    """

    reasons: dict[str, str]
    files: dict[str, int]
    columns: dict[str, str]
    sample: list[dict[str, Any]] = field(default_factory=list)
    card: str = ""

    def __str__(self) -> str:
        lines = [f"{size:>14,}  {path}" for path, size in self.files.items()]
        lines += [f"column {name}: {kind}" for name, kind in self.columns.items()]
        lines += [f"row {row}" for row in self.sample]
        against = [f"stopped by {code}: {words}" for code, words in self.reasons.items()]
        return "\n".join([*lines, *(against or ["nothing stands against it"])])


class Job:
    """One push.

    Args:
        repo_id: "ORG/NAME".
        about: what the publisher states.
        configs: config -> split -> source.
        max_leak_rate: the bound that an audit must keep, in [0, 1]; none asks for no audit.
        licences: model id -> licence.
        progress: whether a bar is shown.

    Raises:
        SetupError: `max_leak_rate` is no share.
    """

    def __init__(
        self,
        repo_id: str,
        about: About,
        configs: dict[str, dict[str, Split]],
        max_leak_rate: float | None,
        licences: Mapping[str, str],
        progress: bool,
    ) -> None:
        if max_leak_rate is not None and not 0 <= max_leak_rate <= 1:  # nor is NaN
            raise SetupError(f"max_leak_rate={max_leak_rate!r} is no share; give a number from 0 to 1, such as 0.01")
        self.progress = progress
        self.repo_id, self.about, self.configs = repo_id, about, configs
        self.max_leak_rate, self.licences = max_leak_rate, licences
        self.reasons: dict[str, str] = {}
        self.facts: dict[str, dict[str, dict[str, Any]]] = {}
        self.built: list[Built] = []
        self.index = Index()

    def home(self) -> Path | None:
        """Where the build may lie."""
        return next((s.work for splits in self.configs.values() for s in splits.values() if s.work), None)

    def held(self) -> ExitStack:
        """Keeps runs from writing into their folders meanwhile."""
        with ExitStack() as stack:
            for split in (s for splits in self.configs.values() for s in splits.values()):
                if isinstance(split, RunSplit):
                    stack.enter_context(split.held())
            return stack.pop_all()

    def prepare(self, folder: Path, allow: Sequence[str], quality: Mapping[str, float] | None, size: int) -> None:
        """Judge every row, build what may leave, and search what was built. Gathers the reasons; raises none."""
        self.data, self.top = folder / "data", folder / "top"
        for place in (self.data, self.top):
            place.mkdir()
        if missing := "; ".join(self.about.missing()):
            self.reasons["facts"] = missing
        self.index.texts = "text" not in allow
        done = []
        for config, splits in self.configs.items():
            for name, split in splits.items():
                gate = Gate(allow, quality, split.kept)
                builder = Builder(self.data, folder / "buckets" / config / name, config, name, split.features, size)
                self._judge(split, gate, builder)
                self._add_reasons(f"{config}/{name}", gate.reasons())
                done.append((config, name, split, gate, builder))
        if self.reasons:
            return
        for config, name, split, gate, builder in done:
            made = builder.finish()
            self.built += made
            facts = facts_.facts_of(split, gate, builder, made, self.licences)
            self.facts.setdefault(config, {})[name] = facts
        self._scan()

    def _judge(self, split: Split, gate: Gate, builder: Builder) -> None:
        from tqdm import tqdm

        split.judge(gate)
        self._judge_audit(split, gate)
        self.index.words += split.secrets()
        for row in tqdm(split.candidates(), total=split.rows, unit="img", disable=not self.progress, smoothing=0.05):
            self.index.add(row)
            if gate.admits(row) and not gate.reasons() and not self.reasons:
                builder.add(row.public)
        split.judge_rows(gate)
        gate.close()

    def _judge_audit(self, split: Split, gate: Gate) -> None:
        if self.max_leak_rate is None:
            return
        if split.audit is None:
            gate.note(
                "audit", f"an audit with a bound of {self.max_leak_rate:.2%} or less was asked for; there is none"
            )
        elif split.audit.upper_bound > self.max_leak_rate:
            gate.note("audit", f"the audit's bound is {split.audit.upper_bound:.2%}, above {self.max_leak_rate:.2%}")

    def _add_reasons(self, where: str, reasons: Mapping[str, str]) -> None:
        several = sum(map(len, self.configs.values())) > 1
        for code, words in reasons.items():
            words = f"{where}: {words}" if several else words
            self.reasons[code] = f"{self.reasons[code]}; {words}" if code in self.reasons else words

    def _scan(self) -> None:
        names = [name for splits in self.configs.values() for s in splits.values() for name in s.features]
        found = list(scan(folder_files(self.data), self.index, names))
        if found:
            self.reasons["scan"] = "; ".join(found[:10])

    def write_card(self, known: Mapping[str, Any], note: str, version: str) -> str:
        """Write the card and the facts into the folder that goes up last. Returns the card."""
        whole = facts_.merged(known, self.facts, note, version)
        try:
            card = dataset_card(self.repo_id, self.about, whole)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if not known:
                raise
            raise HubError(f"{facts_.FACTS_FILE} in {self.repo_id} is damaged; remove it there, push again") from error
        facts = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
        if found := [*scan_text(CARD, card, self.index), *scan_text(facts_.FACTS_FILE, facts, self.index)]:
            raise Refused({"scan": "; ".join(found)})
        (self.top / CARD).write_text(card, "utf-8")
        (self.top / facts_.FACTS_FILE).write_text(facts, "utf-8")
        return card

    def allow_foreign(self, files: int) -> None:
        """Have the card say that the repository held files of others."""
        for splits in self.facts.values():
            for facts in splits.values():
                facts["allowed"]["foreign_files"] = files

    def refuse(self) -> None:
        """Raise `Refused` where anything stands against it."""
        if self.reasons:
            raise Refused(self.reasons)

    def plan(self, note: str, version: str) -> Plan:
        """What would leave."""
        columns = {
            n: str(f) for splits in self.configs.values() for s in splits.values() for n, f in s.features.items()
        }
        if self.reasons:
            return Plan(dict(self.reasons), {}, columns)
        card = self.write_card({}, note, version)
        files = {name: file.stat().st_size for name, file in [*folder_files(self.data), *folder_files(self.top)]}
        return Plan({}, files, columns, _sample(self.built), card)

    def stale(self) -> list[str]:
        """Patterns of the files that this push replaces."""
        folders = {config: "data" if config == "default" else config for config in self.configs}
        return [f"{folders[config]}/{name}-*.parquet" for config, splits in self.configs.items() for name in splits]


def _sample(built: Sequence[Built], rows: int = 3) -> list[dict[str, Any]]:
    """The first rows as they would leave; an image is named by its format and size."""
    import pyarrow.parquet as pq

    from u2s_datasets import columns as c
    from u2s_datasets import images

    if not built:
        return []
    with pq.ParquetFile(built[0].file) as file:
        first = file.read_row_group(0).slice(0, rows).to_pylist()
    for row in first:
        data = row[c.ANONYMIZED_IMAGE]["bytes"]
        row[c.ANONYMIZED_IMAGE] = f"{images.decode(data).pixels.size} pixels, {len(data):,} bytes"
    return first
