"""What a model that sees says of a pair, and of one image: the judge, the reader, the apparent races.

Questions and parsers only; the model is any `Backend`.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from u2s_datasets.parts import Backend, Message, Request
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages.answers import parse_races, parse_score, parse_text
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask


def judge_request(before: Image.Image, after: Image.Image, criteria: criteria_.Criteria = criteria_.DEFAULT) -> Request:
    """The question of VLMScore: both images, the original first, then the words.

    Args:
        before, after: upright RGB images of any sizes.
        criteria: (name, words) of what counts as private.
    """
    words = render("judge", criteria=criteria_lines(dict(criteria)))
    return Request((Message("user", (before, after, words)),), max_tokens=64)


def vlm_scores(
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


def texts(backend: Backend, batch: Sequence[Row], edited: bool) -> list[list[str] | None]:
    """The text that a model reads in the originals or in the edited images, [] where there is none."""
    words = render("extract_text")
    return ask(backend, batch, lambda row: _about(row, edited, words, 512), parse_text, "error")


def races(backend: Backend, batch: Sequence[Row], edited: bool) -> list[list[str] | None]:
    """The apparent races that a model names in the originals or in the edited images, [] where it sees nobody."""
    words = render("demographics")
    return ask(backend, batch, lambda row: _about(row, edited, words, 64), parse_races, "error")


def _about(row: Row, edited: bool, words: str, most: int) -> Request:
    image = row.edited if edited else row.decoded.pixels
    assert image is not None
    return Request((Message("user", (image, words)),), max_tokens=most)
