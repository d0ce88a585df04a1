"""The whole job: a source in, a folder of safe shards and reports out, resumable at any moment.

`RunPlan` is one run: what its output is bound to, what is left to do, what `run.json` says of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.executor import trial
from u2s_datasets.executor.local import Workers, chunks_of, default_number, give_back_memory
from u2s_datasets.executor.options import ProfileOptions, RunOptions
from u2s_datasets.executor.ordering import RowRange
from u2s_datasets.executor.pipeline import Pipeline, parts_of
from u2s_datasets.executor.pools import Pool, complete_pools
from u2s_datasets.images.stored import stored_size
from u2s_datasets.parts import Editor, Part, TextCheck
from u2s_datasets.parts.docstrings import documented_by
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.parts.metrics.encoders import MetricNetwork
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.text_checks import make_text_check
from u2s_datasets.privacy.criteria import CriteriaLike
from u2s_datasets.privacy.kept_columns import unchecked_texts
from u2s_datasets.runs.manifest import Shard, count_rows
from u2s_datasets.runs.object_store import output_at
from u2s_datasets.runs.writer import Output, check_apart
from u2s_datasets.sources.base import Item, Source
from u2s_datasets.sources.open import open_source
from u2s_datasets.stages import profiles
from u2s_datasets.stages.changes import Backends
from u2s_datasets.stages.profiles import Profile

if TYPE_CHECKING:
    from ray.data import Dataset

    from u2s_datasets.executor.ray import RayPools

_LIBRARIES = ("u2s_datasets", "datasets", "numpy", "onnxruntime", "openvino", "pillow", "pyarrow", "rapidocr")
"""What shapes the rows of every run; a profile's parts add their own."""


@documented_by(RunOptions)
def run(
    src: str | Path,
    out: str | Path,
    *,
    profile_name: str = "cpu",
    detectors: Sequence[str] | None = None,
    detector_options: Mapping[str, Mapping[str, Any]] | None = None,
    editor: str | Editor | None = None,
    editor_options: Mapping[str, Any] | None = None,
    identity: str | FaceEncoder | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    criteria: CriteriaLike | None = None,
    threshold: float | None = None,
    method: str | None = None,
    groups: tuple[str, ...] | str | None = None,
    scores: Mapping[str, str | MetricNetwork] | None = None,
    above: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    seed: int = 0,
    format: str = "auto",
    verify: bool = True,
    prior: str = columns.EDIT_CAPTION,
    label_column: str | None = None,
    split: str | None = None,
    image_column: str | None = None,
    keep: Sequence[str] = (),
    allow: Sequence[str] = (),
    text_check: str | TextCheck | None = None,
    text_check_options: Mapping[str, Any] | None = None,
    secret: str | Path | None = None,
    limit: int | None = None,
    shard_size: int = 256,
    num_proc: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    pools: Mapping[str, Pool] | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Anonymize a source into a folder; continue where an earlier call with the same arguments was stopped.

    Rows that were withheld stay withheld when a call is repeated, also those that killed their process.

    Args:
        src: a folder of images, parquet, tar shards, a saved dataset, or a Hub dataset id "ORG/NAME"; see
            `sources.open_source`.
        out: the output folder, see `runs/layout.py` for its files; or "s3://bucket/folder" or another address of an
            object store, see `runs/object_store.py`.
        {options}

    Returns:
        What `run.json` holds: counts, reasons, configuration, versions, rates.

    Raises:
        SetupError: before the first row, naming the value and the remedy.
    """
    given = {name: value for name, value in locals().items() if name not in ("src", "out")}
    return _run(src, out, RunOptions(**given))  # a test compares its fields with the arguments here


def _run(src: str | Path, out: str | Path, options: RunOptions) -> dict[str, Any]:
    opened, plan = _prepare(src, out, options)
    if options.dry_run:
        return {**plan.summary(), "dry_run": True}
    with opened as output:
        key = output.secret(Path(options.secret).expanduser() if options.secret else None)
        shards = output.resume(plan.binding(key))
        rates = plan.work(output, shards, key)
        summary = {**plan.summary(), **count_rows(shards, plan.rows), "rates": rates}
        _finish(output, plan.source, shards, summary)
    return summary


def try_out(src: str | Path, out: str | Path, options: RunOptions) -> trial.Trial:
    """What would become of a sample of the source; nothing is written. Arguments and errors are those of `run`."""
    _, plan = _prepare(src, out, options)
    number = min(plan.rows, trial.SAMPLE)
    rows = [plan.rows * i // number for i in range(number)]
    items = [item for row in rows for item in plan.source.read(row, row + 1)]
    return trial.try_out(plan.summary(), plan.pipeline(b""), items, here=options.num_proc == 1)


def _prepare(src: str | Path, out: str | Path, options: RunOptions) -> tuple[Output, RunPlan]:
    """The output, not yet entered, and what is to be done; everything that can be checked is."""
    if options.ray:
        from u2s_datasets.executor.ray import RayPools  # before anything else: without the extra, there is no run
    opened = output_at(out)
    steps = {field.name: getattr(options, field.name) for field in dataclasses.fields(ProfileOptions)}
    chosen = profiles.profile(steps.pop("profile_name"), **steps)
    engine = None
    if options.ray:
        engine = RayPools(options.ray_address, complete_pools(chosen, options.pools, options.num_proc))
    check_apart(src, out)
    text_check = make_text_check(options.text_check, options.text_check_options)
    source = open_source(
        str(src),
        split=options.split,
        image_column=options.image_column,
        keep=options.keep,
        allow=options.allow,
        holds_name=None if text_check is None else text_check.holds_name,
    )
    _check_required(source, chosen)
    return opened, RunPlan(source, chosen.with_engine("openvino", threads=1), options, engine, text_check)


def _check_required(source: Source, chosen: Profile) -> None:
    """Raise `SetupError` if a column that a step has to read is not among those that are read."""
    for name in chosen.anonymize.required():
        if source.kind == "folder":
            raise SetupError(
                f"label_column={name!r} cannot be read from a folder, since a folder's name is not a class; "
                "use parquet or a dataset with such a column"
            )
        if name not in source.kept:
            raise SetupError(f"label_column={name!r} is not a kept column; name it in --keep as well")


def _finish(output: Output, source: Source, shards: list[Shard], summary: dict[str, Any]) -> None:
    """Write `run.json` and the reports, or nothing that vouches for the run."""
    from u2s_datasets.evaluation.report.report import write_reports

    output.vouch(shards, summary)
    output.gather()
    try:
        write_reports(output, original=source.original)  # it counts the rows once more, in the files themselves
    except U2SError:
        output.withdraw()
        raise


@dataclass
class RunPlan:
    """What is to be done, and by whom.

    Args:
        source: what is read.
        profile: what is done with it.
        options: of the run.
        engine: Ray, if it drives the run.
        text_check: what looks for names in kept texts; None where nothing does.
    """

    source: Source
    profile: Profile
    options: RunOptions
    engine: RayPools | None = None
    text_check: TextCheck | None = None

    @cached_property
    def rows(self) -> int:
        """How many rows of the source are read, the first ones."""
        return min(len(self.source), self.options.limit or len(self.source))

    @cached_property
    def parts(self) -> list[Part]:
        """Every part of both steps, and what reads the kept texts."""
        checking = () if self.text_check is None else parts_of(self.text_check)
        return [*parts_of(self.profile.anonymize), *parts_of(self.profile.score), *checking]

    @cached_property
    def on_gpu(self) -> bool:
        """Whether a part wants a GPU."""
        return any(part.on_gpu for part in self.parts)

    @property
    def _allowed(self) -> list[str]:
        allow = self.options.allow
        return [allow] if isinstance(allow, str) else list(allow)

    def versions(self) -> dict[str, str]:
        """Versions of what shapes the rows."""
        names = [*(name for part in self.parts for name in part.libraries), *_LIBRARIES]
        return {name: importlib.metadata.version(name) for name in names}

    def configuration(self) -> dict[str, Any]:
        """What shaped the rows, in plain values for anyone: no source is named, and no seed."""
        return {
            "profile": self.profile.name,
            "anonymize": _without_seeds(self.profile.anonymize.config()),
            "gate": None if self.profile.gate is None else self.profile.gate.config(),
            "kept_columns": list(self.source.kept),
            "allowed_columns": sorted({*self._allowed}),
            "text_check": None if self.text_check is None else self.text_check.config(),
            "shard_size": self.options.shard_size,
            "code": code_digest(),
        }

    def binding(self, secret: bytes) -> dict[str, Any]:
        """What an output folder belongs to. Private: the whole configuration, texts and seeds included."""
        # A local source is known by its full path, from wherever it is named; a Hub dataset by its id.
        path = Path(self.source.location).expanduser()
        modules = {type(part).__module__ for part in self.parts}
        weights = {part.__getstate__().get("weights", "") for part in self.parts}
        # The text of a part holds every setting. An object without a text of its own shows its address, which changes.
        settings = [
            re.sub(r" at 0x[0-9a-f]+", "", repr(part))
            for part in (self.profile.anonymize, self.profile.score, self.text_check)
        ]
        private = {
            "seed": self.profile.anonymize.seed,
            "parts": settings[:2],
            "text_check_settings": settings[2],
            "weights": sorted(weights - {""}),
            "foreign_code": sorted(code_digest(m) for m in modules if not m.startswith("u2s_datasets.")),
        }
        return {
            "source": str(path.resolve()) if path.exists() else self.source.location,
            "source_kind": self.source.kind,
            "split": self.options.split,
            "image_column": self.options.image_column,
            "source_content": self.source.fingerprint(),
            "rows": self.rows,
            "configuration": {**self.configuration(), **private},
            "versions": self.versions(),
            "secret": hashlib.sha256(b"u2s" + secret).hexdigest(),
        }

    def summary(self) -> dict[str, Any]:
        """What is known before any row is done, as it stands in `run.json`."""
        inspected, not_inspected = self.profile.inspect.scope()
        return {
            "rows": self.rows,
            "skipped": self.source.skipped,
            "names_not_checked": unchecked_texts(self.source.kept, self._allowed, self.text_check is not None),
            "verified": self.profile.anonymize.verify,
            "profile": self.profile.name,
            "inspected_criteria": inspected,
            "not_inspected": not_inspected,
            "source_kind": self.source.kind,
            "configuration": self.configuration(),
            "versions": self.versions(),
        }

    def pipeline(self, secret: bytes) -> Pipeline:
        """What a worker does with its rows, whose ids are made with this key."""
        return Pipeline(self.profile, secret, self.source.kept, self._allowed, self.text_check)

    def work(self, output: Output, shards: list[Shard], secret: bytes) -> dict[str, Any]:
        """Do the shards that are missing, and add them to the finished ones. Returns how fast it went."""
        from tqdm import tqdm

        finished, size = {shard.number for shard in shards}, self.options.shard_size
        starts = enumerate(range(0, self.rows, size))
        ranges = {n: RowRange(n, first, min(first + size, self.rows)) for n, first in starts if n not in finished}
        left = self.rows - sum(shard.rows for shard in shards)
        if ranges:
            output.withdraw()
        pipeline = self.pipeline(secret)
        workers = self._workers(pipeline, left)
        began, first_rows, writing = time.monotonic(), None, 0.0
        # This imports `datasets`, which takes seconds: now, and not at the first shard, while the workers wait.
        columns.features(columns.PUBLIC)
        collected: dict[int, list[dict[str, Any]]] = {number: [] for number in ranges}
        disable = not self.options.progress
        with tqdm(total=self.rows, initial=self.rows - left, unit="img", disable=disable, smoothing=0.05) as bar:
            for number, rows in self._results(pipeline, list(ranges.values()), workers):
                first_rows = first_rows or time.monotonic()
                collected[number] += rows
                bar.update(len(rows))
                if len(collected[number]) == len(ranges[number]):
                    complete = time.monotonic()
                    output.add_shard(shards, number, collected.pop(number), self.source.kept)
                    writing += time.monotonic() - complete
                    give_back_memory()
        seconds = time.monotonic() - began
        rates = {
            "rows": left,
            "seconds": round(seconds, 3),
            "rows_per_second": round(left / seconds, 3) if left else None,
            "seconds_to_first_rows": round(first_rows - began, 3) if first_rows else None,
            "workers": workers.number,
        }
        return rates if self.engine is None else rates | self.engine.summary(writing, left)

    def _workers(self, pipeline: Pipeline, left: int) -> Workers[int, Item, dict[str, Any]]:
        """Worker processes, none of which is started yet, for as many rows as are left."""
        number = min(self.options.num_proc or default_number(self.on_gpu), max(1, left))
        return Workers(pipeline, pipeline.crashed, number, here=self.options.num_proc == 1)

    def _results(
        self, pipeline: Pipeline, ranges: Sequence[RowRange], workers: Workers[int, Item, dict[str, Any]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, its next rows), from whatever drives the run."""
        if self.engine is not None:
            return self.engine.map(pipeline, self.source, ranges)
        return workers.map(self._chunks(ranges))

    def _chunks(self, ranges: Sequence[RowRange]) -> Iterator[tuple[int, list[Item]]]:
        for rows in ranges:
            items = self.source.read(rows.start, rows.stop)
            for chunk in chunks_of(items, lambda item: stored_size(item.image), self.on_gpu):
                yield rows.shard, chunk


def _without_seeds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_seeds(v) for k, v in value.items() if k != "seed"}
    return [_without_seeds(v) for v in value] if isinstance(value, list) else value


def ray_anonymize(
    ray_dataset: Dataset, profile: Profile | None = None, *, pools: Mapping[str, Pool] | None = None
) -> Dataset:
    """A Ray dataset with the columns of all five steps; only its schema is read before its rows are.

    As with `Dataset.map`, the original stays beside its anonymized image: of what is here, publish the columns that
    `columns.PUBLIC` names, and no others. A row that killed the process which worked on it is withheld; rows that Ray
    itself leaves out, if its settings allow it to, are missing from the answer, so count them.

    Args:
        ray_dataset: rows with a column of images: encoded bytes, `{bytes, path}`, paths that every node can read, or
            tensors (H, W, 3) uint8.
        profile: the steps; None for the profile `cpu`.
        pools: workers by the names of `pools.pool_steps`, in place of the default ones.

    Raises:
        MissingExtra: Ray is not installed.
        SetupError: no such column or pool, or more workers than the cluster has room for.
    """
    from u2s_datasets.executor.ray import through_own_pools

    chosen = profile or profiles.profile()
    chosen.anonymize.check()
    names = ray_dataset.columns() or []
    for name in (chosen.anonymize.image_column, *chosen.anonymize.required()):
        if name not in names:
            raise SetupError(f"unknown column {name!r}; expected one of: {', '.join(names)}")
    pipeline = Pipeline(chosen.with_engine("openvino", threads=1), b"")
    return through_own_pools(ray_dataset, pipeline, complete_pools(chosen, pools))
