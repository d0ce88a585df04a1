"""The folder of a finished run as a split to publish: its public rows, judged beside its private ones."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.publish.audit import read_audit
from u2s_datasets.publish.candidate import DECISION, DECISIONS_FILE, Candidate, caption_of, classes_of, rounded
from u2s_datasets.publish.gate import Gate
from u2s_datasets.sources.base import Item, Source

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

    from u2s_datasets.evaluation.report.report import Report

_FILE = re.compile(r"part-\d{5,}\.parquet")


class RunSplit:
    """A run's folder.

    Args:
        folder: output of `u2s anonymize`.
        keep: which of the run's kept columns leave, and which scores, rounded; none means all columns and no score.

    Raises:
        SetupError: it holds no finished run, or not these kept columns.
    """

    def __init__(self, folder: Path, keep: Sequence[str] | None = None) -> None:
        self.folder = folder
        try:
            self.run = json.loads((folder / "run.json").read_text("utf-8"))
            self.manifest = json.loads((folder / "private" / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SetupError(
                f"{str(folder)!r} holds no finished run; finish it with `u2s anonymize`, or give a dataset"
            ) from error
        there = list(self.manifest["configuration"]["kept_columns"])
        self.kept = there if keep is None else [name for name in keep if name not in c.SCORE]
        self.scores = [name for name in keep or () if name in c.SCORE]
        for name in self.kept:
            if name not in there:
                raise SetupError(
                    f"keep={name!r} was not kept by the run, which kept {there}; run it with --keep {name}"
                )
        self.rows: int | None = self.run["rows"]
        self.audit = read_audit(folder / "private" / "audit.json")

    @property
    def work(self) -> Path:
        """Where the build may lie: nobody else looks there."""
        return self.folder / "private"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep runs from writing into the folder meanwhile. Raises `SetupError` where one does."""
        path = self.folder / "private" / "lock"
        if not path.exists():  # a copy of a run has none
            yield
            return
        with path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SetupError(f"a run is writing into {str(self.folder)!r}; wait for it") from error
            yield

    @cached_property
    def features(self) -> Features:
        """The typed columns that leave."""
        from datasets import Features, Value

        features = c.features(c.PUBLIC)
        stored = self._stored
        if stored is not None:
            theirs = Features.from_arrow_schema(stored)
            features.update({name: theirs[name] for name in self.kept if name in theirs})
        features.update({name: Value("float64") for name in self.scores})
        return features

    @cached_property
    def _stored(self) -> Any:
        import pyarrow.parquet as pq

        files = sorted((self.folder / "data").glob("*.parquet"))
        return pq.read_schema(files[0]) if files else None

    def report(self) -> Report:
        """The run's numbers. Raises `U2SError` where its files disagree."""
        from u2s_datasets.evaluation.report.report import report

        return report(self.folder)

    def judge(self, gate: Gate) -> None:
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
            check_kept(kept, self._public_values, [name for name in gate.allow if name in self.kept])
        except SetupError as error:
            gate.note("kept", str(error))

    def _public_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of every public row."""
        for path in sorted((self.folder / "data").glob("*.parquet")):
            yield from self._table(path, list(names)).to_pylist()

    def _judge_files(self, gate: Gate) -> None:
        import pyarrow.parquet as pq

        halves = {f"part-{s['shard']:05d}.parquet": s["sha256"] for s in self.manifest["shards"]}
        for name, digests in halves.items():  # what is not known of the originals is not looked for in what leaves
            if _sha256(self.folder / "private" / "rows" / name) != digests.get("private"):
                gate.note("changed", f"private/rows/{name} was changed after the run wrote it, or is missing")
        listed = {name: digests["public"] for name, digests in halves.items() if "public" in digests}
        data = self.folder / "data"
        for path in sorted(data.iterdir()) if data.is_dir() else ():
            if path.name not in listed or not _FILE.fullmatch(path.name) or not path.is_file():
                gate.note("changed", "data/ holds a file that the run did not write")
                continue
            if _sha256(path) != listed.pop(path.name):
                gate.note("changed", f"data/{path.name} was changed after the run wrote it")
            for name in pq.read_schema(path).names:
                if name not in c.PUBLIC and name not in self.manifest["configuration"]["kept_columns"]:
                    gate.note("column", f"data/{path.name} has the column {name!r}, which nobody named")
        for name in listed:
            gate.note("changed", f"data/{name} is missing")

    def candidates(self) -> Iterator[Candidate]:
        """Every row of the source, in its order; then rows in `data/` that no row of the source stands for."""
        source, position = self._source(), 0
        for shard in self.manifest["shards"]:
            name = f"part-{shard['shard']:05d}.parquet"
            private = self._table(self.folder / "private" / "rows" / name, None).to_pylist()
            table = self._table(self.folder / "data" / name, list(self.features))
            ids = table.column(c.ROW_ID).to_pylist() if len(table) else []
            public = dict(zip(ids, range(len(ids)), strict=True))
            items = iter(()) if source is None else source.read(position, position + len(private))
            for row in private:
                at = public.pop(row[c.ROW_ID], None)
                yield self._candidate(row, {} if at is None else _row(table, at), next(items, None))
            for at in public.values():
                yield Candidate(_row(table, at), c.WITHHELD)
            position += len(private)

    def _table(self, path: Path, names: list[str] | None) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not path.exists():
            return pa.table({})
        try:
            with pq.ParquetFile(path) as file:
                there = file.schema_arrow.names
                return file.read(columns=None if names is None else [n for n in names if n in there])
        except (pa.ArrowInvalid, OSError) as error:
            raise U2SError(f"{path.name} cannot be read; run the same `u2s anonymize` again") from error

    def _candidate(self, row: Mapping[str, Any], public: Mapping[str, Any], item: Item | None) -> Candidate:
        status = row[c.STATUS] if not public or public.get(c.STATUS) == row[c.STATUS] else c.WITHHELD
        if item is not None and item.source != row[c.SOURCE]:
            item = None
        if public:
            public = {**public, **{name: rounded(row.get(name)) for name in self.scores}}
        return Candidate(
            public=public,
            status=status,
            flagged=row.get(c.PRIVACY_FLAG) is not False,
            review=row.get(c.PRIVACY_REVIEW) or (),
            caption=caption_of(row, public),
            classes=classes_of(public, self.features),
            names=(item or Item(row[c.SOURCE], None)).own_names(),
            source=row[c.SOURCE],
            seed=row.get(c.SEED),
            scores={name: row.get(name) for name in c.SCORE},
            decision=self._decisions.get(row[c.ROW_ID], {}).get(DECISION, row.get(DECISION)),
            original=None if item is None else item.image,
        )

    @cached_property
    def _decisions(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "private" / DECISIONS_FILE
        try:
            return json.loads(path.read_text("utf-8")) if path.exists() else {}
        except ValueError as error:
            raise SetupError(f"{str(path)!r} is no JSON; mend it, or review again") from error

    def _source(self) -> Source | None:
        """The run's source, where it is still what the run read."""
        from u2s_datasets.sources.open import open_source

        known = self.manifest
        if known["source_kind"] != "dataset" and not Path(known["source"]).exists():
            return None
        names = known["configuration"]["kept_columns"]
        try:
            source = open_source(
                known["source"], image_column=known["image_column"], split=known["split"], keep=names, allow=names
            )
        except (SetupError, OSError):
            return None
        return source if source.fingerprint() == known["source_content"] else None

    def judge_rows(self, gate: Gate) -> None:
        """Nothing shows only once every row was read."""

    def secrets(self) -> list[str]:
        """Words that may stand nowhere in what leaves, beside those of the rows."""
        known = Path(self.manifest["source"])
        return [str(known), str(self.folder.resolve())] if known.is_absolute() else [str(self.folder.resolve())]


def _sha256(path: Path) -> str:
    """The file's digest; "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row(table: pa.Table, at: int) -> dict[str, Any]:
    """One row; the images of a shard do not all become Python objects."""
    return table.slice(at, 1).to_pylist()[0]
