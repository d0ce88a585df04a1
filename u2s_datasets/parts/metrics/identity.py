"""Whether an edited image still shows a person of its original (law 9). Pure functions on what a face network says.

Two questions, two thresholds. At the place of a face the original's own person must not stand, so the loose threshold
asks: a stranger who is taken for that person costs an attempt. Everywhere else she is one of many, and of 5 × 5 faces
some are always a little alike, so there the strict one asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets.parts import Box
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.privacy import OVERLAP, overlap, unit

_SAME_READING = 0.5  # intersection over union of two boxes from which their crops show the same


@dataclass(frozen=True)
class KnownFace:
    """A face of an original.

    Args:
        box: (x0, y0, x1, y1) in pixels.
        embeddings: (N, D) float32 of length 1, as the face is and mirrored; empty where none can be trusted: the face
            is too small, or the network does not read it.
    """

    box: Box
    embeddings: np.ndarray


@dataclass(frozen=True)
class Survivors:
    """What an edited image still shows of its original's people; each box is in its pixels.

    Args:
        same: faces that show a person of the original.
        unread: what looks like a face, at the place of one, and cannot be read; another attempt may be.
        unknown: faces at the place of one of which nobody can tell who it was; no attempt changes that.
    """

    same: tuple[Box, ...]
    unread: tuple[Box, ...] = ()
    unknown: tuple[Box, ...] = ()


def known_faces(encoder: FaceEncoder, image: np.ndarray, boxes: Sequence[Box]) -> list[KnownFace]:
    """The faces of an original, mirrored ones too: a mirrored person is the same person.

    Args:
        encoder: the face network.
        image: (H, W, 3) uint8 RGB.
        boxes: where its faces are.

    Raises:
        ValueError: an embedding is zero or not finite.
    """
    width = image.shape[1]
    readings = (
        encoder.embed_at(image, boxes),
        encoder.embed_at(
            np.ascontiguousarray(image[:, ::-1]), [(width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in boxes]
        ),
    )
    return [
        KnownFace(box, _trusted(encoder, box, [face.embedding for face in pair if face is not None]))
        for box, *pair in zip(boxes, *readings, strict=True)
    ]


def find_survivors(
    encoder: FaceEncoder,
    originals: Sequence[KnownFace],
    image: np.ndarray,
    found: Sequence[Box],
    same: float | None = None,
) -> Survivors:
    """Who of an original's people an edited image still shows.

    Every face that was found in it is compared with every one of the original: with those at its own place by
    `encoder.same`, with all others by `encoder.same_elsewhere`. Where nothing was found at the place of an original's
    face, that place is read all the same: a face that one detector overlooks is a face.

    Args:
        encoder: the network that made `originals`.
        originals: of `known_faces`.
        image: the edited image, (H, W, 3) uint8 RGB, whose pixels are aligned with the original's.
        found: where a detector finds faces in it.
        same: in place of `encoder.same`.

    Raises:
        ValueError: an embedding is zero or not finite.
    """
    at_place = encoder.same if same is None else same
    unseen = [known.box for known in originals if all(overlap(known.box, box) < _SAME_READING for box in found)]
    places = [*dict.fromkeys(found), *unseen]
    survived, unread, unknown = [], [], []
    for box, face in zip(places, encoder.embed_at(image, places), strict=True):
        here = [known for known in originals if overlap(known.box, box) >= OVERLAP]
        seen = _trusted(encoder, box, [] if face is None else [face.embedding])
        if any(
            _likeness(known, seen) >= (at_place if known in here else encoder.same_elsewhere) for known in originals
        ):
            survived.append(box)
        elif here and (face is not None or box in found):
            if not all(len(known.embeddings) for known in here):
                unknown.append(box)
            elif not len(seen):
                unread.append(box)
    return Survivors(tuple(survived), tuple(unread), tuple(unknown))


def _likeness(known: KnownFace, seen: np.ndarray) -> float:
    """The highest cosine to the face or its mirror image; -1 where there is nothing to compare."""
    return float((known.embeddings @ seen.T).max()) if len(known.embeddings) and len(seen) else -1.0


def _trusted(encoder: FaceEncoder, box: Box, embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """(N, D) of length 1; none of a face that is too small to be told from others."""
    is_large = min(box[2] - box[0], box[3] - box[1]) >= encoder.smallest
    return unit(embeddings) if embeddings and is_large else np.zeros((0, 0), np.float32)
