"""Second arrow: a private and a public caption. Without a model they say counts and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Message, Request, checks
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.privacy.private_words import Draft, Private, private_of, settle
from u2s_datasets.stages import generic_captions
from u2s_datasets.stages.answers import FORM, Captions, parse_caption
from u2s_datasets.stages.base import Step, each_row, note_failures, recall_failure
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask

MAX_ITEMS, MAX_TOKENS = 10, 50
"""What the prompt asks for, as in the paper."""


@dataclass(frozen=True)
class Caption(Step):
    """Describe an image twice: from what `inspect` found, or by a model.

    The private caption holds what was read; the public one of a model is checked against it (see `leak_check`), that
    of the model-free form holds counts and places only. Rows that were not flagged get a public caption alone, which
    asks no model; rows that could not be read or described get none. A model's review is added to `privacy_review`.

    Args:
        image_column: the column that holds the source image.
        backend: a model that sees; None for the model-free form.
        criteria: (name, words) of what counts as private, from `load_criteria`.
    """

    backend: Backend | None = None
    criteria: criteria_.Criteria = criteria_.DEFAULT

    reads = columns.INSPECT
    writes = columns.CAPTION

    def check(self) -> None:
        """Raises `SetupError` for a backend that takes no images, or for criteria that are none."""
        checks.check_instance("backend", self.backend, Backend, checks.BACKEND, optional=True)
        if self.backend is not None and not self.backend.sees:
            raise SetupError(f"backend={type(self.backend).__name__} takes no images; give one that sees")
        criteria_.check(self.criteria)
        super().check()

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """The captions, and with a model the review, which it makes longer."""
        return self.writes if self.backend is None else (*self.writes, columns.PRIVACY_REVIEW)

    def run(self, batch: Sequence[Row]) -> None:
        """Write `private_caption` and `public_caption`."""
        for row in batch:
            row.fields.update(dict.fromkeys(columns.CAPTION))
            if self.backend is not None:
                recall_failure(row)
        alive = [row for row in batch if row.failure is None]
        each_row(alive, _caption, "error")
        flagged = [r for r in alive if r.failure is None and r.fields.get(columns.PRIVACY_FLAG) is not False]
        if self.backend is not None:
            self._describe(self.backend, flagged)
            note_failures(batch, columns.CAPTION)

    def _describe(self, backend: Backend, batch: Sequence[Row]) -> None:
        answers = ask(backend, batch, self._request, lambda text: (text, parse_caption(text)), "no_answer")
        drafts = []
        for row, answer in zip(batch, answers, strict=True):
            if answer is not None:
                drafts.append(self._draft(row, *answer))
        settle(backend, drafts)

    def _draft(self, row: Row, text: str, said: Captions) -> Draft:
        generic = row.fields[columns.PUBLIC_CAPTION]
        review = [*(row.fields.get(columns.PRIVACY_REVIEW) or ()), *self._items(said)]
        row.fields |= {columns.PRIVACY_REVIEW: review, columns.PRIVATE_CAPTION: said.private}
        private = private_of(review, said.private)
        request = self._request(row)
        return Draft(row, columns.PUBLIC_CAPTION, request, text, said.public, private, generic, self._heard, True)

    def _heard(self, text: str) -> tuple[str, Private]:
        said = parse_caption(text)
        return said.public, private_of(self._items(said), said.private)

    def _items(self, said: Captions) -> list[dict]:
        return [
            columns.review_item(criteria_.category(i.category, self.criteria), i.item, i.reason, None, 1.0)
            for i in said.review
        ]

    def _request(self, row: Row) -> Request:
        lines = criteria_lines(dict(self.criteria))
        words = render("caption", criteria=lines, max_items=MAX_ITEMS, max_tokens=MAX_TOKENS)
        return Request((Message("user", (row.decoded.pixels, words)),), max_tokens=1024, form=FORM)


def _caption(row: Row) -> None:
    review = row.fields.get(columns.PRIVACY_REVIEW) or []
    size = row.decoded.pixels.size
    found = generic_captions.regions(review, size)
    public = generic_captions.caption(found, size)
    read = [item["item"] for item in review if item["category"] == "text" and item["item"]]
    row.fields[columns.PUBLIC_CAPTION] = public
    if row.fields.get(columns.PRIVACY_FLAG) is not False:
        row.fields[columns.PRIVATE_CAPTION] = public + (f" It reads: {'; '.join(read)}." if read else "")
