"""A dataset that went through the steps as a split to publish."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.executor.pipeline import own_names
from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.publish.audit import Audit
from u2s_datasets.publish.candidate import DECISION, Candidate, caption_of, classes_of, rounded
from u2s_datasets.publish.gate import Gate
from u2s_datasets.runs.writer import row_id
from u2s_datasets.sources.base import Item, Source

if TYPE_CHECKING:
    from datasets import Features

    from u2s_datasets.evaluation.report.report import Report

_NEEDED = (c.ANONYMIZED_IMAGE, c.STATUS)
_BATCH = 64


class DatasetSplit:
    """A `Dataset` or `IterableDataset`, read once in order; kept columns with numbers in a pass of their own.

    Args:
        data: it has the columns of `u2s.anonymize`.
        keep: columns of the source that leave as well, and scores, rounded.
        name: the split's; it enters the row ids, so that those of two splits differ and those of two variants do not.
        secret: key of the row ids; only rows of a run come with theirs.
        audit: what an audit by eye found.

    Raises:
        SetupError: it has no such columns, or its types are unknown.
    """

    run: Mapping[str, Any] = {}  # noqa: RUF012  never written
    work: Path | None = None

    def __init__(
        self, data: Any, name: str, secret: bytes, keep: Sequence[str] | None = None, audit: Audit | None = None
    ) -> None:
        from datasets import Dataset, Image

        if data.features is None:
            raise SetupError("this IterableDataset does not know its features; cast it: data.cast(features)")
        for needed in _NEEDED:
            if needed not in data.features:
                raise SetupError(f"there is no column {needed!r}; map u2s.anonymize over the data first")
        self.kept, self.audit = [name for name in keep or () if name not in c.SCORE], audit
        self.scores = [name for name in keep or () if name in c.SCORE]
        self.rows: int | None = data.num_rows if isinstance(data, Dataset) else None
        for kept in (*self.kept, *self.scores):
            if kept not in data.features:
                raise SetupError(f"keep={kept!r} is no column; the columns are {list(data.features)}")
        self._secret, self._name = secret, name
        pictures = [n for n, f in data.features.items() if isinstance(f, Image)]
        for picture in pictures:
            data = data.cast_column(picture, Image(decode=False))
        # Which column was anonymized stands nowhere, so an image is compared with all that may be its original.
        self._originals = [n for n, f in data.features.items() if _may_be_image(f) and n != c.ANONYMIZED_IMAGE]
        self._pictures = pictures
        self._data, self._seen = data, list[dict[str, Any]]()
        measured = (c.STATUS, c.NOTE, c.REASON, c.PRIVACY_REVIEW, *c.SCORE)
        self._measured = [name for name in measured if name in data.features]
        self._provenance: Counter[str] = Counter()
        self.kept_texts_withheld = 0

    @cached_property
    def features(self) -> Features:
        """The typed columns that leave."""
        from datasets import Value

        features = c.features(name for name in c.PUBLIC if name == c.ROW_ID or name in self._data.features)
        features.update({name: self._data.features[name] for name in self.kept})
        features.update({name: Value("float64") for name in self.scores})
        return features

    def report(self) -> Report:
        """The numbers of the rows; of a stream, of those that were read."""
        from datasets import Dataset, Features

        from u2s_datasets.evaluation.report.report import report

        if self.rows is not None:
            return report(self._data.select_columns(self._measured))
        features = Features({name: self._data.features[name] for name in self._measured})
        return report(Dataset.from_list(self._seen, features=features))

    def judge(self, gate: Gate) -> None:
        """Note what is wrong with the dataset as a whole."""
        try:
            check_kept(_Kept(self), [name for name in gate.allow if name in self.kept])
        except SetupError as error:
            gate.note("kept", str(error))
        if not self._originals:
            gate.note("originals", "the dataset has no source image column")

    def candidates(self) -> Iterator[Candidate]:
        """Every row, in order."""
        number = 0
        for batch in self._data.with_format(None).iter(batch_size=_BATCH):
            names = list(batch)
            for values in zip(*(batch[name] for name in names), strict=True):
                row = dict(zip(names, values, strict=True))
                if self.rows is None:  # a second pass over a mapped stream would edit every image again
                    self._seen.append({name: row[name] for name in self._measured})
                yield self._candidate(number, row | {name: _stored(row[name]) for name in self._pictures})
                number += 1

    def _candidate(self, number: int, row: Mapping[str, Any]) -> Candidate:
        original, *others = [row[name] for name in self._originals] or [None]
        path = original.get("path") if isinstance(original, Mapping) else None
        names = [name for image in (original, *others) for name in own_names(Item("", image))]
        public = self._public(number, row, names) if row[c.ANONYMIZED_IMAGE] is not None else {}
        self._provenance[str(row.get(c.PROVENANCE) or "")] += bool(public)
        return Candidate(
            public=public,
            status=str(row[c.STATUS]),
            flagged=row.get(c.PRIVACY_FLAG) is not False,
            review=row.get(c.PRIVACY_REVIEW) or (),
            caption=caption_of(row, public),
            classes=classes_of(public, self.features),
            names=names,
            source=path or "",
            seed=row.get(c.SEED),
            scores={name: row.get(name) for name in c.SCORE},
            decision=row.get(DECISION),
            original=original,
            others=others,
        )

    def _public(self, number: int, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        review = row.get(c.PRIVACY_REVIEW) or ()
        private = [i["item"] for i in review if i["category"] != c.ERROR and i["item"]]
        kept, stopped = identifying_text.withhold_texts({name: row[name] for name in self.kept}, private, names)
        self.kept_texts_withheld += stopped
        scores = {name: rounded(row[name]) for name in self.scores}
        public = {name: row[name] for name in c.PUBLIC if name in row}
        return {**public, **kept, **scores, c.ROW_ID: self._identity(number, row)}

    def _identity(self, number: int, row: Mapping[str, Any]) -> str:
        """The row's public name: a run's own, else a keyed digest, for a source's ids may say what its files are."""
        given = row.get(c.ROW_ID)
        if given is not None and c.SOURCE in row and c.REASON in row:
            return str(given)
        place = f"{number}" if given is None else f"{c.ROW_ID} {given}"
        return row_id(self._secret, f"{self._name} {place}")

    def facts(self) -> dict[str, Any]:
        """What the provenance of the published rows says: editors, versions, whether they were verified."""
        read = [json.loads(text) for text in self._provenance if text and self._provenance[text]]
        edited = [facts for facts in read if facts.get("editor")]
        return {
            "verified": bool(read) and "" not in +self._provenance and all(f.get("verified") for f in read),
            "editors": list({json.dumps(f["editor"], sort_keys=True): f["editor"] for f in edited}.values()),
            "categories": sorted({name for f in read for name in f.get("inspected", ())}),
            "versions": read[0].get("versions", {}) if read else {},
        }

    def judge_rows(self, gate: Gate) -> None:
        """Note what shows only once every row was read."""
        if not self.facts()["verified"]:
            gate.note("unverified", "some rows' provenance does not say that they were inspected again")

    def secrets(self) -> list[str]:
        """None: a dataset in memory has no place."""
        return []


def _may_be_image(feature: Any) -> bool:
    """Whether a column can hold encoded images: by its type, as bytes, or as a struct with bytes."""
    from datasets import Image, Value

    binary = type(feature) is Value and "binary" in feature.dtype
    return binary or isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _stored(value: Any) -> Any:
    """An image as it would be stored: a mapped stream hands over what the step made, a picture."""
    from datasets import Image
    from PIL.Image import Image as Picture

    return Image().encode_example(value) if isinstance(value, Picture) else value


class _Kept(Source):
    """The kept columns, as `check_kept` reads those of a source."""

    def __init__(self, split: DatasetSplit) -> None:
        self.kept = {name: split._data.features[name] for name in split.kept}
        self._data = split._data

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of every row."""
        yield from self._data.select_columns(list(names)).with_format(None)
