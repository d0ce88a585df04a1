"""Finds whole files inside other bytes: one short piece of each is looked for everywhere, then all of it is compared.

A thousand originals are looked for at once, in time that does not grow with their number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

_BITS = 24
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring values (Knuth, multiplicative hashing)
_CHUNK = 16 * 1024 * 1024
_VARIED = 6  # different bytes among eight: a run of zeros stands everywhere


class Needles:
    """Whole files to look for, kept as 8 bytes from within, a length and a digest each."""

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[int, int, bytes]]] = {}
        self.digests: set[bytes] = set()
        self._table: np.ndarray | None = None

    def add(self, data: bytes) -> None:
        """Look for this file, too; one without eight varied bytes is only known by its digest."""
        digest = hashlib.sha256(data).digest()
        if digest in self.digests:
            return
        self.digests.add(digest)
        for share in range(2, 31):  # from the middle outwards, where files are least alike
            at = len(data) * (share + 1) // 33
            piece = data[at : at + 8]
            if len(piece) == 8 and len(set(piece)) >= _VARIED:
                self._known.setdefault(int.from_bytes(piece, "little"), []).append((at, len(data), digest))
                self._table = None
                return

    def found_in(self, data: bytes) -> Iterator[int]:
        """The place of every known file that stands whole in these bytes."""
        if not self._known:
            return
        view = memoryview(data)
        for start in range(0, len(data), _CHUNK):
            for at in self._hits(view[start : start + _CHUNK + 7]):
                piece = int.from_bytes(data[start + at : start + at + 8], "little")
                for offset, length, digest in self._known.get(piece, ()):
                    first = start + at - offset
                    if first >= 0 and hashlib.sha256(view[first : first + length]).digest() == digest:
                        yield first

    def _hits(self, view: memoryview) -> list[int]:
        table = self._lookup()
        hits: list[int] = []
        for shift in range(min(8, max(0, len(view) - 7))):
            words = np.frombuffer(view, "<u8", count=(len(view) - shift) // 8, offset=shift)
            hits += (np.flatnonzero(table[_slots(words)]) * 8 + shift).tolist()
        return hits

    def _lookup(self) -> np.ndarray:
        if self._table is None:
            self._table = np.zeros(1 << _BITS, bool)
            self._table[_slots(np.array(list(self._known), np.uint64))] = True
        return self._table


def _slots(words: np.ndarray) -> np.ndarray:
    return (words * _FACTOR) >> np.uint64(64 - _BITS)
