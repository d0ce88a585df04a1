"""The folder of a finished run as a split to publish: its public rows, judged beside its private ones."""

from __future__ import annotations

import dataclasses
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
from u2s_datasets.runs.layout import REVIEWS, SHARD, shard_name, shard_place
from u2s_datasets.runs.manifest import count_rows
from u2s_datasets.runs.reader import RunFolder, StoredRow
from u2s_datasets.runs.seal import bound_files, changed_files, content_digest, describe_change
from u2s_datasets.runs.writer import finish_change
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
        SetupError: it holds no finished run, or not these kept columns; its reviews or its audit are damaged.

    Attributes:
        available: the columns that the run kept.
        kept_emptied: kept column -> values that were emptied.
        is_bound: whether the manifest binds the run's facts, reviews, audits and scores.
        most_audited: how many rows an audit can have looked at, once all were read.
    """

    def __init__(
        self,
        folder: Path,
        keep: Sequence[str] | None = None,
        allow: Sequence[str] = (),
        text_check: TextCheck | None = None,
    ) -> None:
        finish_change(folder)
        self.folder = RunFolder(folder)
        self.is_bound = bound_files(self.folder.manifest) is not None
        self.run = self.folder.run
        kept = list(self.folder.manifest["configuration"]["kept_columns"])
        self.kept = kept if keep is None else [name for name in keep if name not in c.SCORE]
        self.scores = [name for name in keep or () if name in c.SCORE]
        self.available = kept
        for name in self.kept:
            if name not in kept:
                raise SetupError(f"keep={name!r} was not kept by the run, which kept {kept}; run it with --keep {name}")
        self.rows: int | None = self.run["rows"]
        self._allow, self._text_check = [name for name in allow if name in self.kept], text_check
        self.kept_emptied: Counter[str] = Counter(count_rows(self.folder.shards)["kept_emptied"])
        self.audit = read_audit(self.folder.layout.audit)
        self.most_audited = 0
        self._decisions = self.folder.decisions()
        self._ids: set[str] = set()
        self._wrong: set[str] = set()
        self._stamps: dict[Path, tuple[int, ...]] = {}

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
        """The run's numbers; what nothing binds to its rows is left out. Raises `U2SError` if its files disagree."""
        return self._report

    @cached_property
    def _report(self) -> Report:
        from u2s_datasets.evaluation.report.report import count

        made = count(self.folder.layout.root)
        return made if self.is_bound else dataclasses.replace(made, run={}, beyond={})

    def held(self) -> AbstractContextManager[None]:
        """Keep runs from writing into the folder meanwhile. Raises `SetupError` if one does."""
        return self.folder.held()

    def judge(self, gate: PublishGate) -> None:
        """Note what is wrong with the folder as a whole."""
        if not self.is_bound:
            gate.note("unbound", "nothing tells whether its facts, reviews and audits are as they were written")
        self._judge_bound(gate)
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
        kept = {name: feature for name, feature in self.features.items() if name in self.kept}
        return unchecked_texts(kept, self._allow, self._names_checked)

    def _public_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of every public row."""
        for batch in self.folder.public_batches(names):
            yield from batch.to_pylist()

    def _judge_bound(self, gate: PublishGate) -> None:
        """Note the files beside the shards that are not those that were written; what was read of them counts, too."""
        root, manifest = self.folder.layout.root, self.folder.manifest
        files = bound_files(manifest) or {}
        wrong = dict.fromkeys(changed_files(root, manifest))
        for name, content in (("run.json", self.run), (REVIEWS, self._decisions)):
            if self.is_bound and content_digest(name, content) != files.get(name, content_digest(name, {})):
                wrong[name] = None
        for name in (name for name in wrong if name not in self._wrong):
            gate.note("changed", f"{name} {describe_change(root, name)}")
        self._wrong |= wrong.keys()

    def _judge_files(self, gate: PublishGate) -> None:
        shards, layout, data = self.folder.shards, self.folder.layout, self.folder.layout.data
        for shard in shards:  # what is not known of the originals is not looked for in what leaves: both halves count
            for half, digest in shard.sha256.items():
                self._stamps[layout.shard(half, shard.number)] = _stamp(layout.shard(half, shard.number))
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
        for row in self.folder.rows():
            self._ids.update([row.private[c.ROW_ID]] if row.private else ())
            yield self._candidate(row) if row.private else Candidate(self._leaving(row), c.WITHHELD)

    def _leaving(self, row: StoredRow) -> dict[str, Any]:
        public = {name: value for name, value in row.public.items() if name in self.features}
        if self._text_check is None or not public:
            return public
        judged = KeptColumns(self.features, self._allow, self._text_check.holds_name)
        kept, emptied = judged.judge({name: public[name] for name in self.kept if name in public})
        self.kept_emptied.update(emptied)
        return public | kept

    def _candidate(self, row: StoredRow) -> Candidate:
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
            decision=self._decisions.get(private[c.ROW_ID], {}).get(c.REVIEW_DECISION, private.get(c.REVIEW_DECISION)),
            original=item.image,
            is_bound=True,
        )

    def judge_rows(self, gate: PublishGate) -> None:
        """Note what shows only once every row was read: an audit of other rows, and files that changed meanwhile."""
        self.most_audited = gate.seen
        if self.audit is not None and not (self.audit.drawn and self._ids.issuperset(self.audit.drawn)):
            gate.note("audit", "the audit does not say which rows were drawn, or they are not of this run")
        self._judge_bound(gate)
        for path, stamp in self._stamps.items():
            if _stamp(path) != stamp:
                gate.note("changed", f"{path.relative_to(self.folder.layout.root)} was changed while it was read")

    def secrets(self) -> list[str]:
        """Words that may stand nowhere in what leaves, beside those of the rows."""
        known, own = Path(self.folder.manifest["source"]), str(self.folder.layout.root.resolve())
        return [str(known), own] if known.is_absolute() else [own]


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file, as far as the file system tells."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
