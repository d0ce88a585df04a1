"""Second step: a private and a public caption. Without a model they give counts and places."""

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns
from u2s_datasets.parts import Backend, Message, Request
from u2s_datasets.privacy.criteria import match_criterion
from u2s_datasets.privacy.private_words import PrivateTerms, terms_of_review
from u2s_datasets.stages import generic_captions
from u2s_datasets.stages.answers import FORM, Captions, parse_caption
from u2s_datasets.stages.base import TextStep, check_backend
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask
from u2s_datasets.stages.redraft import Draft, write_drafts

MAX_ITEMS, MAX_TOKENS = 10, 50  # that the prompt asks for, as in the paper


@dataclass(frozen=True)
class Caption(TextStep):
    """Describe an image twice: from what `inspect` found, or by a model.

    The private caption holds what was read. A model's public caption is checked against it (see `redraft`); that of
    the model-free form gives counts and places only. Rows that were not flagged get a public caption alone, for which
    no model is asked; rows that could not be read or described get none. A model's review is added to
    `privacy_review`.

    Args:
        image_column: the column that holds the source image.
        backend: a model that sees; None for the model-free form.
        criteria: (name, description) of what counts as private, from `load_criteria`.

    Input columns:
        image: the source image.
        privacy_flag: False for a row that needs no private caption.
        privacy_review: what was found, to be counted, located and kept out of the public caption.

    Output columns:
        private_caption: the whole description; None for a row that was not flagged.
        public_caption: a description that names nothing private.
        privacy_review: with a model, its items, failures and replaced captions added.
    """

    reads = (columns.PRIVACY_FLAG, columns.PRIVACY_REVIEW)
    writes = columns.CAPTION

    def check(self) -> None:
        """Raises `SetupError` for a backend that takes no images, or for invalid criteria."""
        check_backend("backend", self.backend)
        super().check()

    def write_generic(self, row: Row) -> None:
        """Write both captions from counts and places, and into the private one what was read."""
        public = generic_captions.write_caption(row.review, row.decoded.pixels.size)
        row.fields[columns.PUBLIC_CAPTION] = public
        if row.is_flagged:
            read = [item["item"] for item in row.review if item["category"] == "text" and item["item"]]
            row.fields[columns.PRIVATE_CAPTION] = public + (f" It reads: {'; '.join(read)}." if read else "")

    def write_by_model(self, backend: Backend, batch: Sequence[Row]) -> None:
        """Write the model's captions and add its review; a public one is checked against all that is private."""
        answers = ask(backend, batch, self._request, lambda text: (text, parse_caption(text)), "no_answer")
        drafts = [self._draft(row, *answer) for row, answer in zip(batch, answers, strict=True) if answer is not None]
        write_drafts(backend, drafts, columns.PUBLIC_CAPTION, self._parse_again, name_words=True)

    def _draft(self, row: Row, text: str, captions: Captions) -> Draft:
        review = [*row.review, *self._items(captions)]
        row.fields |= {columns.PRIVACY_REVIEW: review, columns.PRIVATE_CAPTION: captions.private}
        private = terms_of_review(review, captions.private)
        return Draft(row, self._request(row), text, captions.public, private)

    def _parse_again(self, text: str) -> tuple[str, PrivateTerms]:
        captions = parse_caption(text)
        return captions.public, terms_of_review(self._items(captions), captions.private)

    def _items(self, captions: Captions) -> list[dict]:
        return [
            columns.review_item(match_criterion(i.category, self.criteria), i.item, i.reason, None, 1.0)
            for i in captions.review
        ]

    def _request(self, row: Row) -> Request:
        lines = criteria_lines(dict(self.criteria))
        words = render("caption", criteria=lines, max_items=MAX_ITEMS, max_tokens=MAX_TOKENS)
        return Request((Message("user", (row.decoded.pixels, words)),), max_tokens=1024, form=FORM)
