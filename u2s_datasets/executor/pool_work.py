"""The stages as pools that run beside each other: which arrows share a pool, and what one worker of it does.

Arrows share a pool where they share what is expensive. Without models that is the decoded picture, so one pool
"pipeline" does everything: a pool of its own for every arrow would decode each photo three times. With models it is
the loaded model: "inspect" looks and captions with the vision-language model, "instruct" writes with the language
model, "anonymize" edits, looks again and scores, on pixels that are not encoded yet. Between pools travel the stored
bytes of an image and what is known of it, never its pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets.errors import RowError
from u2s_datasets.executor.local import Workers, chunks_of
from u2s_datasets.executor.pipeline import Pipeline, parts_of
from u2s_datasets.images.stored import stored_size
from u2s_datasets.parts import Detection, Part
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.profiles import Profile

PIPELINE, INSPECT, INSTRUCT, ANONYMIZE = "pipeline", "inspect", "instruct", "anonymize"


def pool_names(profile: Profile) -> tuple[str, ...]:
    """The pools of a profile, in the order in which rows go through them."""
    seeing = [b for b in (profile.inspect.backend, profile.caption.backend) if b is not None]
    writing = profile.instruct.backend
    if not seeing and writing is None:
        return (PIPELINE,)
    apart = writing is not None and writing not in seeing
    return (*((INSPECT,) if seeing else ()), *((INSTRUCT,) if apart else ()), ANONYMIZE)


@dataclass
class State:
    """What is known of a row between two pools."""

    fields: dict[str, Any] = field(default_factory=dict)
    failure: RowError | None = None
    found: list[Detection] | None = None
    dead: bool = False


@dataclass(frozen=True)
class PoolWork:
    """What a worker of one pool does with a chunk of (item, state): the arrows of the pool.

    Args:
        pipeline: all arrows.
        name: the pool.
    """

    pipeline: Pipeline
    name: str

    def parts(self) -> Iterator[Part]:
        """The parts that this pool loads: no pool loads another one's models."""
        profile = self.pipeline.profile
        if self.name == PIPELINE:
            yield from (*parts_of(profile.anonymize), *parts_of(profile.score))
        elif self.name == ANONYMIZE:
            redacts, backend = profile.anonymize.editor.redacts, profile.inspect.backend
            elsewhere = [] if redacts or backend is None else list(parts_of(backend))  # asked before, and not again
            for step in (profile.anonymize.editor, profile.inspect, profile.score):
                yield from (part for part in parts_of(step) if part not in elsewhere)
        else:
            yield from (part for step in self._early() for part in parts_of(step))

    def on_gpu(self) -> bool:
        """Whether this pool loads a model that wants a GPU."""
        return any(part.on_gpu for part in self.parts())

    def _early(self) -> list[Any]:
        """The arrows of this pool before the fourth."""
        profile, names = self.pipeline.profile, pool_names(self.pipeline.profile)
        seeing = [profile.inspect, profile.caption] if self.name == INSPECT or INSPECT not in names else []
        writing = [profile.instruct] if self.name == INSTRUCT or INSTRUCT not in names else []
        return [*seeing, *writing]

    def prepare(self) -> None:
        """Load what this pool needs. Raises `SetupError` where a model cannot be loaded."""
        for part in self.parts():
            part.loaded  # noqa: B018  loads it, once

    def __call__(self, chunk: Sequence[tuple[Item, State]]) -> list[State]:
        """One state per row; after the last pool it holds the row's columns."""
        rows = [self._row(item, state) for item, state in chunk]
        alive = [row for row, (_, state) in zip(rows, chunk, strict=True) if not state.dead]
        for step in self._early() if self.name not in (PIPELINE, ANONYMIZE) else ():
            step.run([row for row in alive if not set(step.writes) <= set(row.fields)])
        if self.name in (PIPELINE, ANONYMIZE):
            profile = self.pipeline.profile
            profile.anonymize.run(alive)
            profile.score.run(alive)
            if (gate := getattr(profile, "gate", None)) is not None:
                gate.run(alive)
        return [
            state if state.dead else State(row.fields, row.failure, row.found)
            for row, (_, state) in zip(rows, chunk, strict=True)
        ]

    def _row(self, item: Item, state: State) -> Row:
        row = Row(item.image, state.fields or self.pipeline.read(item))
        row.failure, row.found = state.failure, state.found
        return row

    def dead(self, entry: tuple[Item, State]) -> State:
        """The state of a row that killed its process: the later pools leave it alone, and it is withheld."""
        return State(dead=True)


class Worker:
    """One worker of a pool: a process of its own that may die of a row, as in a run on one machine.

    Args:
        pipeline: all arrows.
        name: the pool.
        batch_size: rows that it works on at once; None for the default of `chunks_of`.
    """

    def __init__(self, pipeline: Pipeline, name: str, batch_size: int | None = None) -> None:
        work = PoolWork(pipeline, name)
        self.on_gpu, self.batch_size = work.on_gpu(), batch_size
        self.workers: Workers = Workers(work, work.dead, 1)
        self.workers.start()

    def __call__(self, entries: Sequence[tuple[Item, State]]) -> tuple[list[State], float]:
        """(one state per row, the seconds that it took)."""
        began = time.monotonic()
        chunks = chunks_of(entries, lambda entry: stored_size(entry[0].image), self.on_gpu, self.batch_size)
        states = [s for _, answers in self.workers.stream((None, chunk) for chunk in chunks) for s in answers]
        return states, time.monotonic() - began
