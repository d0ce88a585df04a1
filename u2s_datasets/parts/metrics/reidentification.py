"""The attack: does an anonymized image find its own original among all originals?

A similarity of two embeddings says little by itself; a rank in a gallery says what an attacker gains. Nothing here
holds more than one block of the gallery, so arrays may be `np.memmap`s of any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets.parts.metrics.privacy import unit

BLOCK = 1024
"""Rows of queries and of the gallery that are compared at once."""

_NOISE = 1e-6  # two products of the same numbers in another order differ by less


@dataclass(frozen=True)
class Rate:
    """How often the attack finds the original among the first k.

    Args:
        k: 1 or 5.
        n: queries.
        gallery: originals.
        found: queries whose original is among the first k.
        rate: found / n; none where n is 0.
        low, high: exact 95% binomial interval of the rate (Clopper and Pearson 1934).
        chance: the rate of a guess, min(k, gallery) / gallery.
    """

    k: int
    n: int
    gallery: int
    found: int
    rate: float | None
    low: float | None
    high: float | None
    chance: float | None

    @property
    def above_chance(self) -> bool | None:
        """Whether even the interval's lower end is above chance; none where nothing was tried."""
        return None if self.low is None or self.chance is None else self.low > self.chance


def ranks(queries: np.ndarray, gallery: np.ndarray, own: Sequence[int] | np.ndarray, block: int = BLOCK) -> np.ndarray:
    """The place of every query's own original in a gallery sorted by cosine, 1 being the first; higher is safer.

    1 + |{j : cos(q_i, g_j) > cos(q_i, g_own(i))}|. Ties count for the attacker: an original that is as near as
    another is found.

    Args:
        queries: (Q, D) embeddings of the anonymized images.
        gallery: (G, D) embeddings of all originals.
        own: (Q,) the row of the gallery that each query was made from.
        block: rows that are compared at once.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: an embedding has no direction, or `own` names no row of the gallery.
    """
    index = np.arange(len(queries))
    return group_ranks(queries, index, gallery, np.arange(len(gallery)), np.asarray(own, np.int64), block)


def group_ranks(
    queries: np.ndarray,
    query_of: np.ndarray,
    gallery: np.ndarray,
    gallery_of: np.ndarray,
    own: np.ndarray,
    block: int = BLOCK,
) -> np.ndarray:
    """`ranks` where an image has several embeddings, one per face: two images are as near as their nearest faces.

    Args:
        queries: (Q, D) embeddings; `query_of`: (Q,) the image of each, ascending, 0, 1, 2, … without gaps.
        gallery, gallery_of: the same of the originals.
        own: per query image the gallery's image that it was made from.
        block: embeddings that are compared at once; an image's own are never divided.
    """
    if len(own) and not (own.min() >= 0 and own.max() < _images(gallery_of)):
        raise ValueError(f"own names an original outside the gallery of {_images(gallery_of)}")
    found = np.ones(_images(query_of), np.int64)
    starts = np.flatnonzero(np.diff(gallery_of, prepend=-1))
    ends = np.append(starts[1:], len(gallery_of))
    for first, a, b in _blocks(query_of, block):
        rows, offsets = unit(queries[a:b]), _offsets(query_of[a:b])
        images = range(first, first + len(offsets))
        stops = [*offsets[1:], b - a]
        ours = np.array(
            [
                (rows[s:e] @ unit(gallery[starts[own[i]] : ends[own[i]]]).T).max()
                for i, s, e in zip(images, offsets, stops, strict=True)
            ]
        )
        for _, c, d in _blocks(gallery_of, block):
            near = np.maximum.reduceat(rows @ unit(gallery[c:d]).T, offsets, axis=0)
            near = np.maximum.reduceat(near, _offsets(gallery_of[c:d]), axis=1)
            found[first : first + len(offsets)] += (near > ours[:, None] + _NOISE).sum(axis=1)
    return found


def rate(places: np.ndarray, gallery: int, k: int) -> Rate:
    """How often the original is among the first k, range [0, 1]; lower is safer, chance is min(k, gallery) / gallery.

    Args:
        places: (Q,) what `ranks` gave.
        gallery: the number of originals.
        k: how many the attacker may look at.
    """
    n, found = len(places), int((places <= k).sum())
    if not n or not gallery:
        return Rate(k, n, gallery, found, None, None, None, None)
    low, high = exact_interval(found, n)
    return Rate(k, n, gallery, found, found / n, low, high, min(k, gallery) / gallery)


def exact_interval(found: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of found / n (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(found, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def _images(of: np.ndarray) -> int:
    return int(of[-1]) + 1 if len(of) else 0


def _offsets(of: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(of, prepend=of[0] - 1))


def _blocks(of: np.ndarray, block: int) -> Iterator[tuple[int, int, int]]:
    """(first image, start, stop) of stretches of whole images of about `block` rows."""
    start = 0
    while start < len(of):
        stop = min(start + block, len(of))
        if stop < len(of) and of[stop - 1] == of[stop]:
            cut = int(np.searchsorted(of, of[stop], "left"))
            stop = cut if cut > start else int(np.searchsorted(of, of[stop], "right"))
        yield int(of[start]), start, stop
        start = stop
