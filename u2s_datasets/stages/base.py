"""What the five arrows share: a step is called as `step(batch, rank=None)` and answers with new columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from u2s_datasets import columns
from u2s_datasets.errors import MissingExtra, MissingWeights, PartlyFailed, RowError, SetupError, together
from u2s_datasets.parts import Detection, Part, checkpoints
from u2s_datasets.stages.batch import Row, rows_of, with_columns

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
            rank: the worker's number (`with_rank=True`), by which models choose their GPU.

        Raises:
            SetupError: the call or the machine is wrong.
        """
        checkpoints.use_rank(rank)
        self.check()
        batch_rows = rows_of(batch, self.image_column, self.inputs(), self.required())
        self.run(batch_rows)
        return with_columns(batch, batch_rows, self.answers(set(batch)))

    def run(self, batch: Sequence[Row]) -> None:
        """Write this step's columns into the rows. A row that fails says so in itself; only `SetupError` is raised."""
        raise NotImplementedError

    def inputs(self) -> tuple[str, ...]:
        """The columns to read, beside the image, where the batch has them."""
        return self.reads

    def required(self) -> tuple[str, ...]:
        """Columns that the batch must have, beside the image."""
        return ()

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """The columns to answer with, for a batch that has these columns."""
        return self.writes

    def check(self) -> None:
        """Check every part of this step; what is wrong with several of them is said in one error."""
        errors = [error for part in self.parts() for error in _faults(part)]
        if errors:
            raise together(errors) from errors[0]

    def parts(self) -> Iterator[Part]:
        """The parts among this step's fields."""
        for value in vars(self).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Part):
                    yield item


def _faults(part: Part) -> list[SetupError]:
    """What keeps a part from working here: also that its weights are absent, where a package is absent already."""
    try:
        part.check()
    except MissingExtra as error:
        model, pinned = getattr(part, "model", None), hasattr(part, "revision")
        try:
            if model and pinned:
                checkpoints.folder(model, part.revision)  # type: ignore[attr-defined]
        except MissingWeights as absent:
            return [error, absent]
        return [error]
    except SetupError as error:
        return [error]
    return []


def recall_failure(row: Row) -> None:
    """A row that an earlier `map` could not judge or describe carries its failure in its review."""
    for item in row.fields.get(columns.PRIVACY_REVIEW) or ():
        if item["category"] == columns.ERROR:
            row.fail(RowError(item["reason"], item["item"]))


def note_failures(batch: Sequence[Row], names: Sequence[str]) -> None:
    """Failed rows lose these columns, and their review says why, so that a later `map` withholds them."""
    for row in batch:
        if row.failure is None:
            continue
        row.fields.update(dict.fromkeys(names))
        review = row.fields.get(columns.PRIVACY_REVIEW) or []
        if all(item["category"] != columns.ERROR for item in review):
            error = columns.review_item(columns.ERROR, row.failure.code, str(row.failure), None, 1.0)
            row.fields[columns.PRIVACY_REVIEW] = [*review, error]


class Failing(Protocol):
    """A row, or something that stands for one."""

    def fail(self, error: RowError) -> None:
        """Withhold it for this reason."""


R = TypeVar("R", bound=Failing)


def each(batch: Sequence[R], work: Callable[[Sequence[R]], Sequence[T]], code: str) -> list[T | None]:
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
        except PartlyFailed as failed:
            return _sorted_out(batch, failed.results)
        except Exception:
            log.debug("a batch failed; its rows are tried one by one", exc_info=True)
    return [_one(row, work, code) for row in batch]


def each_row(batch: Sequence[R], work: Callable[[R], None], code: str) -> None:
    """`work` on one row after another; a row that raises says so in itself."""

    def alone(rows: Sequence[R]) -> list[bool]:
        work(rows[0])
        return [True]

    for row in batch:
        _one(row, alone, code)


def sound(found: Sequence[Sequence[Detection]]) -> Sequence[Sequence[Detection]]:
    """A detector's answer, once it is known to be one: no answer, or no number, must not pass for "nothing found".

    Raises:
        ValueError: a list is none, or a detection has no finite box of positive area or no score in [0, 1].
    """
    for detections in found:
        if detections is None:
            raise ValueError("the detector gave no answer")
        for d in detections:
            x0, y0, x1, y1 = d.box
            if not (all(map(math.isfinite, (*d.box, d.score))) and x1 > x0 and y1 > y0 and 0 <= d.score <= 1):
                raise ValueError(f"the detector gave box {d.box} with score {d.score}")
    return found


def _sorted_out(batch: Sequence[R], results: Sequence[T | RowError]) -> list[T | None]:
    """The results of a batch that failed in part; the rows that failed now say so."""
    answers: list[T | None] = []
    for row, result in zip(batch, results, strict=True):
        failed = isinstance(result, RowError)
        if failed:
            row.fail(result)  # type: ignore[arg-type]
        answers.append(None if failed else result)  # type: ignore[arg-type]
    return answers


def _one(row: R, work: Callable[[Sequence[R]], Sequence[T]], code: str) -> T | None:
    try:
        return _counted(work, [row])[0]
    except SetupError:
        raise
    except RowError as error:
        row.fail(error)
    except Exception as error:  # noqa: BLE001  the row boundary: whatever a part raises withholds its row (law 1)
        row.fail(RowError(f"{type(error).__name__}: {error}", code).with_traceback(error.__traceback__))
    return None


def _counted(work: Callable[[Sequence[R]], Sequence[T]], batch: Sequence[R]) -> Sequence[T]:
    results = work(batch)
    if len(results) != len(batch):
        raise ValueError(f"{len(batch)} rows went in and {len(results)} results came out")
    return results
