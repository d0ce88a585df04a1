"""What a model that sees says of a pair of images, and of one: the judge, the reader, the apparent races.

Questions and parsers only; the model is any `Backend`.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from PIL import Image

from u2s_datasets.parts import Backend, Message, Request
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages.answers import parse_races, parse_score, parse_text
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask

T = TypeVar("T")


def judge_request(before: Image.Image, after: Image.Image, criteria: criteria_.Criteria = criteria_.DEFAULT) -> Request:
    """The question of VLMScore: both images, the original first, then the prompt.

    Args:
        before, after: upright RGB images of any sizes.
        criteria: (name, words) of what counts as private.
    """
    prompt = render("judge", criteria=criteria_lines(dict(criteria)))
    return Request((Message("user", (before, after, prompt)),), max_tokens=64)


def ask_vlm_scores(
    backend: Backend, batch: Sequence[Row], criteria: criteria_.Criteria = criteria_.DEFAULT
) -> list[float | None]:
    """How hard it has become to link each edited image to its original, range [0, 100]; higher is safer.

    The judge's own number for the pair (the paper's VLMScore; its figure S15), by a parser that takes no number
    outside the range.

    Args:
        backend: a model that sees two images at once.
        batch: rows with `edited`; a row whose answer cannot be used fails.

    Returns:
        None for a row that failed.
    """

    def question(row: Row) -> Request:
        assert row.edited is not None
        return judge_request(row.decoded.pixels, row.edited, criteria)

    return ask(backend, batch, question, parse_score, "error")


def ask_texts(backend: Backend, batch: Sequence[Row], edited: bool) -> list[list[str] | None]:
    """The lines of text that a model reads in the originals or in the edited images, [] in an image without text."""
    return _ask_about(backend, batch, edited, "extract_text", 512, parse_text)


def ask_races(backend: Backend, batch: Sequence[Row], edited: bool) -> list[list[str] | None]:
    """The apparent races that a model names in the originals or in the edited images, [] where it sees nobody."""
    return _ask_about(backend, batch, edited, "demographics", 64, parse_races)


def _ask_about(
    backend: Backend, batch: Sequence[Row], edited: bool, prompt: str, max_tokens: int, parse: Callable[[str], T]
) -> list[T | None]:
    """One question about one of the two images, with the prompt of this name."""
    words = render(prompt)

    def question(row: Row) -> Request:
        image = row.edited if edited else row.decoded.pixels
        assert image is not None
        return Request((Message("user", (image, words)),), max_tokens=max_tokens)

    return ask(backend, batch, question, parse, "error")
