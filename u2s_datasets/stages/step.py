"""What the five arrows share: a step is called as `step(batch, rank=None)` and answers with new columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from u2s_datasets import columns, rows
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Part
from u2s_datasets.rows import Row

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Step(Part):
    """One arrow. Subclasses say what they read and write, and work on `Row`s.

    Args:
        image_column: the column that holds the source image.
    """

    image_column: str = columns.IMAGE

    reads: ClassVar[tuple[str, ...]] = ()
    """Columns that are used where the batch has them."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Columns that this step adds."""

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> Any:
        """The batch with this step's columns.

        Args:
            batch: columns of a `datasets` batch (`batched=True`), or a dict of lists.
            rank: the worker's number, for parts that choose a device by it.

        Raises:
            SetupError: before any row, where the call or the machine is wrong.
        """
        self.check()
        batch_rows = rows.rows_of(batch, self.image_column, self.inputs())
        self.run(batch_rows)
        return rows.with_columns(batch, batch_rows, self.answers(set(batch)))

    def run(self, batch: Sequence[Row]) -> None:
        """Write this step's columns into the rows. A row that fails says so in itself; none raises."""
        raise NotImplementedError

    def inputs(self) -> tuple[str, ...]:
        """The columns to read, beside the image, where the batch has them."""
        return self.reads

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """The columns to answer with, for a batch that has these columns."""
        return self.writes

    def check(self) -> None:
        """Check every part of this step."""
        for part in self.parts():
            part.check()

    def parts(self) -> Iterator[Part]:
        """The parts among this step's fields."""
        for value in vars(self).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Part):
                    yield item


def each(batch: Sequence[Row], work: Callable[[Sequence[Row]], Sequence[T]], code: str) -> list[T | None]:
    """`work` over all rows at once; where that raises, over one row at a time, so that a fault stays its row's own.

    Args:
        batch: any number of rows.
        work: rows to one result each.
        code: the reason code of a row whose failure has none of its own.

    Returns:
        One result per row; none for a row that failed and now says so.
    """
    if len(batch) > 1:
        try:
            return list(_counted(work, batch))
        except SetupError:
            raise
        except Exception:
            log.debug("a batch failed; its rows are tried one by one", exc_info=True)
    return [_one(row, work, code) for row in batch]


def each_row(batch: Sequence[Row], work: Callable[[Row], None], code: str) -> None:
    """`work` on one row after another; a row that raises says so in itself."""

    def alone(rows: Sequence[Row]) -> list[bool]:
        work(rows[0])
        return [True]

    for row in batch:
        _one(row, alone, code)


def _one(row: Row, work: Callable[[Sequence[Row]], Sequence[T]], code: str) -> T | None:
    try:
        return _counted(work, [row])[0]
    except SetupError:
        raise
    except RowError as error:
        row.fail(error)
    except Exception as error:  # noqa: BLE001  the row boundary: whatever a part raises withholds its row (law 1)
        row.fail(RowError(f"{type(error).__name__}: {error}", code).with_traceback(error.__traceback__))
    return None


def _counted(work: Callable[[Sequence[Row]], Sequence[T]], batch: Sequence[Row]) -> Sequence[T]:
    results = work(batch)
    if len(results) != len(batch):
        raise ValueError(f"{len(batch)} rows went in and {len(results)} results came out")
    return results
