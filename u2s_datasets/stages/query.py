"""One question per row to a backend, and a second one if the answer cannot be used."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from u2s_datasets.errors import RowError, UnparsableAnswer
from u2s_datasets.parts import CUT, Backend, Message, Request
from u2s_datasets.stages.base import Failing, each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import render

log = logging.getLogger(__name__)
T = TypeVar("T")

QUOTED_CHARS = 2_000  # of an unusable answer that are shown to the model again


def ask(
    backend: Backend, batch: Sequence[Row], request_of: Callable[[Row], Request], parse: Callable[[str], T], code: str
) -> list[T | None]:
    """One parsed answer per row. What cannot be parsed is asked for once more, with the error named.

    Args:
        backend: the model.
        batch: rows, each of which fails alone: on a request that cannot be made, a missing or an extra answer, an
            exception, and with code "unparsable_answer" on a second answer that cannot be parsed.
        request_of: a row to its question.
        parse: an answer to its value; raises `UnparsableAnswer`.
        code: the reason code for a failure that has none of its own.

    Returns:
        None for a row that failed.
    """
    requests = each_row(batch, request_of, code)
    questions = [Question[T](row, request) for row, request in zip(batch, requests, strict=True) if request is not None]
    ask_once(backend, questions, parse, code)
    unclear = [question for question in questions if question.error is not None]
    log.debug("%d of %d answers are asked for again", len(unclear), len(batch))
    ask_once(backend, unclear, parse, code)
    for question in unclear:
        if question.error is not None:
            question.fail(question.error)
    answers = (question.answer for question in questions)
    return [None if request is None else next(answers) for request in requests]


@dataclass
class Question(Generic[T]):
    """One question and what came of it.

    Attributes:
        row: who is withheld if it fails.
        request: the question.
        text: the last answer, whole.
        error: why that cannot be used.
        answer: its value.
    """

    row: Failing
    request: Request
    text: str = ""
    error: UnparsableAnswer | None = None
    answer: T | None = None

    @property
    def failure(self) -> RowError | None:
        """What withheld the row."""
        return self.row.failure

    def fail(self, error: RowError) -> None:
        """Withhold the row."""
        self.row.fail(error)

    def next_request(self) -> Request:
        """The question; if its answer cannot be used, the question again with the answer and the error."""
        if self.error is None:
            return self.request
        quoted = self.text.removesuffix(CUT)[:QUOTED_CHARS] or "(nothing)"
        turns = (Message("assistant", (quoted,)), Message("user", (render("retry", error=self.error),)))
        return dataclasses.replace(self.request, messages=(*self.request.messages, *turns))


def ask_once(backend: Backend, questions: Sequence[Question[T]], parse: Callable[[str], T], code: str) -> None:
    """Send every question, and set its answer, or the error why what came cannot be used. Other failures are rows'."""

    def generate(asked: Sequence[Question[T]]) -> list[str]:
        texts = backend.generate([question.next_request() for question in asked])
        return [text if isinstance(text, str) else "" for text in texts]

    def hear(question: Question[T], text: str) -> None:
        question.text = text
        try:
            question.answer = parse(text)
        except UnparsableAnswer as error:
            question.error = error

    for question, text in zip(questions, each(questions, generate, code), strict=True):
        question.error = None  # also without a second answer: then the row has failed and says so
        if text is not None:
            each_row([question], hear, code, [text])
