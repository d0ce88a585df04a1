"""A dataset that went through the steps as a split to publish."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value
from PIL.Image import Image as Picture

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.report import Report, report
from u2s_datasets.images.stored import pixel_size
from u2s_datasets.parts import TextCheck
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.privacy.kept_values import KeptColumns
from u2s_datasets.publish.candidate import Candidate, caption_of, classes_of, rounded
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.runs.audit import Audit
from u2s_datasets.runs.identity import row_id
from u2s_datasets.sources.base import Item

_BATCH = 64


class DatasetSplit:
    """A `Dataset` or `IterableDataset`, read once in order; kept columns with numbers in a pass of their own.

    Args:
        data: it has the columns of `u2s.anonymize`.
        name: the split's; it enters the row ids, so that those of two splits differ and those of two variants do not.
        secret: key of the row ids.
        keep: columns of the source that leave as well, and scores, rounded.
        audit: what an audit by eye found.
        allow: kept columns that may leave although they look identifying; other exceptions are passed over.
        text_check: what looks for names in kept texts; None where nothing does.

    Raises:
        SetupError: it has no such columns, or its types are unknown.

    Attributes:
        available: the source's columns.
        kept_emptied: kept column -> values that were emptied.
        most_audited: how many rows an audit can have looked at, once all were read.
    """

    work: Path | None = None

    def __init__(
        self,
        data: Any,
        name: str,
        secret: bytes,
        keep: Sequence[str] | None = None,
        audit: Audit | None = None,
        allow: Sequence[str] = (),
        text_check: TextCheck | None = None,
    ) -> None:
        features = data.features
        if features is None:
            raise SetupError("this IterableDataset does not know its features; cast it: data.cast(features)")
        for needed in (c.ANONYMIZED_IMAGE, c.STATUS):
            if needed not in features:
                raise SetupError(f"the column {needed!r} is missing; map u2s.anonymize over the data first")
        for column in keep or ():
            if column not in features:
                raise SetupError(f"unknown column keep={column!r}; expected one of: {', '.join(features)}")
        self.kept = [column for column in keep or () if column not in c.SCORE]
        self.scores = [column for column in keep or () if column in c.SCORE]
        self.available = [n for n in features if n not in (*c.PUBLIC, *c.PRIVATE, *c.REVIEW, c.UNMEASURED)]
        self.rows: int | None = data.num_rows if isinstance(data, Dataset) else None
        self.audit, self.most_audited = audit, 0
        self.kept_emptied: Counter[str] = Counter()
        self.judged = KeptColumns(
            {name: features[name] for name in self.kept},
            [name for name in allow if name in self.kept],
            None if text_check is None else text_check.holds_name,
        )
        self._name, self._secret = name, secret
        self._images = [column for column, feature in features.items() if isinstance(feature, Image)]
        # Which column was anonymized stands nowhere, so an image is compared with all that may be its original.
        self._originals = [n for n, f in features.items() if _may_be_image(f) and n != c.ANONYMIZED_IMAGE]
        for column in self._images:
            data = data.cast_column(column, Image(decode=False))
        self._data = data
        self._reported = [n for n in (c.STATUS, c.NOTE, c.REASON, c.PRIVACY_REVIEW, *c.SCORE) if n in features]
        self._seen: list[dict[str, Any]] = []

    @cached_property
    def features(self) -> Features:
        """The typed columns that leave."""
        given = self._data.features
        public = c.features(name for name in c.PUBLIC if name == c.ROW_ID or name in given)
        kept = {name: given[name] for name in self.kept}
        return Features(public | kept | dict.fromkeys(self.scores, Value("float64")))

    def report(self) -> Report:
        """The numbers of the rows; of a stream, of those that were read."""
        if self.rows is not None:
            return report(self._data.select_columns(self._reported))
        features = Features({name: self._data.features[name] for name in self._reported})
        return report(Dataset.from_list(self._seen, features=features))

    def judge(self, gate: PublishGate) -> None:
        """Note what is wrong with the dataset as a whole."""
        for name, ours in c.features(name for name in c.PUBLIC if name != c.ROW_ID).items():
            given = self._data.features.get(name, ours)
            known = ("null", *(() if isinstance(ours, Image) else (ours.dtype, f"large_{ours.dtype}")))
            if not (isinstance(given, Image) if isinstance(ours, Image) else getattr(given, "dtype", "") in known):
                gate.note("column", f"the column {name!r} has the type {given}, which u2s.anonymize does not write")
        judged = self.judged
        try:
            check_kept(judged.features, self._values, judged.allow, judged.holds_name is not None, judged.holds_name)
        except SetupError as error:
            gate.note("kept", str(error))
        if not self._originals:
            gate.note("originals", "the dataset has no source image column")

    def _values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of every row."""
        yield from self._data.select_columns(list(names)).with_format(None)

    def candidates(self) -> Iterator[Candidate]:
        """Every row, in order."""
        batches = self._data.with_format(None).iter(batch_size=_BATCH)
        rows = (dict(zip(b, values, strict=True)) for b in batches for values in zip(*b.values(), strict=True))
        for number, row in enumerate(rows):
            if self.rows is None:  # a second pass over a mapped stream would edit every image again
                self._seen.append({name: row[name] for name in self._reported})
            yield self._candidate(number, row | {name: _encoded(row[name]) for name in self._images})

    def _candidate(self, number: int, row: Mapping[str, Any]) -> Candidate:
        original, *others = [row[name] for name in self._originals] or [None]
        names = [name for image in (original, *others) for name in Item("", image).own_names()]
        public = self._public(number, row, names) if row[c.ANONYMIZED_IMAGE] is not None else {}
        return Candidate(
            public=public,
            status=str(row[c.STATUS]),
            flagged=row.get(c.PRIVACY_FLAG) is not False,
            review=row.get(c.PRIVACY_REVIEW) or (),
            caption=caption_of(row, public),
            classes=classes_of(public, self.features),
            names=names,
            seed=row.get(c.SEED),
            scores={name: row.get(name) for name in c.SCORE},
            decision=row.get(c.REVIEW_DECISION),
            original=original,
            others=others,
        )

    def _public(self, number: int, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        review = row.get(c.PRIVACY_REVIEW) or ()
        private = [i["item"] for i in review if i["category"] != c.ERROR and i["item"]]
        values = {name: row[name] for name in self.kept}
        kept, emptied = self.judged.judge(values, private, names, pixel_size(row[c.ANONYMIZED_IMAGE]))
        self.kept_emptied.update(emptied)
        scores = {name: rounded(row[name]) for name in self.scores}
        public = {name: row[name] for name in c.PUBLIC if name in row}
        return {**public, **kept, **scores, c.ROW_ID: self._row_id(number, row)}

    def _row_id(self, number: int, row: Mapping[str, Any]) -> str:
        """The row's public name: a keyed digest, also of an id that it has, which may say what its file is called.

        Nothing in a dataset proves that an id is a run's, whatever columns stand beside it.
        """
        given = row.get(c.ROW_ID)
        place = f"{number}" if given is None else f"{c.ROW_ID} {given}"
        return row_id(self._secret, f"{self._name} {place}")

    def judge_rows(self, gate: PublishGate) -> None:
        """Note what shows only once every row was read."""
        self.most_audited = gate.publishable

    @property
    def names_not_checked(self) -> list[str]:
        """Kept columns with texts in which nobody looked for names."""
        return self.judged.names_not_checked

    def secrets(self) -> list[str]:
        """None: a dataset in memory has no place."""
        return []


def _may_be_image(feature: Any) -> bool:
    """Whether a column can hold encoded images: by its type, as bytes, or as a struct with bytes."""
    binary = type(feature) is Value and "binary" in feature.dtype
    return binary or isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _encoded(value: Any) -> Any:
    """An image as it would be stored: a mapped stream hands over what the step made, a picture."""
    return Image().encode_example(value) if isinstance(value, Picture) else value
