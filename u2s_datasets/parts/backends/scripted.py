"""A backend that gives prescribed answers: for tests, dry runs and examples, without any model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Backend, Request

Answer = str | Mapping[str, float] | RowError


@dataclass(frozen=True)
class Scripted(Backend):
    """Answers by rule, so that batches, their order and the number of calls change nothing.

    Args:
        answers: (pattern, answer) pairs; the first regular expression that is found in a request's `transcript`
            answers it. An answer is a text; or choices with their probabilities, for `choose`; or a `RowError`,
            which is raised. `choose` takes a text that is one of the choices as certain.
        default: the answer if no pattern is found; None makes that a `SetupError`, which shows the gap in the script.
    """

    answers: tuple[tuple[str, Answer], ...] = ()
    default: Answer | None = None

    on_gpu: ClassVar[bool] = False

    def check(self) -> None:
        """Raise `SetupError` for a pattern that is not a regular expression."""
        for pattern, _ in self.answers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise SetupError(f"invalid answers: {pattern!r} is not a regular expression: {error}") from error

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """The scripted text of every request."""
        return [_as_text(self._answer(request)) for request in requests]

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """The scripted probabilities of every request; a choice that the script leaves out gets 0."""
        return [_as_probabilities(self._answer(request), choices) for request in requests]

    def _answer(self, request: Request) -> str | Mapping[str, float]:
        text = transcript(request)
        found = (answer for pattern, answer in self.answers if re.search(pattern, text))
        answer = next(found, self.default)
        if isinstance(answer, RowError):
            raise answer
        if answer is None:
            raise SetupError(f"no scripted answer for {text[:200]!r}; add a pattern to answers or give a default")
        return answer


def transcript(request: Request) -> str:
    """A request as text, one line "role: words" per message, each image as "<image 640x427 #7f5a3c>".

    The colour is the image's mean, so that a test can tell its images apart.
    """
    return "\n".join(
        f"{message.role}: {' '.join(_describe(part) for part in message.content)}" for message in request.messages
    )


def _describe(part: str | Image.Image) -> str:
    if isinstance(part, str):
        return part
    red, green, blue = np.asarray(part.convert("RGB")).reshape(-1, 3).mean(axis=0).round().astype(int)
    return f"<image {part.width}x{part.height} #{red:02x}{green:02x}{blue:02x}>"


def _as_text(answer: str | Mapping[str, float]) -> str:
    if not isinstance(answer, str):
        raise SetupError(f"the scripted answer {answer!r} is for choose; give generate a text")
    return answer


def _as_probabilities(answer: str | Mapping[str, float], choices: Sequence[str]) -> dict[str, float]:
    given = {answer: 1.0} if isinstance(answer, str) else dict(answer)
    if set(given) - set(choices) or sum(given.values()) > 1.0 + 1e-9 or min(given.values(), default=0.0) < 0.0:
        raise SetupError(f"the scripted answer {answer!r} does not give probabilities of the choices {list(choices)}")
    return {choice: float(given.get(choice, 0.0)) for choice in choices}
