"""The folder of a finished run as a split to publish: its public rows, judged beside its private ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.parts import TextCheck
from u2s_datasets.privacy.kept_columns import check_kept, unchecked_texts
from u2s_datasets.privacy.kept_values import KeptColumns
from u2s_datasets.publish.candidate import Candidate, caption_of, classes_of, rounded
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.runs.audit import read_audit
from u2s_datasets.runs.files import sha256
from u2s_datasets.runs.layout import SHARD, shard_name, shard_place
from u2s_datasets.runs.manifest import count_rows
from u2s_datasets.runs.reader import RunFolder, StoredRow
from u2s_datasets.sources.base import Item

if TYPE_CHECKING:
    from datasets import Features

    from u2s_datasets.evaluation.report.report import Report


class RunSplit:
    """A run's folder.

    Args:
        folder: output of `u2s anonymize`.
        keep: which of the run's kept columns leave, and which scores, rounded; None means all columns and no score.
        allow: kept columns that may leave although they look identifying; other exceptions are passed over.
        text_check: what looks for names in the kept texts once more; None where nothing does.

    Raises:
        SetupError: it holds no finished run, or not these kept columns.
    """

    def __init__(
        self,
        folder: Path,
        keep: Sequence[str] | None = None,
        allow: Sequence[str] = (),
        text_check: TextCheck | None = None,
    ) -> None:
        self.folder = RunFolder(folder)
        self.run = self.folder.run
        kept = list(self.folder.manifest["configuration"]["kept_columns"])
        self.kept = kept if keep is None else [name for name in keep if name not in c.SCORE]
        self.scores = [name for name in keep or () if name in c.SCORE]
        for name in self.kept:
            if name not in kept:
                raise SetupError(f"keep={name!r} was not kept by the run, which kept {kept}; run it with --keep {name}")
        self.rows: int | None = self.run["rows"]
        self._allow, self._text_check = [name for name in allow if name in self.kept], text_check
        self.kept_emptied: Counter[str] = Counter(count_rows(self.folder.shards, self.run["rows"])["kept_emptied"])
        self.audit = read_audit(self.folder.layout.audit)

    @property
    def work(self) -> Path:
        """Where the build may lie: nobody else looks there."""
        return self.folder.layout.private

    @cached_property
    def features(self) -> Features:
        """The typed columns that leave."""
        from datasets import Value

        features = c.features(c.PUBLIC)
        stored = self.folder.kept_features
        features.update({name: stored[name] for name in self.kept if name in stored})
        features.update({name: Value("float64") for name in self.scores})
        return features

    def report(self) -> Report:
        """The run's numbers. Raises `U2SError` if its files disagree."""
        from u2s_datasets.evaluation.report.report import report

        return report(self.folder.layout.root)

    def held(self) -> AbstractContextManager[None]:
        """Keep runs from writing into the folder meanwhile. Raises `SetupError` if one does."""
        return self.folder.held()

    def judge(self, gate: PublishGate) -> None:
        """Note what is wrong with the folder as a whole."""
        if not self.run.get("verified"):
            gate.note("unverified", "the run did not inspect its output")
        self._judge_files(gate)
        try:
            self.report()
        except U2SError as error:
            gate.note("counts", str(error))
        kept = {name: self.features[name] for name in self.kept if name in self.features}
        try:
            holds_name = None if self._text_check is None else self._text_check.holds_name
            check_kept(kept, self._public_values, self._allow, self._names_checked, holds_name)
        except SetupError as error:
            gate.note("kept", str(error))

    @property
    def _names_checked(self) -> bool:
        """Whether a recognizer of names reads the kept texts, or did so in the run, as its private manifest says."""
        return self._text_check is not None or bool(self.folder.manifest["configuration"].get("text_check"))

    @property
    def names_not_checked(self) -> list[str]:
        """Kept columns with texts in which nobody looked for names."""
        return unchecked_texts({n: f for n, f in self.features.items() if n in self.kept}, self._names_checked)

    def _public_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of every public row."""
        for batch in self.folder.public_batches(names):
            yield from batch.to_pylist()

    def _judge_files(self, gate: PublishGate) -> None:
        shards, layout, data = self.folder.shards, self.folder.layout, self.folder.layout.data
        for shard in shards:  # what is not known of the originals is not looked for in what leaves: both halves count
            for half, digest in shard.sha256.items():
                if sha256(layout.shard(half, shard.number)) != digest:
                    place = shard_place(half, shard.number)
                    gate.note("changed", f"{place} was changed after the run wrote it, or is missing")
        listed = {shard_name(shard.number) for shard in shards if "public" in shard.sha256}
        kept = self.folder.manifest["configuration"]["kept_columns"]
        for path in sorted(data.iterdir()) if data.is_dir() else ():
            if path.name not in listed or not SHARD.fullmatch(path.name) or not path.is_file():
                gate.note("changed", "data/ holds a file that the run did not write")
                continue
            for name in pq.read_schema(path).names:
                if name not in c.PUBLIC and name not in kept:
                    gate.note("column", f"data/{path.name} has the column {name!r}, which nobody named")

    def candidates(self) -> Iterator[Candidate]:
        """Every row of the source, in its order; then rows in `data/` that no row of the source stands for."""
        decisions = self.folder.decisions()
        for row in self.folder.rows():
            yield self._candidate(row, decisions) if row.private else Candidate(self._leaving(row), c.WITHHELD)

    def _leaving(self, row: StoredRow) -> dict[str, Any]:
        public = {name: value for name, value in row.public.items() if name in self.features}
        if self._text_check is None or not public:
            return public
        judged = KeptColumns(self.features, self._allow, self._text_check.holds_name)
        kept, emptied = judged.judge({name: public[name] for name in self.kept if name in public})
        self.kept_emptied.update(emptied)
        return public | kept

    def _candidate(self, row: StoredRow, decisions: Mapping[str, Mapping[str, Any]]) -> Candidate:
        private, public = row.private, self._leaving(row)
        status = private[c.STATUS] if not public or public.get(c.STATUS) == private[c.STATUS] else c.WITHHELD
        if public:
            public |= {name: rounded(private.get(name)) for name in self.scores}
        item = row.item or Item(private[c.SOURCE], None)
        return Candidate(
            public=public,
            status=status,
            flagged=private.get(c.PRIVACY_FLAG) is not False,
            review=private.get(c.PRIVACY_REVIEW) or (),
            caption=caption_of(private, public),
            classes=classes_of(public, self.features),
            names=item.own_names(),
            seed=private.get(c.SEED),
            scores={name: private.get(name) for name in c.SCORE},
            decision=decisions.get(private[c.ROW_ID], {}).get(c.REVIEW_DECISION, private.get(c.REVIEW_DECISION)),
            original=item.image,
        )

    def judge_rows(self, gate: PublishGate) -> None:
        """Nothing shows only once every row was read."""

    def secrets(self) -> list[str]:
        """Words that may stand nowhere in what leaves, beside those of the rows."""
        known, own = Path(self.folder.manifest["source"]), str(self.folder.layout.root.resolve())
        return [str(known), own] if known.is_absolute() else [own]
