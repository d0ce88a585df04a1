"""The embeddings of a set on disk, and the attack on them: which anonymized image finds its own original."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from u2s_datasets.parts.metrics.reidentification import Rate, group_ranks, rate

KS = (1, 5)


@dataclass(frozen=True)
class Attack:
    """The re-identification by one encoder.

    Args:
        encoder: "clip" (the whole image) or "face".
        kind: "edited" for the anonymized images; "no-op", where each original seeks itself, and "shuffled", where
            each anonymized image is to find another's original: the controls.
        rates: rank 1 and rank 5.
        without: queries that could not be tried, since the image or its original has no embedding.
    """

    encoder: str
    kind: str
    rates: tuple[Rate, ...]
    without: int


class Gallery:
    """Embeddings of originals and of edited images, appended to files, so that a set of any length fits.

    Args:
        folder: an empty folder for them. Private: embeddings of originals recognise them.
        encoder: their name.
    """

    def __init__(self, folder: Path, encoder: str) -> None:
        self.encoder, self.width = encoder, 0
        self._files = {side: (folder / f"{encoder}.{side}").open("w+b") for side in ("before", "after")}
        self._rows: dict[str, list[int]] = {"before": [], "after": []}

    def add(self, row: int, before: np.ndarray, after: np.ndarray | None) -> None:
        """One row's embeddings, rows in ascending order.

        Args:
            row: its number.
            before: (N, D) of the original; N is 0 where it shows no face.
            after: (N, D) of the edited image; none where it is not to be tried.
        """
        for side, values in (("before", before), ("after", after)):
            if values is None or not len(values):
                continue
            values = np.asarray(values, np.float32)
            sound = np.isfinite(values).all(axis=1) & (np.abs(values) > 0).any(axis=1)
            self.width = values.shape[1]
            self._files[side].write(values[sound].tobytes())
            self._rows[side] += [row] * int(sound.sum())

    def attacks(self, queries: int, seed: int = 0) -> Iterator[Attack]:
        """The attack and its two controls.

        Args:
            queries: how many anonymized images there are, with an embedding or without.
            seed: of the shuffling.
        """
        (before, before_of, originals), (after, after_of, edited) = (self._open(side) for side in ("before", "after"))
        where = {row: i for i, row in enumerate(originals)}
        tried = np.array([row in where for row in edited], bool)
        keep = tried[after_of] if len(after_of) else np.zeros(0, bool)
        after, after_of = after[keep] if not keep.all() else after, _numbered(after_of[keep])
        own = np.array([where[row] for row, known in zip(edited, tried, strict=True) if known], np.int64)
        without = queries - len(own)
        yield self._attack("edited", group_ranks(after, after_of, before, before_of, own), len(originals), without)
        itself = np.arange(len(originals))
        yield self._attack("no-op", group_ranks(before, before_of, before, before_of, itself), len(originals), 0)
        other = np.random.default_rng(seed).integers(0, max(1, len(originals)), len(own))
        places = group_ranks(after, after_of, before, before_of, other)
        yield self._attack("shuffled", places, len(originals), without)

    def _attack(self, kind: str, places: np.ndarray, gallery: int, without: int) -> Attack:
        return Attack(self.encoder, kind, tuple(rate(places, gallery, k) for k in KS), without)

    def _open(self, side: str) -> tuple[np.ndarray, np.ndarray, Sequence[int]]:
        """(embeddings, the image of each, numbered without gaps, the row of each image)."""
        self._files[side].flush()
        rows = np.array(self._rows[side], np.int64)
        shape = (len(rows), self.width)
        values = (
            np.memmap(self._files[side], np.float32, "r", shape=shape) if rows.size else np.zeros(shape, np.float32)
        )
        return values, _numbered(rows), list(dict.fromkeys(self._rows[side]))

    def close(self) -> None:
        """Let go of the files; who gave the folder removes it."""
        for file in self._files.values():
            file.close()


def _numbered(values: np.ndarray) -> np.ndarray:
    """Ascending numbers as 0, 1, 2, … without gaps."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64) if values.size else np.zeros(0, np.int64)
