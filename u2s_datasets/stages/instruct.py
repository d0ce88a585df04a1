"""Third step: what the editor is to do, and what the result will look like, in public words."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from u2s_datasets import columns, images
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Backend, Message, Request, checks
from u2s_datasets.privacy.identifying_text import find_pii_pattern
from u2s_datasets.privacy.private_words import PrivateTerms, find_private_words, terms_in_image, terms_of_review
from u2s_datasets.stages import generic_captions
from u2s_datasets.stages.answers import parse_instruction
from u2s_datasets.stages.base import TextStep, alive, check_backend
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask
from u2s_datasets.stages.redraft import Draft, write_drafts

MAX_INSTRUCTION_WORDS, MAX_CAPTION_WORDS = 45, 50  # that the prompts ask for, as in the paper

# The eight groups of the paper (S4.3).
DEMOGRAPHIC_GROUPS = (
    "White",
    "Black",
    "East Asian",
    "South Asian",
    "Southeast Asian",
    "Middle Eastern/North African",
    "Indigenous/Pacific Islander",
    "Hispanic/Latino",
)

_GENERIC = {
    columns.EDIT_INSTRUCTION: "Change every person, every telling object and all words, and keep everything else.",
    columns.EDIT_CAPTION: "A photo in which nothing private can be made out.",
}


@dataclass(frozen=True)
class Instruct(TextStep):
    """Write the edit instruction and merge it with the public caption, from counts and places or by a model.

    A model sees the public caption alone, never the image nor anything private; what it writes is checked like the
    public caption (see `redraft`). Rows that were not flagged get no instruction, and no model is asked for them.

    Args:
        image_column: the column that holds the source image.
        backend: a language model; None for the model-free form.
        criteria: (name, description) of what counts as private, from `load_criteria`.
        label_column: a column of class names, or of numbers whose `ClassLabel` names them; the merged caption then
            describes that class, so its name is public. It is left out in a row whose class looks like a contact, a
            date or a long number, or says a name, a number or words that stand in the image.
        groups: demographic groups of which each edited image gets one, at random; "paper" for `DEMOGRAPHIC_GROUPS`.
        seed: with the image's pixels, the seed of that draw (law 5).

    Input columns:
        image: the source image.
        privacy_flag: False for a row that is not edited.
        privacy_review: what was found, to be counted, located and kept out of the texts.
        private_caption: what else the texts must not say.
        public_caption: all that a model is told of the image.

    Output columns:
        edit_instruction: what the editor is to do; None for a row that was not flagged.
        edit_caption: the public caption of the edited image.
        privacy_review: with a model, failures and replaced texts added.
    """

    label_column: str | None = None
    groups: tuple[str, ...] | str = ()
    seed: int = 0

    reads = (columns.PRIVACY_FLAG, columns.PRIVACY_REVIEW, columns.PUBLIC_CAPTION, columns.PRIVATE_CAPTION)
    writes = columns.INSTRUCT

    def check(self) -> None:
        """Raises `SetupError` for invalid groups or criteria, or if there is no model to use them."""
        check_backend("backend", self.backend, must_see=False)
        checks.check_int("seed", self.seed, least=None)
        if isinstance(self.groups, str) and self.groups != "paper":
            raise SetupError(f"unknown groups={self.groups!r}; expected 'paper' or a tuple of your own groups")
        if not all(isinstance(group, str) and group.strip() for group in self.groups):
            raise SetupError(f"groups={self.groups!r} holds something else than a name; give each group as text")
        if (self.groups or self.label_column) and self.backend is None:
            raise SetupError("groups and label_column need a language model; give backend=... too")
        super().check()

    def required(self) -> tuple[str, ...]:
        """The public caption, if there is a model to read it, and the column of classes, if one was named."""
        caption = () if self.backend is None else (columns.PUBLIC_CAPTION,)
        return (*caption, *(() if self.label_column is None else (self.label_column,)))

    def write_generic(self, row: Row) -> None:
        """Write both texts from counts and places; a row without a box that was flagged gets none."""
        size = row.decoded.pixels.size
        regions = generic_captions.describe_regions(row.review, size)
        if not row.is_flagged:
            row.fields[columns.EDIT_CAPTION] = row.fields.get(columns.PUBLIC_CAPTION)
        elif regions:
            shape = generic_captions.describe_shape(size)
            row.fields[columns.EDIT_INSTRUCTION] = f"Hide {regions} and keep everything else as it is."
            row.fields[columns.EDIT_CAPTION] = f"A {shape} photo in which {regions} cannot be made out."

    def write_by_model(self, backend: Backend, batch: Sequence[Row]) -> None:
        """Write the instruction, then the caption that the model merges with it."""
        self._write(backend, batch, columns.EDIT_INSTRUCTION, self._instruction_request)
        self._write(backend, alive(batch), columns.EDIT_CAPTION, self._merge_request)

    def _write(self, backend: Backend, batch: Sequence[Row], column: str, request_of: Callable[[Row], Request]) -> None:
        answers = ask(backend, batch, request_of, lambda text: (text, parse_instruction(text)), "no_answer")
        drafts = [
            Draft(
                row,
                request_of(row),
                *answer,
                private=terms_of_review(row.review, row.fields.get(columns.PRIVATE_CAPTION) or ""),
                allowed=f"{self._class_name(row)} {self._group(row)}",
            )
            for row, answer in zip(batch, answers, strict=True)
            if answer is not None
        ]
        write_drafts(backend, drafts, column, lambda text: (parse_instruction(text), PrivateTerms()), _GENERIC[column])

    def _instruction_request(self, row: Row) -> Request:
        group = self._group(row)
        return _request(
            "instruct",
            public_caption=_public_caption(row),
            criteria=criteria_lines(dict(self.criteria)),
            group_rule=render("instruct_group", group=group) if group else "",
            max_words=MAX_INSTRUCTION_WORDS,
        )

    def _merge_request(self, row: Row) -> Request:
        name = self._class_name(row)
        return _request(
            "merge",
            public_caption=_public_caption(row),
            edit_instruction=row.fields[columns.EDIT_INSTRUCTION],
            class_rule=render("merge_class", class_name=name) if name else "",
            max_words=MAX_CAPTION_WORDS,
        )

    def _class_name(self, row: Row) -> str:
        """The class that may be named: not one that says what was read in the image or looks like a contact or date."""
        name = row.class_name(self.label_column)
        in_image = terms_in_image(row.review, row.fields.get(columns.PRIVATE_CAPTION) or "")
        return "" if find_pii_pattern(name) or find_private_words(name, in_image) else name

    def _group(self, row: Row) -> str:
        groups = DEMOGRAPHIC_GROUPS if self.groups == "paper" else tuple(self.groups)
        if not groups:
            return ""
        seed = images.content_seed(row.decoded.pixels, self.seed)
        # Hashed once more: the group is public, and from the seed itself it would tell something of the noise.
        digest = hashlib.sha256(f"demographic group {seed}".encode()).digest()
        return groups[int.from_bytes(digest[:8], "big") % len(groups)]


def _request(prompt: str, **values: object) -> Request:
    return Request((Message("user", (render(prompt, **values),)),), max_tokens=256)


def _public_caption(row: Row) -> str:
    caption = row.fields.get(columns.PUBLIC_CAPTION)
    if not caption:
        raise RowError("there is no public caption to write an instruction from", "no_answer")
    return caption
