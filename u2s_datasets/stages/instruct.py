"""Third arrow: what the editor is to do, and how the result will look, in public words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from u2s_datasets import columns, images
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Backend, Message, Request, checks
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.privacy.identifying_text import telling
from u2s_datasets.privacy.private_words import Draft, Private, leaks, private_of, read_of, settle
from u2s_datasets.stages import generic_captions
from u2s_datasets.stages.answers import parse_instruction
from u2s_datasets.stages.base import Step, each_row, note_failures, recall_failure
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask

MAX_INSTRUCTION_WORDS, MAX_CAPTION_WORDS = 45, 50
"""What the prompts ask for, as in the paper."""

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
"""The eight groups of the paper (S4.3)."""


@dataclass(frozen=True)
class Instruct(Step):
    """Write the edit instruction and merge it with the public caption, from counts and places or by a model.

    A model sees the public caption alone, never the image nor anything private; what it writes is checked like the
    public caption (see `leak_check`). Rows that were not flagged get no instruction and ask no model.

    Args:
        image_column: the column that holds the source image.
        backend: a language model; None for the model-free form.
        criteria: (name, words) of what counts as private, from `load_criteria`.
        label_column: a column of class names, or of numbers whose `ClassLabel` names them; the merged caption then
            describes that class, so its name is public. In a row whose class looks like a contact, a date or a long
            number, or says a name, a number or words that stand in the image, it is left out.
        groups: demographic groups of which each edited image gets one, at random; "paper" for `DEMOGRAPHIC_GROUPS`.
        seed: with the image's pixels, the seed of that draw (law 5).
    """

    backend: Backend | None = None
    criteria: criteria_.Criteria = criteria_.DEFAULT
    label_column: str | None = None
    groups: tuple[str, ...] | str = ()
    seed: int = 0

    reads = (*columns.INSPECT, columns.PUBLIC_CAPTION, columns.PRIVATE_CAPTION)
    writes = columns.INSTRUCT

    def check(self) -> None:
        """Raises `SetupError` for groups or criteria that are none."""
        checks.check_instance("backend", self.backend, Backend, checks.BACKEND, optional=True)
        checks.check_int("seed", self.seed, least=None)
        if isinstance(self.groups, str) and self.groups != "paper":
            raise SetupError(f"groups={self.groups!r} is unknown; use 'paper' or a tuple of your own groups")
        if not all(isinstance(group, str) and group.strip() for group in self.groups):
            raise SetupError(f"groups={self.groups!r} holds something that is no text; give each group as text")
        if (self.groups or self.label_column) and self.backend is None:
            raise SetupError("groups and label_column need a language model; give backend=... too")
        criteria_.check(self.criteria)
        super().check()

    def required(self) -> tuple[str, ...]:
        """The public caption, for a model, and the classes' column, where one was named."""
        caption = () if self.backend is None else (columns.PUBLIC_CAPTION,)
        return (*caption, *(() if self.label_column is None else (self.label_column,)))

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """The texts, and with a model the review, which then also holds failures and replaced texts."""
        return self.writes if self.backend is None else (*self.writes, columns.PRIVACY_REVIEW)

    def run(self, batch: Sequence[Row]) -> None:
        """Write `edit_instruction` and `edit_caption`."""
        for row in batch:
            row.fields.update(dict.fromkeys(columns.INSTRUCT))
            if self.backend is not None:
                recall_failure(row)
        alive = [row for row in batch if row.failure is None]
        each_row(alive, _instruct, "error")
        flagged = [r for r in alive if r.failure is None and r.fields.get(columns.PRIVACY_FLAG) is not False]
        if self.backend is not None:
            self._write(self.backend, flagged, columns.EDIT_INSTRUCTION, self._instruction)
            flagged = [row for row in flagged if row.failure is None]
            self._write(self.backend, flagged, columns.EDIT_CAPTION, self._merge)
            note_failures(batch, columns.INSTRUCT)

    def _write(self, backend: Backend, batch: Sequence[Row], column: str, request_of: Callable[[Row], Request]) -> None:
        answers = ask(backend, batch, request_of, lambda text: (text, parse_instruction(text)), "no_answer")
        drafts = []
        for row, answer in zip(batch, answers, strict=True):
            if answer is not None:
                drafts.append(self._draft(row, column, request_of(row), *answer))
        settle(backend, drafts)

    def _draft(self, row: Row, column: str, request: Request, text: str, said: str) -> Draft:
        fields = row.fields
        private = private_of(fields.get(columns.PRIVACY_REVIEW) or (), fields.get(columns.PRIVATE_CAPTION) or "")
        allowed = f"{self._class_name(row)} {self._group(row)}"
        generic = fields[column] or _GENERIC[column]
        return Draft(row, column, request, text, said, private, generic, _heard, allowed=allowed)

    def _instruction(self, row: Row) -> Request:
        group = self._group(row)
        rule = render("instruct_group", group=group) if group else ""
        lines = criteria_lines(dict(self.criteria))
        return _request(
            "instruct",
            public_caption=_public_caption(row),
            criteria=lines,
            group_rule=rule,
            max_words=MAX_INSTRUCTION_WORDS,
        )

    def _merge(self, row: Row) -> Request:
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
        name, fields = row.class_name(self.label_column), row.fields
        read = read_of(fields.get(columns.PRIVACY_REVIEW) or (), fields.get(columns.PRIVATE_CAPTION) or "")
        return "" if telling(name) or leaks(name, read) else name

    def _group(self, row: Row) -> str:
        groups = DEMOGRAPHIC_GROUPS if self.groups == "paper" else tuple(self.groups)
        if not groups:
            return ""
        seed = images.content_seed(row.decoded.pixels, self.seed)
        digest = hashlib.sha256(f"demographic group {seed}".encode()).digest()  # else it would tell of the noise
        return groups[int.from_bytes(digest[:8], "big") % len(groups)]


_GENERIC = {
    columns.EDIT_INSTRUCTION: "Change every person, every telling object and all words, and keep everything else.",
    columns.EDIT_CAPTION: "A photo in which nothing private can be made out.",
}


def _request(prompt: str, **values: object) -> Request:
    return Request((Message("user", (render(prompt, **values),)),), max_tokens=256)


def _heard(text: str) -> tuple[str, Private]:
    return parse_instruction(text), Private()


def _public_caption(row: Row) -> str:
    caption = row.fields.get(columns.PUBLIC_CAPTION)
    if not caption:
        raise RowError("there is no public caption to write an instruction from", "no_answer")
    return caption


def _instruct(row: Row) -> None:
    caption = row.fields.get(columns.PUBLIC_CAPTION)
    found = generic_captions.regions(row.fields.get(columns.PRIVACY_REVIEW) or [], row.decoded.pixels.size)
    if row.fields.get(columns.PRIVACY_FLAG) is False:
        row.fields[columns.EDIT_CAPTION] = caption
    elif found:
        regions, shape = generic_captions.phrase(found), generic_captions.shape(row.decoded.pixels.size)
        row.fields[columns.EDIT_INSTRUCTION] = f"Hide {regions} and keep everything else as it is."
        row.fields[columns.EDIT_CAPTION] = f"A {shape} photo in which {regions} cannot be made out."
