"""How often `u2s.DlibFaces` is wrong, in Markdown: `python docs/scripts/measure_identity.py FOLDER`.

FOLDER holds labels.jsonl, a line for each picture: {"file": "a.jpg", "faces": [[x, y, width, height], …] or null,
"same_as": "b.jpg" or null}. Every face counts as another person, but for pictures that `same_as` ties together. The
100 faces of scikit-image's `lfw_subset`, which no threshold was chosen by, are measured as well.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data

import u2s_datasets as u2s
from u2s_datasets import images
from u2s_datasets.parts import Box
from u2s_datasets.parts.metrics.identity import find_survivors, known_faces
from u2s_datasets.parts.metrics.privacy import overlap, unit

ENCODER = u2s.DlibFaces()
LFW = skimage.data.lfw_subset()  # (200, 25, 25), of which the first 100 are faces
SIZES = ((0, 16), (16, 24), (24, 48), (48, 10_000))  # shorter sides of faces in pixels
Altered = tuple[np.ndarray, Box]


class Known(NamedTuple):
    """A face: its picture's file, the picture, its box there and its embedding; persons by number."""

    file: str
    image: np.ndarray
    box: Box
    embedding: np.ndarray
    person: int

    @property
    def size(self) -> float:
        """The shorter side in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])


def _mirror(image: np.ndarray, box: Box) -> Altered:
    width = image.shape[1]
    return np.ascontiguousarray(image[:, ::-1]), (width - box[2], box[1], width - box[0], box[3])


def _jpeg(image: np.ndarray, box: Box) -> Altered:
    stored = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR)), box


def _half(image: np.ndarray, box: Box) -> Altered:
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1]), box


def _dark(image: np.ndarray, box: Box) -> Altered:
    return (image * 0.4).astype(np.uint8), box


def _shift(image: np.ndarray, box: Box) -> Altered:
    step = 0.15 * max(box[2] - box[0], box[3] - box[1])
    move = np.array([[1, 0, step], [0, 1, step / 2]])
    moved = cv2.warpAffine(image, move, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return moved, (box[0] + step, box[1] + step / 2, box[2] + step, box[3] + step / 2)


def _turn(image: np.ndarray, box: Box) -> Altered:
    about = cv2.getRotationMatrix2D(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), 12, 1)
    return cv2.warpAffine(image, about, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT), box


def _noise(image: np.ndarray, box: Box) -> Altered:
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), box


def _blur(image: np.ndarray, box: Box) -> Altered:
    return cv2.GaussianBlur(image, (0, 0), 0.06 * max(box[2] - box[0], box[3] - box[1])), box


ALTERED: dict[str, Callable[[np.ndarray, Box], Altered]] = {
    "mirrored": _mirror,
    "JPEG 20": _jpeg,
    "half size and back": _half,
    "dark (× 0.4)": _dark,
    "shifted by 15% of the face": _shift,
    "turned by 12°": _turn,
    "noise, σ 25": _noise,
    "blurred, σ 6% of the face": _blur,
}


def read(folder: Path) -> list[Known]:
    """Every face of the folder that is labelled and found; of a picture with `same_as`, its largest face."""
    lines = [json.loads(line) for line in (folder / "labels.jsonl").read_text("utf-8").splitlines()]
    person = _persons(lines)
    found: list[Known] = []
    for line in lines:
        if not (line["faces"] or line["same_as"]):
            continue
        image = np.asarray(images.decode((folder / line["file"]).read_bytes()).pixels)
        boxes = [d.box for d in ENCODER.detector.detect([image])[0]]
        if line["faces"]:
            labelled: list[Box] = [(x, y, x + w, y + h) for x, y, w, h in line["faces"]]
            boxes = [box for box in boxes if any(overlap(box, one) > 0.2 for one in labelled)]
        else:
            boxes = sorted(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))[-1:]
        for face in ENCODER.embed_at(image, boxes):
            if face is not None:
                number = person.get(line["file"], -len(found) - 1)
                found.append(Known(line["file"], image, face.box, unit([face.embedding])[0], number))
    return found


def _persons(lines: Iterable[dict]) -> dict[str, int]:
    """File -> number of its person, for files that `same_as` ties together."""
    person: dict[str, int] = {}
    for line in lines:
        if line["same_as"]:
            number = person.get(line["file"], person.get(line["same_as"], len(person)))
            for other in [name for name, one in person.items() if one == person.get(line["same_as"])]:
                person[other] = number
            person[line["file"]] = person[line["same_as"]] = number
    return person


def rates(values: Iterable[float]) -> str:
    """How many reach the loose and the strict threshold, and how many there are."""
    cosines = np.array(list(values))
    if len(cosines) == 0:
        return "–"
    loose, strict = ((cosines >= t).mean() for t in (ENCODER.same, ENCODER.same_elsewhere))
    return f"{loose:.1%} / {strict:.2%} of {len(cosines):,}"


def rows_of_pairs(faces: list[Known]) -> Iterator[str]:
    """Lines for strangers and for other photos of one person, by the size of the smaller face."""
    for name, same in (("strangers", False), ("another photo of the person", True)):
        pairs = [(a, b) for a, b in combinations(faces, 2) if (a.person == b.person) is same]
        cells = [
            rates(float(a.embedding @ b.embedding) for a, b in pairs if low <= min(a.size, b.size) < high)
            for low, high in SIZES
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def rows_of_copies(faces: list[Known]) -> Iterator[str]:
    """A line for each alteration. A face that is not read any more counts as not recognised."""
    for name, alter in ALTERED.items():
        values: list[tuple[float, float]] = []
        for known in faces:
            image, box = alter(known.image, known.box)
            (face,) = ENCODER.embed_at(image, [box])
            values.append((known.size, -1.0 if face is None else float(unit([face.embedding])[0] @ known.embedding)))
        cells = [rates(cosine for size, cosine in values if low <= size < high) for low, high in SIZES]
        yield f"| {name} | {' | '.join(cells)} |"


def sheet(numbers: Iterable[int]) -> tuple[np.ndarray, list[Box]]:
    """A picture of faces of `lfw_subset` in a row, 100 pixels each, and their boxes as our detector finds them."""
    tiles = [(LFW[n] * 255).clip(0, 255).astype(np.uint8) for n in numbers]
    grey = np.hstack([np.pad(cv2.resize(t, (100, 100), interpolation=cv2.INTER_CUBIC), 24, mode="edge") for t in tiles])
    image = np.repeat(grey[:, :, None], 3, axis=2)
    return image, [d.box for d in ENCODER.detector.detect([image])[0]]


def five_by_five(trials: int = 200) -> str:
    """How often five strangers pass for one of five people although their places are taken by others."""
    random, false, seconds = np.random.default_rng(0), [0, 0], [0.0, 0.0]
    for _ in range(trials):
        numbers = random.permutation(100)[:10]
        (before, boxes), (after, found) = sheet(numbers[:5]), sheet(numbers[5:])
        start = time.perf_counter()
        ENCODER.detector.detect([after])
        middle = time.perf_counter()
        known = known_faces(ENCODER, before, boxes)
        places = find_survivors(ENCODER, known, after, found, same=2.0)  # a cosine that nothing reaches
        seconds[0] += middle - start
        seconds[1] += time.perf_counter() - middle
        false[0] += bool(places.same)
        false[1] += bool(find_survivors(ENCODER, known, after, found).same)
    return (
        f"Five faces against five strangers, {trials} times: {false[0] / trials:.1%} have a false alarm by the strict "
        f"threshold at other places, {false[1] / trials:.1%} one by either. The question costs "
        f"{seconds[1] / seconds[0] / 5:.2f} passes of the detector a face (its picture has 740 × 148 pixels)."
    )


def main(folder: Path) -> None:
    """Measure and print."""
    faces = read(folder)
    head = " | ".join(f"{low} px and more" if high > 9_999 else f"{low} to {high} px" for low, high in SIZES)
    table = [f"| {len(faces)} faces | {head} |", "|---|" + "---|" * len(SIZES)]
    print("\n".join([*table, *rows_of_pairs(faces), *rows_of_copies(faces), ""]))
    singles = [sheet([n]) for n in range(100)]
    found = [face for image, boxes in singles for face in ENCODER.embed_at(image, boxes[:1]) if face is not None]
    pairs = combinations(unit([face.embedding for face in found]), 2)
    print(f"Strangers in `lfw_subset`: {rates(float(a @ b) for a, b in pairs)} pairs.\n\n{five_by_five()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
