"""Ranges of rows that many workers do in any order: put back in order, each row once, and timed by stage."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST, _SHORTEST = 32, 4  # rows of a piece
_ROUNDS = 4  # pieces that each worker still gets when they begin to shorten


@dataclass(frozen=True)
class RowRange:
    """Consecutive rows of a shard.

    Args:
        shard: its number.
        start, stop: the first row, and the one behind the last; positions in the source.
    """

    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class RowAnswer:
    """What became of one row.

    Args:
        shard: number of its shard.
        position: its own, in the source.
        columns: private and public ones, and under "kept" those that the user keeps.
    """

    shard: int
    position: int
    columns: dict[str, Any]


@dataclass
class _OpenShard:
    """A shard that waits for rows: which comes next, where it ends, and what came early, by position."""

    next: int
    stop: int
    early: dict[int, dict[str, Any]] = field(default_factory=dict)


class ReorderBuffer:
    """Collects answers that come in any order, perhaps twice, and gives them back once and in order.

    Args:
        ranges: all rows that are to be answered; one range per shard.
    """

    def __init__(self, ranges: Sequence[RowRange]) -> None:
        self._open = {rows.shard: _OpenShard(rows.start, rows.stop) for rows in ranges}

    def in_order(self, answers: Iterable[RowAnswer]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, its next rows in order), as soon as the answers bring them."""
        for answer in answers:
            shard = self._open.get(answer.shard)
            if shard is None or not shard.next <= answer.position < shard.stop:
                continue  # a lost machine's rows are done again, and some of them had come already
            shard.early[answer.position] = answer.columns
            ready = []
            while shard.next in shard.early:
                ready.append(shard.early.pop(shard.next))
                shard.next += 1
            if shard.next == shard.stop:
                del self._open[answer.shard]
            if ready:
                yield answer.shard, ready

    @property
    def left(self) -> int:
        """How many rows have no answer yet."""
        return sum(shard.stop - shard.next - len(shard.early) for shard in self._open.values())

    def missing(self, workers: int, longest: int = LONGEST) -> list[RowRange]:
        """The rows without an answer, in pieces.

        Every piece costs the engine the same, however short it is, so they are long; towards the end they get
        shorter, so that no worker is left with a long one while the others have none.

        Args:
            workers: how many the pieces are for.
            longest: rows of the longest piece; 1 separates every row from its neighbours.
        """
        pieces = []
        left = sum(shard.stop - shard.next for shard in self._open.values())
        for number, shard in self._open.items():
            first = shard.next
            while first < shard.stop:
                size = min(longest, max(_SHORTEST, left // (_ROUNDS * workers)), shard.stop - first)
                absent = [position for position in range(first, first + size) if position not in shard.early]
                if absent:
                    pieces.append(RowRange(number, absent[0], absent[-1] + 1))
                first, left = first + size, left - size
        return pieces


@dataclass
class StageRates:
    """How long the rows took in each stage, and so which stage holds the others up.

    Args:
        workers: stage -> how many work at once.
        seconds: stage -> seconds of work.
        rows: stage -> rows that went through it.
        began: when work on the first rows began, by the monotonic clock.
    """

    workers: dict[str, float] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    began: float = math.inf

    def add(self, seconds: Mapping[str, float], rows: int) -> None:
        """Count rows that are finished, with the seconds of work that they took in each stage."""
        self.began = min(self.began, time.monotonic() - sum(seconds.values()))
        self.seconds.update(seconds)
        self.rows.update(dict.fromkeys(seconds, rows))

    def summary(self) -> dict[str, Any]:
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
        busiest = max(stages, key=lambda name: stages[name]["busy"] or 0.0, default=None)
        return {"stages": stages, "bottleneck": busiest}
