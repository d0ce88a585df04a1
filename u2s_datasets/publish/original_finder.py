"""Finds whole files inside other bytes: one short piece of each is looked for everywhere, then all of it is compared.

A thousand originals are looked for at once, in time that does not grow with their number.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

_BITS = 24
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring values (Knuth, multiplicative hashing)
_CHUNK = 16 * 1024 * 1024
_VARIED = 6  # different bytes among eight: a run of zeros stands everywhere


class OriginalFinder:
    """Whole files to look for, kept as 8 bytes from within, a length and a digest each."""

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[int, int, bytes]]] = {}
        self._digests: set[bytes] = set()
        self._table = np.zeros(1 << _BITS, bool)  # a filter: the slots of all pieces, looked up before the dict

    def add(self, data: bytes) -> None:
        """Look for this file, too. One without eight varied bytes in a row is not looked for."""
        digest = hashlib.sha256(data).digest()
        if digest in self._digests:
            return
        self._digests.add(digest)
        for share in range(2, 31):  # behind the head, where files are most alike
            at = len(data) * (share + 1) // 33
            piece = data[at : at + 8]
            if len(piece) == 8 and len(set(piece)) >= _VARIED:
                self._known.setdefault(int.from_bytes(piece, "little"), []).append((at, len(data), digest))
                self._table[_slots(np.frombuffer(piece, "<u8"))] = True
                return

    def found_in(self, data: bytes) -> Iterator[int]:
        """The offset of every known file that stands whole in these bytes."""
        view = memoryview(data)
        for start in range(0, len(data), _CHUNK):
            for at in self._hits(view[start : start + _CHUNK + 7]):  # a piece may begin at a chunk's last byte
                piece = int.from_bytes(view[start + at : start + at + 8], "little")
                for offset, length, digest in self._known.get(piece, ()):
                    first = start + at - offset
                    if first >= 0 and hashlib.sha256(view[first : first + length]).digest() == digest:
                        yield first

    def _hits(self, view: memoryview) -> list[int]:
        """Where eight bytes may be a known piece. They are read as numbers at each of the eight alignments."""
        hits: list[int] = []
        for shift in range(min(8, max(0, len(view) - 7))):
            words = np.frombuffer(view, "<u8", count=(len(view) - shift) // 8, offset=shift)
            hits += (np.flatnonzero(self._table[_slots(words)]) * 8 + shift).tolist()
        return hits


def _slots(words: np.ndarray) -> np.ndarray:
    return (words * _FACTOR) >> np.uint64(64 - _BITS)
