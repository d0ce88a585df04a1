"""What of the private content survived. Pure functions on texts, embeddings and labels."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz

from u2s_datasets.parts import Box

NO_TEXT = "NO_TEXT"


def text_similarity(before: Sequence[str], after: Sequence[str]) -> float | None:
    """Token-set ratio of the words read in two images, range [0, 1]; lower means that less survived.

    rapidfuzz's `token_set_ratio` / 100 on case-folded words joined by spaces (the paper's TextSim). It is 1 as soon
    as one text's words are all in the other's, so `text_recall` stands beside it.

    Returns:
        The value; None where the original holds no words, so that nothing could survive.
    """
    first, second = (" ".join(words).casefold().strip() for words in (before, after))
    return fuzz.token_set_ratio(first, second) / 100 if first else None


def paper_text_similarity(before: Sequence[str], after: Sequence[str]) -> float:
    """TextSim as the paper's code has it, range [0, 1]: case counts, and no text is the word NO_TEXT.

    So two images without text have a similarity of 1, and a text is a little similar to no text.
    """
    first, second = (" ".join(words).strip() or NO_TEXT for words in (before, after))
    return fuzz.token_set_ratio(first, second) / 100


def text_recall(before: Sequence[str], after: Sequence[str]) -> float | None:
    """The share of the original's words that can still be read, range [0, 1]; lower means that less survived.

    |{i : w_i in after}| / |w| over the case-folded words w of the original, which are runs of letters and digits. A
    word counts at each of its places even if it survived at one of them only: that gives it away.

    Returns:
        The share; None where the original holds no words.
    """
    words, left = (re.findall(r"\w+", " ".join(texts).casefold()) for texts in (before, after))
    return sum(word in left for word in words) / len(words) if words else None


SAME = 0.2
"""Cosine of two ArcFace embeddings at and above which they count as one person.

The makers' own demonstration calls two faces the same from 0.28, "likely the same" from 0.2 and different below
(insightface, web-demos/src_recognition at f8aa2c1); 0.28 is also the threshold at a false accept rate of 0.1% on
LFW that is used against ArcFace (AdvFaces, Deb et al. 2020, issue 7). Ours is the lower end: a stranger taken for the
same person costs a row, a person taken for a stranger gives somebody away.
"""

CLEARLY_SAME = 0.28
"""The makers' "the same", at a false accept rate of 0.1%: of 5 × 5 faces 2.5% of the pictures show two so alike."""

OVERLAP = 0.3
"""Intersection over union at and above which two faces that are not alike stand in the same place."""


@dataclass(frozen=True)
class Face:
    """A face that an encoder found.

    Args:
        box: (x0, y0, x1, y1) in pixels.
        embedding: (D,) float; its length does not matter.
    """

    box: Box
    embedding: np.ndarray


@dataclass(frozen=True)
class FaceMatch:
    """What became of an original's faces.

    Args:
        before, after: faces found in the original and in the edited image.
        matched: originals with a counterpart of their own: the same person, or else a face in the same place.
        vanished: before - matched.
        new: after - matched.
        same: originals of which the edited image still shows the same person. Residue in the sense of law 4.
        similarity: mean over the originals of the highest cosine to any face of the edited image, in [-1, 1]; 0 for an
            edited image without a face, None for an original without one.
    """

    before: int
    after: int
    matched: int
    vanished: int
    new: int
    same: int
    similarity: float | None


def match_faces(before: Sequence[Face], after: Sequence[Face], same: float = SAME) -> FaceMatch:
    """Which faces of an original are still there; `similarity` in [-1, 1], lower means that faces were changed.

    mean_i max_j cos(b_i, a_j) (the paper's FaceSim): every face of the original counts by its nearest one, and by 0
    where the edited image shows no face. Every face counts: whether one was removed or overlooked, the counts of both
    sides say that it vanished.

    Args:
        before, after: the faces of the two images, whose pixels are aligned.
        same: cosine at and above which two faces are one person.

    Raises:
        ValueError: an embedding is zero or not finite.
    """
    if not before or not after:
        return FaceMatch(len(before), len(after), 0, len(before), len(after), 0, 0.0 if before else None)
    from scipy.optimize import linear_sum_assignment

    cosines = unit([f.embedding for f in before]) @ unit([f.embedding for f in after]).T
    people = cosines >= same
    places = np.array([[overlap(b.box, a.box) >= OVERLAP for a in after] for b in before])
    merits = 2.0 * people + 1.0 * places  # one pair of the same person outweighs one of the same place
    rows, columns = linear_sum_assignment(merits, maximize=True)
    matched = int((merits[rows, columns] > 0).sum())
    return FaceMatch(
        before=len(before),
        after=len(after),
        matched=matched,
        vanished=len(before) - matched,
        new=len(after) - matched,
        same=int(people.any(axis=1).sum()),
        similarity=float(cosines.max(axis=1).mean()),
    )


def unit(vectors: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(N, D) float32 rows of length 1. Raises `ValueError` for a row without a direction."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError("an embedding is zero or not finite; the encoder is broken")
    return rows / lengths


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / total if total > 0 else 0.0


RACES = {
    "White": "White",
    "Black": "Black",
    "Asian": "Asian",
    "Hispanic": "Hispanic",
    "Middle Eastern": "Other",
    "Indian": "Asian",
    "Other": "Other",
}
"""Every label that the prompt offers and the paper's class that it counts as."""
CLASSES = ("White", "Black", "Asian", "Hispanic", "Other")


@dataclass(frozen=True)
class RaceEntropy:
    """How evenly a set's people are spread over the five classes.

    Args:
        value: -Σ p log p / log 5, in [0, 1]; None where no image shows people.
        n: images with people, that is, with a label.
        without: images without people.
        missing: images that were not judged.
        counts: labels per class; an image counts once for each class that it shows.
    """

    value: float | None
    n: int
    without: int
    missing: int
    counts: dict[str, int]


def race_entropy(labels: Sequence[Sequence[str] | None], paper_compat: bool = False) -> RaceEntropy:
    """Spread of apparent races over a set, range [0, 1]; higher means more even, as the paper wants it.

    -Σ_k p_k log p_k / log K with K = 5 and p_k the share of class k among all labels (the paper's race entropy). The
    seven labels of the prompt become five by the fixed mapping `RACES`.

    Args:
        labels: per image the prompt's labels; [] where it shows nobody, None where it was not judged. Images without
            people are left out.
        paper_compat: as the paper's code: "Middle Eastern" and "Indian" are dropped, and no people is 0.

    Raises:
        ValueError: a label that the prompt does not offer.
    """
    known = [image for image in labels if image is not None]
    if strange := {label for image in known for label in image} - set(RACES):
        raise ValueError(f"unknown label {min(strange)!r}; expected one of: {', '.join(RACES)}")
    classes = {label: k for label, k in RACES.items() if label == k} if paper_compat else RACES
    counts = Counter(k for image in known for k in {classes[label] for label in image if label in classes})
    total, people = counts.total(), sum(bool(image) for image in known)
    value = 0.0 if paper_compat else None
    if total:
        entropy = -sum(n / total * math.log(n / total) for n in counts.values())
        value = abs(entropy / math.log(len(CLASSES)))  # a single class gives -0.0
    return RaceEntropy(
        value=value,
        n=people,
        without=len(known) - people,
        missing=len(labels) - len(known),
        counts={name: counts[name] for name in CLASSES},
    )
