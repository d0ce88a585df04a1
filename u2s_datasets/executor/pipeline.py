"""What a worker does with a chunk of rows: all steps on images that are decoded once, then what may be said of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import RowError
from u2s_datasets.images.stored import pixel_size
from u2s_datasets.parts import Part, TextCheck
from u2s_datasets.privacy.kept_values import KeptColumns
from u2s_datasets.runs.identity import row_id
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.batch import Row, class_names
from u2s_datasets.stages.profiles import Profile

_IMAGE = columns.ANONYMIZED_IMAGE


@dataclass(frozen=True)
class Pipeline:
    """Items in, private and public columns out.

    Args:
        profile: the steps.
        secret: key of the row ids.
        kept: the typed columns that the user keeps, of which a step may read some.
        allow: those of them that may leave although they look identifying.
        text_check: what looks for names in their texts; None where nothing does.
    """

    profile: Profile
    secret: bytes
    kept: Mapping[str, Any] = field(default_factory=dict)
    allow: Sequence[str] = ()
    text_check: TextCheck | None = None

    def prepare(self) -> None:
        """Load every model, so that one that cannot be loaded stops the run before its first row.

        Raises:
            SetupError: naming the part and what is wrong with it.
        """
        editing = list(parts_of(self.profile.anonymize))
        checking = () if self.text_check is None else (self.text_check,)
        for part in (*editing, *(p for p in parts_of(self.profile.score) if p not in editing), *checking):
            _ = part.loaded  # loads it

    def __call__(self, items: Sequence[Item], given: Sequence[Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Items to one dict each: private and public columns, and under "kept" the columns that the user keeps.

        Args:
            items: what to work on.
            given: per item, columns for the steps to read, such as boxes.
        """
        fields: Sequence[Mapping[str, Any]] = given if given is not None else [{}] * len(items)
        rows = [Row(item.image, self.read(item, own)) for item, own in zip(items, fields, strict=True)]
        self.finish(rows)
        return [self.answer(item, row.fields) for item, row in zip(items, rows, strict=True)]

    def finish(self, rows: list[Row]) -> None:
        """The last two steps, of which the first runs what is missing of those before it, and the quality gate."""
        self.profile.anonymize.run(rows)
        self.profile.score.run(rows)
        if self.profile.gate is not None:
            self.profile.gate.run(rows)

    def crashed(self, item: Item) -> dict[str, Any]:
        """The answer for an item that killed its process. It stays: the same command later does not try it again."""
        return self.withheld(item, RowError("the process that worked on this row died", "worker_died"))

    def withheld(self, item: Item, error: RowError) -> dict[str, Any]:
        """The answer for an item that could not be worked on."""
        row = Row(None, {})
        row.fail(error)
        self.profile.anonymize.run([row])
        return self.answer(item, row.fields)

    def read(self, item: Item, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields that the steps need of an item, and those that are given."""
        own = own or {}
        names = [name for name in self.profile.anonymize.required() if name not in own]
        return {name: class_names(self.kept[name], [item.kept[name]])[0] for name in names} | dict(own)

    @property
    def _judged(self) -> KeptColumns:
        holds_name = None if self.text_check is None else self.text_check.holds_name
        return KeptColumns(self.kept, self.allow, holds_name)

    def answer(self, item: Item, fields: dict[str, Any]) -> dict[str, Any]:
        """What is written of an item: a row's columns, its identity, and the kept columns that do not identify it."""
        review = fields.get(columns.PRIVACY_REVIEW) or ()
        private = [i["item"] for i in review if i["category"] != columns.ERROR and i["item"]]
        kept, emptied = self._judged.judge(item.kept, private, item.own_names(), pixel_size(fields[_IMAGE]))
        identity = {columns.ROW_ID: row_id(self.secret, item.source), columns.SOURCE: item.source}
        return {**fields, **identity, "kept": kept, "kept_emptied": emptied}


def parts_of(part: Part) -> Iterator[Part]:
    """A part and all the parts in its fields."""
    yield part
    for value in vars(part).values():
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Part):
                yield from parts_of(inner)
