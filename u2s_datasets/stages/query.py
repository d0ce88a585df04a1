"""One question per row to a backend, and once more where the answer cannot be used: what the three arrows share."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from u2s_datasets.errors import RowError, UnparsableAnswer
from u2s_datasets.parts import CUT, Backend, Message, Request
from u2s_datasets.stages.base import each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import render

log = logging.getLogger(__name__)
T = TypeVar("T")

QUOTED_CHARS = 2_000
"""How much of an answer that cannot be used is shown to the model again."""


def ask(
    backend: Backend, batch: Sequence[Row], request_of: Callable[[Row], Request], parse: Callable[[str], T], code: str
) -> list[T | None]:
    """One parsed answer per row. One that cannot be parsed is asked for once more, with the error named.

    Args:
        batch: rows, each of which fails alone: on a request that cannot be made, a missing or an extra answer, an
            exception, and with code "unparsable_answer" on a second answer that cannot be parsed.
        request_of: a row to its question.
        parse: an answer to what it says; raises `UnparsableAnswer`.
        code: the reason code of a failure that has none of its own.

    Returns:
        None for a row that failed.
    """
    questions = [_Question[T](row) for row in batch]
    each_row(questions, lambda q: q.prepare(request_of), code)
    _put(backend, [q for q in questions if q.request is not None], parse, code)
    again = [q for q in questions if q.error is not None]
    log.debug("%d of %d answers are asked for again", len(again), len(batch))
    each_row(again, lambda q: q.object(), code)
    _put(backend, again, parse, code)
    for question in again:
        if question.error is not None:
            question.fail(question.error)
    return [question.answer for question in questions]


def objection(request: Request, answer: str, error: str) -> Request:
    """The request once more, with the answer that cannot be used and why."""
    said = answer.removesuffix(CUT)[:QUOTED_CHARS] if isinstance(answer, str) else ""
    turns = (Message("assistant", (said or "(nothing)",)), Message("user", (render("retry", error=error),)))
    return dataclasses.replace(request, messages=(*request.messages, *turns))


class _Question(Generic[T]):
    """What was asked of one row, what came back, and why that cannot be used."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.request: Request | None = None
        self.text = ""
        self.error: UnparsableAnswer | None = None
        self.answer: T | None = None

    def fail(self, error: RowError) -> None:
        """Withhold the row."""
        self.row.fail(error)

    def prepare(self, request_of: Callable[[Row], Request]) -> None:
        self.request = request_of(self.row)

    def object(self) -> None:
        assert self.request is not None
        self.request = objection(self.request, self.text, str(self.error))

    def hear(self, text: str, parse: Callable[[str], T]) -> None:
        self.text, self.error = text, None
        try:
            self.answer = parse(text)
        except UnparsableAnswer as error:
            self.error = error


def _put(backend: Backend, questions: Sequence[_Question[T]], parse: Callable[[str], T], code: str) -> None:
    texts = each(questions, lambda qs: backend.generate([q.request for q in qs if q.request]), code)
    for question, text in zip(questions, texts, strict=True):
        question.error = None  # also where no second answer came: that row has failed and says so
        if text is not None or question.row.failure is None:
            each_row([question], lambda q, t=text: q.hear(t, parse), code)  # type: ignore[misc]
