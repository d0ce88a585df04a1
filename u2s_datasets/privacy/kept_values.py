"""What of a row's kept columns may leave: everything that stays home is emptied and counted by column."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.kept_columns import say_classes, unchecked_texts
from u2s_datasets.privacy.kept_numbers import box_fault, find_numbers, mask_fault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptColumns:
    """The columns that a user keeps, and how their values are judged.

    Args:
        features: their types.
        allow: those that may pass although they look identifying.
        holds_name: whether a recognizer of names finds one in a text; None where none is at hand. Then free texts of
            columns that are not allowed are emptied.
    """

    features: Mapping[str, Any] = field(default_factory=dict)
    allow: Sequence[str] = ()
    holds_name: Callable[[str], bool] | None = None

    @property
    def names_not_checked(self) -> list[str]:
        """The columns with texts in which nobody looked for names."""
        return unchecked_texts(self.features, self.allow, self.holds_name is not None)

    def judge(
        self,
        values: Mapping[str, Any],
        private: Sequence[str] = (),
        names: Sequence[str] = (),
        size: tuple[int, int] | None = None,
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """(the values with None in place of all that stays home, column -> how many that were).

        Args:
            values: the row's kept columns.
            private: texts that were found in its image.
            names: what its own file is called.
            size: (width, height) of the published image; None for a row that has none.
        """
        kept: dict[str, Any] = {}
        emptied: dict[str, int] = {}
        for name, value in values.items():
            kept[name], stopped = self._judge_one(name, value, private, names, size)
            if stopped:
                emptied[name] = stopped
        return kept, emptied

    def _judge_one(
        self, name: str, value: Any, private: Sequence[str], names: Sequence[str], size: tuple[int, int] | None
    ) -> tuple[Any, int]:
        feature = self.features.get(name)
        if name not in self.allow and size is not None and _fault(name, value, feature, size):
            return None, 1
        if self.holds_name is None and name not in self.allow and not say_classes(value):
            return None, len(list(identifying_text.iter_strings(value)))
        holds_name = None if self.holds_name is None else self._may_hold_name
        return identifying_text.withhold_texts(value, private, names, holds_name)

    def _may_hold_name(self, text: str) -> bool:
        try:
            return self.holds_name is None or self.holds_name(text)
        except Exception:  # noqa: BLE001  the row boundary: a recognizer raises anything on a text it was not made for
            log.debug("the recognizer failed on a kept text, which stays home", exc_info=True)
            return True


def _fault(name: str, value: Any, feature: Any, size: tuple[int, int]) -> str | None:
    """What is wrong with a box or mask of a value, beside its image; None if nothing is."""
    if feature is None:
        return None
    judges = {"box": box_fault, "mask": mask_fault}
    found = (f for f in find_numbers(value, feature, name) if f.kind in judges)
    return next((fault for f in found if (fault := judges[f.kind](f.value, size))), None)
