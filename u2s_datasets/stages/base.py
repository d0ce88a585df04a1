"""What the five steps share: a step is called as `step(batch, rank=None)` and returns new columns."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, overload

import numpy as np

from u2s_datasets import columns
from u2s_datasets.errors import MissingExtra, MissingWeights, PartlyFailed, RowError, SetupError, together
from u2s_datasets.parts import Backend, Detection, Part, checkpoints, checks
from u2s_datasets.privacy.criteria import DEFAULT, Criteria, check_criteria
from u2s_datasets.stages.batch import Row, read_rows, with_columns

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Step(Part):
    """One step. Subclasses say which columns they read and write, and work on `Row`s.

    Args:
        image_column: the column that holds the source image.
    """

    image_column: str = columns.IMAGE

    reads: ClassVar[tuple[str, ...]] = ()
    """Columns that are used if the batch has them."""
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
        rows = read_rows(batch, self.image_column, self.inputs(), self.required())
        self.run(rows)
        return with_columns(batch, rows, self.output_columns(set(batch)))

    def run(self, batch: Sequence[Row]) -> None:
        """Write this step's columns into the rows. A row that fails records it itself; only `SetupError` is raised."""
        raise NotImplementedError

    def inputs(self) -> tuple[str, ...]:
        """The columns to read, besides the image, if the batch has them."""
        return self.reads

    def required(self) -> tuple[str, ...]:
        """Columns that the batch must have, besides the image."""
        return ()

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """The columns to return for a batch that has the columns `present`."""
        return self.writes

    def check(self) -> None:
        """Check every part of this step; several errors are raised as one."""
        values = [v for value in vars(self).values() for v in (value if isinstance(value, tuple) else (value,))]
        check_parts(*(part for part in values if isinstance(part, Part)))


@dataclass(frozen=True)
class TextStep(Step):
    """A step that writes texts, from counts and places or by a model.

    Args:
        image_column: the column that holds the source image.
        backend: what writes the texts; None for the model-free form.
        criteria: (name, description) of what counts as private, from `load_criteria`.
    """

    backend: Backend | None = None
    criteria: Criteria = DEFAULT

    def check(self) -> None:
        """Raises `SetupError` for invalid criteria, or a part that cannot work."""
        check_criteria(self.criteria)
        super().check()

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """The texts, and with a model the review, to which failures and replaced texts are added."""
        return self.writes if self.backend is None else (*self.writes, columns.PRIVACY_REVIEW)

    def run(self, batch: Sequence[Row]) -> None:
        """Write the texts: generic ones first, which stay where no model may write and replace what tells too much."""
        for row in batch:
            row.fields.update(dict.fromkeys(self.writes))
            if self.backend is not None:
                restore_failure(row)
        each_row(alive(batch), self.write_generic, "error")
        if self.backend is not None:
            self.write_by_model(self.backend, [row for row in alive(batch) if row.is_flagged])
            record_failures(batch, self.writes)

    def write_generic(self, row: Row) -> None:
        """Write the texts that need no model."""
        raise NotImplementedError

    def write_by_model(self, backend: Backend, batch: Sequence[Row]) -> None:
        """Write the model's texts into rows that were flagged."""
        raise NotImplementedError


def _setup_errors(part: Part) -> list[SetupError]:
    """What keeps a part from working here. Missing weights are named even if a package is missing already."""
    try:
        part.check()
    except MissingExtra as error:
        try:
            if hasattr(part, "model") and hasattr(part, "revision") and part.model:
                checkpoints.folder(part.model, part.revision)
        except MissingWeights as weights:
            return [error, weights]
        return [error]
    except SetupError as error:
        return [error]
    return []


def check_parts(*parts: Part) -> None:
    """Check every part; several errors are raised as one."""
    if errors := [error for part in parts for error in _setup_errors(part)]:
        raise together(errors) from errors[0]


def check_backend(name: str, backend: Any, must_see: bool = True) -> None:
    """Raise `SetupError` unless the value is None or a backend, and takes images if it must."""
    checks.check_instance(name, backend, Backend, checks.BACKEND, optional=True)
    if must_see and backend is not None and not backend.sees:
        raise SetupError(f"{name}={type(backend).__name__} takes no images; give a backend that sees")


def restore_failure(row: Row) -> None:
    """Withhold a row that an earlier `map` could not judge or describe: its review holds the failure."""
    for item in row.review:
        if item["category"] == columns.ERROR:
            row.fail(RowError(item["reason"], item["item"]))


def record_failures(batch: Sequence[Row], names: Sequence[str]) -> None:
    """Failed rows lose these columns, and their review gets the failure, so that a later `map` withholds them."""
    for row in batch:
        if row.failure is None:
            continue
        row.fields.update(dict.fromkeys(names))
        if all(item["category"] != columns.ERROR for item in row.review):
            error = columns.review_item(columns.ERROR, row.failure.code, str(row.failure), None, 1.0)
            row.fields[columns.PRIVACY_REVIEW] = [*row.review, error]


class Failing(Protocol):
    """A row, or something that stands for one."""

    @property
    def failure(self) -> RowError | None:
        """What withheld it; None while nothing has."""

    def fail(self, error: RowError) -> None:
        """Withhold it for this reason."""


R = TypeVar("R", bound=Failing)


def alive(batch: Sequence[R]) -> list[R]:
    """The rows that nothing has withheld yet."""
    return [row for row in batch if row.failure is None]


@overload
def each(batch: Sequence[R], work: Callable[[Sequence[R]], Sequence[T]], code: str) -> list[T | None]: ...
@overload
def each(
    batch: Sequence[R], work: Callable[[Sequence[R]], Sequence[Any]], code: str, take: Callable[[Any], T]
) -> list[T | None]: ...
def each(
    batch: Sequence[R],
    work: Callable[[Sequence[R]], Sequence[Any]],
    code: str,
    take: Callable[[Any], Any] | None = None,
) -> list[Any]:
    """`work` on all rows at once; if it raises, on one row at a time, so that a fault withholds its own row only.

    Args:
        batch: any number of rows.
        work: rows to one answer each.
        code: the reason code for a failure that has none of its own.
        take: an answer to its result; raises for one that cannot be used. None takes every answer as it is. Not a
            part of `work`, since an answer that comes with `PartlyFailed` has to pass here as well.

    Returns:
        One result per row; None for a row that failed.
    """
    answers = _answers(batch, work, code)
    if take is None:
        return answers
    return each_row(batch, lambda row, answer: None if row.failure is not None else take(answer), code, answers)


def _answers(batch: Sequence[R], work: Callable[[Sequence[R]], Sequence[Any]], code: str) -> list[Any]:
    """One answer per row; None for a row that failed."""
    if len(batch) > 1:
        try:
            return list(_counted(work, batch))
        except SetupError:
            raise
        except PartlyFailed as failed:
            if len(failed.results) == len(batch):
                for row, result in zip(batch, failed.results, strict=True):
                    if isinstance(result, RowError):
                        row.fail(result)
                return [None if isinstance(result, RowError) else result for result in failed.results]
        except Exception:
            log.debug("a batch failed; its rows are tried one by one", exc_info=True)
    return each_row(batch, lambda row: _counted(work, [row])[0], code)


def each_row(batch: Sequence[R], work: Callable[..., T], code: str, *values: Sequence[Any]) -> list[T | None]:
    """`work(row)`, or `work(row, value, …)`, on one row after another; one that raises withholds its own row only.

    Args:
        batch: any number of rows.
        work: a row to its result.
        code: the reason code for a failure that has none of its own.
        values: further arguments of `work`, each a sequence of one value per row.

    Returns:
        One result per row; None for a row that failed.
    """
    return [_guarded(row, code, work, *own) for row, *own in zip(batch, *values, strict=True)]


def _guarded(row: R, code: str, work: Callable[..., T], *values: Any) -> T | None:
    try:
        return work(row, *values)
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


def check_detections(found: Sequence[Detection] | None) -> Sequence[Detection]:
    """A detector's answer for one image as it is, once it is known to be one: none must not pass for "nothing found".

    Raises:
        ValueError: there is no list, or a detection has no finite box of positive area, no score in [0, 1], or an
            outline that is none.
    """
    if found is None:
        raise ValueError("the detector gave no answer")
    for d in found:
        x0, y0, x1, y1 = d.box
        if not (all(map(math.isfinite, (*d.box, d.score))) and x1 > x0 and y1 > y0 and 0 <= d.score <= 1):
            raise ValueError(f"the detector gave box {d.box} with score {d.score}")
        if d.outline is not None and not (len(d.outline) >= 3 and np.isfinite(d.outline).all()):
            raise ValueError(f"the detector gave the outline {d.outline}; give three corners (x, y) or more, or None")
    return found
