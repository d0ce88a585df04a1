"""Stretches of a source that many workers do in any order: put back in order, each row once, and timed by stage."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Stretch = tuple[int, int, int]
"""(shard, first row, row behind the last)."""

LONGEST, _SHORTEST = 32, 4  # rows of a piece
_ROUNDS = 4  # pieces that each worker still gets when they begin to shorten


class InOrder:
    """Collects answers that come in any order, perhaps twice, and gives them back once and in order.

    Args:
        stretches: all rows that are to be answered.
    """

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self.count = 0
        self._open = {shard: [start, stop] for shard, start, stop in stretches}
        self._waiting: dict[int, dict[int, dict[str, Any]]] = {}

    def add(self, shard: int, position: int, answer: dict[str, Any]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, rows), where this answer or earlier ones are the next of their shard."""
        limits = self._open.get(shard)
        if limits is None or not limits[0] <= position < limits[1]:
            return  # a lost machine's rows are done again, and some of them had come already
        waiting = self._waiting.setdefault(shard, {})
        self.count += position not in waiting
        waiting[position] = answer
        ready = []
        while limits[0] in waiting:
            ready.append(waiting.pop(limits[0]))
            limits[0] += 1
        if limits[0] == limits[1]:
            del self._open[shard], self._waiting[shard]
        if ready:
            yield shard, ready

    @property
    def left(self) -> int:
        """How many rows no answer came for."""
        return sum(stop - start - len(self._waiting.get(s, ())) for s, (start, stop) in self._open.items())

    def missing(self, workers: int, longest: int = LONGEST) -> list[Stretch]:
        """The rows that no answer came for, in pieces for so many workers.

        Every piece costs the engine the same, however short it is, so they are long; towards the end they get
        shorter, so that no worker is left with a long one while the others have none.

        Args:
            workers: that the pieces are for.
            longest: rows of the longest piece; 1 parts every row from its neighbours.
        """
        pieces = []
        left = sum(stop - start for start, stop in self._open.values())
        for shard, (first, stop) in self._open.items():
            waiting = self._waiting.get(shard, {})
            while first < stop:
                size = min(longest, max(_SHORTEST, left // (_ROUNDS * workers)), stop - first)
                absent = [p for p in range(first, first + size) if p not in waiting]
                if absent:
                    pieces.append((shard, absent[0], absent[-1] + 1))
                first, left = first + size, left - size
        return pieces


@dataclass
class StageRates:
    """How long the rows took in each stage, and so which stage holds the others up.

    Args:
        workers: stage -> how many work at once.
    """

    workers: dict[str, float] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    began: float = math.inf

    def add(self, seconds: Mapping[str, float], rows: int) -> None:
        """Seconds of work in each stage for so many rows, which are there now."""
        self.began = min(self.began, time.monotonic() - sum(seconds.values()))
        self.seconds.update(seconds)
        self.rows.update(dict.fromkeys(seconds, rows))

    def facts(self) -> dict[str, Any]:
        """Rates per stage and the bottleneck: the stage whose workers were busy for the largest share of the time.

        The time is that since work on the first rows began; before it, the engine and the workers started.
        """
        stages, wall = {}, time.monotonic() - self.began
        for name, number in self.workers.items():
            seconds, rows = self.seconds[name], self.rows[name]
            if rows:
                stages[name] = {
                    "rows": rows,
                    "workers": number,
                    "rows_per_second_and_worker": round(rows / seconds, 3) if seconds else None,
                    "busy": round(seconds / (number * wall), 3) if wall > 0 else None,
                }
        busiest = max(stages, key=lambda n: stages[n]["busy"] or 0.0, default=None)
        return {"stages": stages, "bottleneck": busiest}


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Processes that are started in this block find the modules that this one finds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def words_of(error: BaseException) -> str:
    """What happened in one line: an engine's errors hold whole stacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
