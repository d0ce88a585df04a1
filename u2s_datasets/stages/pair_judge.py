"""Law 10: what a model alone flagged is asked of a model again, item by item, on the pair of images."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from u2s_datasets.errors import RowError
from u2s_datasets.parts import Backend, Message, Request
from u2s_datasets.privacy.criteria import Criteria
from u2s_datasets.stages.base import alive, each
from u2s_datasets.stages.inspect import CHOICES, doubt
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.row_edit import RowEdit

LEAD = "STILL_THERE:"  # the start of the answer, given to the model, so that the next word is the answer itself
STILL_THERE = 0.5
"""From this probability on, of any word but FALSE, an item counts as still there."""


@dataclass(frozen=True)
class _Pair:
    """One item of one row, and the image in which it is looked for."""

    edit: RowEdit
    item: str
    after: Image.Image | None

    @property
    def failure(self) -> RowError | None:
        return self.edit.failure

    def fail(self, error: RowError) -> None:
        self.edit.fail(error)


@dataclass(frozen=True)
class PairJudge:
    """Says whether what was private in an original is gone from what an editor made of it.

    Args:
        backend: a model that sees two images at once and weighs choices.
        criteria: (name, words) of what counts as private, for an item without a name.
    """

    backend: Backend
    criteria: Criteria

    def judge(self, edits: Sequence[RowEdit]) -> None:
        """Set `flagged_again` of every edit. One with a control that goes wrong fails: its judge sees no difference.

        The controls are the original beside itself, in which everything is still there, and a blank image, in which
        nothing is. They are asked once for a row, before its first output.
        """
        self._control([edit for edit in edits if not edit.judge_is_sound])
        pairs = [_Pair(edit, item, edit.row.edited) for edit in alive(edits) for item in edit.unlocalized]
        answers = self._ask(pairs)
        for edit in alive(edits):
            said = [answer for pair, answer in zip(pairs, answers, strict=True) if pair.edit is edit]
            edit.flagged_again = said.count(False) < len(edit.unlocalized)

    def _control(self, edits: Sequence[RowEdit]) -> None:
        for blank in (False, True):
            pairs = [
                _Pair(edit, item, Image.new("RGB", edit.original.size, "grey") if blank else edit.original)
                for edit in alive(edits)
                for item in edit.unlocalized
            ]
            for pair, still_there in zip(pairs, self._ask(pairs), strict=True):
                if still_there is blank:
                    words = "a blank picture still shows it" if blank else "the original itself no longer shows it"
                    pair.fail(RowError(f"the model cannot tell whether {pair.item!r} is gone: {words}", "unproven"))
        for edit in alive(edits):
            edit.judge_is_sound = True

    def _ask(self, pairs: Sequence[_Pair]) -> list[bool | None]:
        """Whether each item is still there; None for a pair whose row failed."""

        def weigh(asked: Sequence[_Pair]) -> list[dict[str, float]]:
            return self.backend.choose([self._request(pair) for pair in asked], CHOICES)

        return each(pairs, weigh, "inspect_failed", lambda answer: doubt(answer) >= STILL_THERE)

    def _request(self, pair: _Pair) -> Request:
        item = pair.item or f"whatever falls under one of these:\n{criteria_lines(dict(self.criteria))}"
        question = render("still_there", item=item)
        assert pair.after is not None
        return Request((Message("user", (pair.edit.original, pair.after, question)), Message("assistant", (LEAD,))))
