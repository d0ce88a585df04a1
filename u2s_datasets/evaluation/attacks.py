"""The embeddings of a set on disk, and the attack on them: which anonymized image finds its own original."""

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
        kind: "edited" for the anonymized images; and the controls: "no-op", where each original seeks itself, and
            "shuffled", where each anonymized image seeks another's original.
        rates: at rank 1 and rank 5.
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
        """One row's embeddings, rows in ascending order. An embedding that is zero or not finite is left out.

        Args:
            row: its number.
            before: (N, D) of the original; N is 0 for an image without a face.
            after: (N, D) of the edited image; None where it is not to be tried.
        """
        for side, values in (("before", before), ("after", after)):
            if values is not None and len(values):
                values = np.asarray(values, np.float32)
                usable = values[np.isfinite(values).all(axis=1) & (values != 0).any(axis=1)]
                self.width = values.shape[1]
                self._files[side].write(usable.tobytes())
                self._rows[side] += [row] * len(usable)

    def attacks(self, queries: int, seed: int = 0) -> Iterator[Attack]:
        """The attack and its two controls.

        Args:
            queries: the number of anonymized images, with or without an embedding.
            seed: of the shuffling.
        """
        before, before_of, originals = self._open("before")
        after, after_of, edited = self._open("after")
        position = {row: i for i, row in enumerate(originals)}
        tried = np.array([row in position for row in edited], bool)
        if not tried.all():  # indexing copies, which a whole file on the disk is spared
            after, after_of = after[tried[after_of]], _renumbered(after_of[tried[after_of]])
        own = np.array([position[row] for row in edited if row in position], np.int64)
        itself = np.arange(len(originals))
        other = np.random.default_rng(seed).integers(0, max(1, len(originals)), len(own))
        without = queries - len(own)
        yield self._attack("edited", group_ranks(after, after_of, before, before_of, own), without)
        yield self._attack("no-op", group_ranks(before, before_of, before, before_of, itself), 0)
        yield self._attack("shuffled", group_ranks(after, after_of, before, before_of, other), without)

    def _attack(self, kind: str, places: np.ndarray, without: int) -> Attack:
        gallery = len(set(self._rows["before"]))
        return Attack(self.encoder, kind, tuple(rate(places, gallery, k) for k in KS), without)

    def _open(self, side: str) -> tuple[np.ndarray, np.ndarray, Sequence[int]]:
        """(embeddings, the image of each, numbered without gaps, the row of each image)."""
        self._files[side].flush()
        rows = self._rows[side]
        shape = (len(rows), self.width)
        values = np.memmap(self._files[side], np.float32, "r", shape=shape) if rows else np.zeros(shape, np.float32)
        return values, _renumbered(np.array(rows, np.int64)), list(dict.fromkeys(rows))

    def close(self) -> None:
        """Close the files; who gave the folder removes it."""
        for file in self._files.values():
            file.close()


def _renumbered(values: np.ndarray) -> np.ndarray:
    """Ascending numbers as 0, 1, 2, … without gaps."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
