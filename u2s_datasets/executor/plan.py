"""One run from its source to its shards: what it belongs to, what is left to do, what `run.json` says of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.executor.local import Workers, chunks_of, default_number, give_back_memory
from u2s_datasets.executor.pipeline import Pipeline, parts_of
from u2s_datasets.parts import Part
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.runs.manifest import Shard
from u2s_datasets.runs.writer import Output
from u2s_datasets.sources.open import Item, Source
from u2s_datasets.stages.profiles import Profile

if TYPE_CHECKING:
    from u2s_datasets.executor.ray import RayPools

_VERSIONS = ("u2s_datasets", "datasets", "numpy", "onnxruntime", "openvino", "pillow", "pyarrow", "rapidocr")


@dataclass
class RunPlan:
    """What is to be done, and how far it is.

    Args:
        source, profile: what is read and what is done.
        rows: of the source, the first ones.
        shard_size: source rows per shard.
        num_proc: worker processes; None for the default number.
        split, image_column: what is read of the source.
        engine: Ray, where it drives the run.
    """

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

    def work(self, output: Output, shards: list[Shard], secret: bytes, progress: bool) -> dict[str, Any]:
        """Do the shards that are not done."""
        from tqdm import tqdm

        done = {shard.number for shard in shards}
        todo = [n for n in range(-(-self.rows // self.shard_size)) if n not in done]
        ready = sum(shard.rows for shard in shards)
        if todo:
            output.withdraw()
        pipeline = Pipeline(self.profile, secret, self.source.kept)
        workers = self.num_proc or default_number(self.on_gpu())
        start, first, writing = time.monotonic(), None, 0.0
        # This imports `datasets`, which takes seconds: now, and not at the first shard, from the workers.
        columns.features(columns.PUBLIC)
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
            stages = rates.facts()
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
