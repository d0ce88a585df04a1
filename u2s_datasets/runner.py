"""The whole job on one machine: a source in, a folder of safe shards out, resumable at any moment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.criteria import Given
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.output import Output, check_apart
from u2s_datasets.parts import Editor, Part, code_digest
from u2s_datasets.pipeline import Pipeline, parts_of
from u2s_datasets.profiles import Profile, profile
from u2s_datasets.roles import Backends
from u2s_datasets.sources import Item, Source, open_source
from u2s_datasets.store_output import output_at
from u2s_datasets.workers import Workers, chunks_of, default_number, give_back_memory

if TYPE_CHECKING:
    from PIL.Image import Image

    from u2s_datasets.pools import Pool
    from u2s_datasets.ray_runner import RayPools

_VERSIONS = ("u2s_datasets", "datasets", "numpy", "onnxruntime", "openvino", "pillow", "pyarrow", "rapidocr")


def run(
    src: str | Path,
    out: str | Path,
    *,
    profile_name: str = "cpu",
    detectors: Sequence[str] | None = None,
    editor: str | Editor | None = None,
    editor_options: Mapping[str, Any] | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    criteria: Given | None = None,
    threshold: float | None = None,
    method: str | None = None,
    groups: tuple[str, ...] | str | None = None,
    seed: int = 0,
    format: str = "auto",
    verify: bool = True,
    prior: str = columns.EDIT_CAPTION,
    label_column: str | None = None,
    split: str | None = None,
    image_column: str | None = None,
    keep: Sequence[str] = (),
    allow: Sequence[str] = (),
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
        out: the output folder, see `output.py` for what lies where; or "s3://bucket/folder" or another address of
            an object store, see `store_output.py`.
        profile_name, detectors, editor, editor_options, backend, models, small, dtype, device, criteria, threshold,
            method, groups, seed, format, verify, prior, label_column: what is done; see `profiles.build` and
            `Anonymize`. The label column is one of those in `keep`.
        split, image_column, keep, allow: what is read; see `sources.open_source`.
        secret: file with the key of the row ids; without it one is made and kept in `private/`.
        limit: at most so many rows, the first ones.
        shard_size: source rows per shard.
        num_proc: worker processes; where none, one per core, as far as the memory goes, or with models one per GPU.
            1 works in this process: a row that crashes the interpreter ends the run.
        ray: whether Ray drives the run; with it, `num_proc` is the workers of every stage.
        ray_address: of a running Ray cluster, such as "10.0.0.1:6379"; None starts Ray on this machine for the run.
        pools: workers by stage, for Ray; see `pools.Pool`.
        dry_run: look at everything and write nothing.
        progress: show a progress bar on standard error.

    Returns:
        What `run.json` holds: counts, reasons, configuration, versions, rates.

    Raises:
        SetupError: before the first row, naming the value and the remedy.
    """
    _check_numbers(limit=limit, shard_size=shard_size, num_proc=num_proc)
    engine = _engine(ray, ray_address, pools, num_proc)
    made = output_at(out)
    chosen = profile(
        profile_name,
        detectors=detectors,
        editor=editor,
        editor_options=editor_options,
        backend=backend,
        models=models,
        small=small,
        dtype=dtype,
        device=device,
        criteria=criteria,
        threshold=threshold,
        method=method,
        groups=groups,
        seed=seed,
        format=format,
        verify=verify,
        prior=prior,
        label_column=label_column,
    )
    check_apart(Path(str(src)).expanduser(), made.root)
    source = open_source(str(src), split=split, image_column=image_column, keep=keep, allow=allow)
    _check_read(source, chosen)
    chosen = chosen.with_engine("openvino", threads=1)
    rows = min(len(source), limit or len(source))
    plan = _Run(source, chosen, rows, shard_size, num_proc, split, image_column, engine)
    if dry_run:
        return {**plan.facts(), "dry_run": True}
    with made as output:
        key = output.secret(Path(secret).expanduser() if secret else None)
        shards = output.manifest(plan.binding(key))
        rates = plan.work(output, shards, key, progress)
        facts = {**plan.facts(), **counts(shards, plan.rows), "rates": rates}
        _finish(output, source, facts)
    return facts


@dataclass
class _Run:
    source: Source
    profile: Profile
    rows: int
    shard_size: int
    num_proc: int | None
    split: str | None = None
    image_column: str | None = None
    engine: RayPools | None = None

    def parts(self) -> list[Part]:
        """Every part of the profile."""
        return [part for step in (self.profile.anonymize, self.profile.score) for part in parts_of(step)]

    def on_gpu(self) -> bool:
        """Whether it loads models that want a GPU."""
        return any(part.on_gpu for part in self.parts())

    def versions(self) -> dict[str, str]:
        """Versions of what shapes the rows."""
        return {
            name: importlib.metadata.version(name) for part in self.parts() for name in part.libraries
        } | _versions()

    def configuration(self) -> dict[str, Any]:
        """What shaped the rows, in plain values for anyone: nothing here names a source or holds a seed."""
        return {
            "profile": self.profile.name,
            "anonymize": _without_seeds(self.profile.anonymize.config()),
            "gate": None if self.profile.gate is None else self.profile.gate.config(),
            "kept_columns": list(self.source.kept),
            "shard_size": self.shard_size,
            "code": code_digest(),
        }

    def binding(self, secret: bytes) -> dict[str, Any]:
        """What an output folder belongs to. Private: the whole configuration, texts and seeds included."""
        return {
            "source": _absolute(self.source.location),
            "source_kind": self.source.kind,
            "split": self.split,
            "image_column": self.image_column,
            "source_content": self.source.fingerprint(),
            "rows": self.rows,
            "configuration": {**self.configuration(), **self._private_configuration()},
            "versions": self.versions(),
            "secret": hashlib.sha256(b"u2s" + secret).hexdigest(),
        }

    def _private_configuration(self) -> dict[str, Any]:
        steps = (self.profile.anonymize, self.profile.score)
        modules = {type(part).__module__ for part in self.parts()}
        weights = {part.__getstate__().get("weights", "") for part in self.parts()}
        return {
            "seed": self.profile.anonymize.seed,
            "parts": [re.sub(r" at 0x[0-9a-f]+", "", repr(step)) for step in steps],
            "weights": sorted(weights - {""}),
            "foreign_code": sorted(code_digest(m) for m in modules if not m.startswith("u2s_datasets.")),
        }

    def work(self, output: Output, shards: list[dict], secret: bytes, progress: bool) -> dict[str, Any]:
        """Do the shards that are not done."""
        from tqdm import tqdm

        done = {shard["shard"] for shard in shards}
        todo = [n for n in range(-(-self.rows // self.shard_size)) if n not in done]
        ready = sum(shard["rows"] for shard in shards)
        if todo:
            output.withdraw()
        pipeline = Pipeline(self.profile, secret, self.source.kept)
        workers = self.num_proc or default_number(self.on_gpu())
        start, first, writing = time.monotonic(), None, 0.0
        with tqdm(total=self.rows, initial=ready, unit="img", disable=not progress, smoothing=0.05) as bar:
            collected: dict[int, list[dict]] = {n: [] for n in todo}
            for number, answers in self._answers(pipeline, todo, min(workers, max(1, self.rows - ready))):
                first = first or time.monotonic()
                collected[number] += answers
                bar.update(len(answers))
                if len(collected[number]) == self._length(number):
                    began = time.monotonic()
                    output.add_shard(shards, number, collected.pop(number), self.source.kept)
                    writing += time.monotonic() - began
                    give_back_memory()
        seconds = time.monotonic() - start
        stages: dict[str, Any] = {}
        if self.engine is not None:
            rates = self.engine.rates
            workers = int(sum(number for name, number in rates.workers.items() if name != "read"))
            rates.workers["write"] = 1
            rates.add({"write": writing}, self.rows - ready)
            stages = rates.facts(start + seconds - (first or start))
        return {
            "rows": self.rows - ready,
            "seconds": round(seconds, 3),
            "rows_per_second": round((self.rows - ready) / seconds, 3) if self.rows > ready else None,
            "seconds_to_first_rows": round(first - start, 3) if first else None,
            "workers": workers,
            **stages,
        }

    def _answers(
        self, pipeline: Pipeline, shards: Sequence[int], workers: int
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, its next rows) from whatever drives the run."""
        if self.engine is not None:
            starts = [(n, n * self.shard_size) for n in shards]
            return self.engine.map(pipeline, self.source, [(n, s, s + self._length(n)) for n, s in starts])
        pool: Workers = Workers(pipeline, pipeline.dead, workers, here=self.num_proc == 1)
        return pool.map(self._chunks(shards))

    def _length(self, number: int) -> int:
        return min(self.shard_size, self.rows - number * self.shard_size)

    def _chunks(self, shards: Sequence[int]) -> Iterator[tuple[int, list[Item]]]:
        for number in shards:
            start = number * self.shard_size
            items = self.source.read(start, start + self._length(number))
            chunks = chunks_of(items, lambda item: _stored_bytes(item.image), self.on_gpu())
            yield from ((number, chunk) for chunk in chunks)

    def facts(self) -> dict[str, Any]:
        """What can be said before any row is done."""
        inspected, left = self.profile.inspect.scope()
        return {
            "rows": self.rows,
            "skipped": self.source.skipped,
            "verified": self.profile.anonymize.verify,
            "profile": self.profile.name,
            "inspected_criteria": inspected,
            "not_inspected": left,
            "source_kind": self.source.kind,
            "configuration": self.configuration(),
            "versions": self.versions(),
        }


def _engine(ray: bool, address: str | None, pools: Mapping[str, Pool] | None, size: int | None) -> RayPools | None:
    if ray:
        from u2s_datasets.ray_runner import RayPools

        return RayPools(address, pools, size)
    if address is not None or pools is not None:
        raise SetupError(f"ray_address={address!r} and pools={pools!r} are for ray=True (--ray); say that too")
    return None


def counts(shards: Sequence[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Counts over the finished shards. Raises `U2SError` where a row is missing (law 2)."""
    by_status = {status: sum(shard[status] for shard in shards) for status in columns.STATUSES}
    if sum(by_status.values()) != rows:
        raise U2SError(f"{rows} rows went in and {by_status} came out; the output cannot be trusted")
    reasons: Counter[str] = Counter()
    for shard in shards:
        reasons.update(shard["reasons"])
    stopped = sum(shard["kept_texts_withheld"] for shard in shards)
    return {**by_status, "reasons": dict(sorted(reasons.items())), "kept_texts_withheld": stopped}


def _finish(output: Output, source: Source, facts: dict[str, Any]) -> None:
    from u2s_datasets.metrics.report import write_reports

    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    output.write(output.root / "run.json", text.encode("utf-8", "backslashreplace"))
    output.gather()
    try:
        write_reports(output.root, original=source.original)  # it counts the rows once more, in the files themselves
    except U2SError:
        output.withdraw()
        raise
    output.publish()


def rewrite_reports(out: str | Path) -> None:
    """Write both pages of a finished run again; originals are shown where the source is still in its place.

    Raises:
        SetupError: the folder holds no finished run.
    """
    from u2s_datasets.metrics.report import write_reports

    root = Path(out).expanduser()
    original = originals_of(root)
    with Output(root) as output:
        write_reports(output.root, original=original)


def originals_of(root: Path) -> Callable[[str], Image | None] | None:
    """Gives the originals of a finished run; none where its source is not in its place any more.

    Raises:
        SetupError: the folder holds no finished run.
    """
    manifest = root / "private" / "manifest.json"
    if not manifest.exists() or not (root / "run.json").exists():
        raise SetupError(f"{str(root)!r} holds no finished run; finish it with the same `u2s anonymize` call")
    return _original(json.loads(manifest.read_text("utf-8")))


def _original(known: dict[str, Any]) -> Callable[[str], Image | None] | None:
    """Gives the originals of a manifest's run; none where its source is not in its place.

    Only a dataset that came from the Hub is looked for there: the name of a folder is nobody else's business.
    """
    if known["source_kind"] != "dataset" and not Path(known["source"]).exists():
        return None
    try:
        source = open_source(known["source"], image_column=known["image_column"], split=known["split"])
    except (SetupError, OSError):
        return None
    return source.original if source.kind == known["source_kind"] else None


def _absolute(location: str) -> str:
    """A local source's own name, wherever it is called from; a Hub dataset's id as it is."""
    path = Path(location).expanduser()
    return str(path.resolve()) if path.exists() else location


def _without_seeds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_seeds(v) for k, v in value.items() if k != "seed"}
    return [_without_seeds(v) for v in value] if isinstance(value, list) else value


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _VERSIONS}


def _stored_bytes(image: Any) -> int:
    """Encoded size of a stored image, for dividing the work; a value that is none counts as nothing."""
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return len(image)
    with suppress(OSError, ValueError):  # a string may be too long for a path, or hold a null
        return Path(image).stat().st_size if isinstance(image, str) else 0
    return 0


def _check_read(source: Source, chosen: Profile) -> None:
    """Raise `SetupError` where a column that a step is to read is not among those that are read."""
    for name in chosen.anonymize.required():
        if source.kind == "folder":
            raise SetupError(
                f"label_column={name!r} is read from a dataset or parquet alone: what a folder is called is no class"
            )
        if name not in source.kept:
            raise SetupError(f"label_column={name!r} is no kept column; name it in --keep as well")


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise SetupError(f"{name}={value} is below 1; give a whole number of 1 or more")
