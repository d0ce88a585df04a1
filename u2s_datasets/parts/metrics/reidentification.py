"""The attack: does an anonymized image find its own original among all originals?

A similarity of two embeddings says little by itself; a rank in a gallery says what an attacker gains. Only one block
of the gallery is in memory at a time, so arrays may be `np.memmap`s of any length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets.parts.metrics.intervals import rate_interval
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
        rate: found / n; None where n is 0.
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
        ValueError: an embedding has no direction, or `own` names a row outside the gallery.
    """
    query_of, gallery_of = np.arange(len(queries)), np.arange(len(gallery))
    return group_ranks(queries, query_of, gallery, gallery_of, np.asarray(own, np.int64), block)


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
    places = np.ones(_images(query_of), np.int64)
    starts = _offsets(gallery_of)
    ends = np.append(starts[1:], len(gallery_of))
    for first, a, b in _blocks(query_of, block):
        rows, offsets = unit(queries[a:b]), _offsets(query_of[a:b])
        stops = [*offsets[1:], b - a]
        originals = own[first : first + len(offsets)]
        pairs = zip(originals, offsets, stops, strict=True)
        own_cosine = np.array([(rows[s:e] @ unit(gallery[starts[i] : ends[i]]).T).max() for i, s, e in pairs])
        for _, c, d in _blocks(gallery_of, block):
            near = np.maximum.reduceat(rows @ unit(gallery[c:d]).T, offsets, axis=0)
            near = np.maximum.reduceat(near, _offsets(gallery_of[c:d]), axis=1)
            places[first : first + len(offsets)] += (near > own_cosine[:, None] + _NOISE).sum(axis=1)
    return places


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
    low, high = rate_interval(found, n)
    return Rate(k, n, gallery, found, found / n, low, high, min(k, gallery) / gallery)


def _images(of: np.ndarray) -> int:
    return int(of[-1]) + 1 if len(of) else 0


def _offsets(of: np.ndarray) -> np.ndarray:
    """Where each image's embeddings begin."""
    return np.flatnonzero(np.diff(of, prepend=-1))


def _blocks(of: np.ndarray, block: int) -> Iterator[tuple[int, int, int]]:
    """(first image, start, stop) of runs of whole images, about `block` embeddings each."""
    start = 0
    while start < len(of):
        stop = min(start + block, len(of))
        if stop < len(of) and of[stop - 1] == of[stop]:  # within an image: cut before it, unless it fills the block
            cut = int(np.searchsorted(of, of[stop], "left"))
            stop = cut if cut > start else int(np.searchsorted(of, of[stop], "right"))
        yield int(of[start]), start, stop
        start = stop
