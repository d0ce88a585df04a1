"""Faces by CenterFace, any way up.

One pass over the whole image proposes upright faces. Passes over a smaller image, turned by quarters, propose turned
ones; the best of these are read again from crops, also turned by an eighth, and a face that is confirmed there has the
whole image read in its direction. Whatever is not certain is read again from its crop, at two sizes and mirrored: every
reading confirms a face, but not a hand or a texture. The mean of the readings decides. If no face is sure, a second
network says whether a person or an animal is seen there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, cover_head, grow_head, head_outline
from u2s_datasets.parts import Category, Detection, Detector, Shipped
from u2s_datasets.parts.checks import check_int, check_ranges
from u2s_datasets.parts.detectors.centerface import (
    Tile,
    canvas,
    decode,
    decode_landmarks,
    face_crop,
    overlap,
    resize,
    stretched_side,
    suppress,
    tiles,
    windows,
)
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine
from u2s_datasets.parts.detectors.people import People
from u2s_datasets.parts.detectors.turns import ANGLE, at_angle, small_enough, turn_back, turned, upright_box

_WEIGHTS = Path(__file__).parent / "weights" / "centerface.onnx"
# The second readings: pixels to a side of the face, side of the crop in sides of the face, whether it is mirrored.
_SECOND_READINGS = ((32, 3, False), (32, 3, True), (64, 3, False), (64, 3, True))
_SECOND_AT_MOST = 24  # candidates read again per image; those beyond keep their first score
_BESIDE_OTHERS = ((32, 2, False), (32, 3, True))
_SAME_FACE = 0.2  # IoU of a candidate with what its crop shows; proposals at half the size are up to twice too large
_HOPELESS = 0.06  # mean of the readings of a crop below which no further one is asked for
_ANIMAL = 0.35  # of the second network: what is an animal rather than a person has no face to hide
_CLEARLY = 0.1  # by so much another direction has to score higher than a certain upright face
_TURNED_SCALE = 0.5  # of the passes over the turned image, relative to the upright one's; at 0.44 crowds are lost
_TURNED_AGAIN = 0.75  # the same after an edit, relative to that: beyond the boxes the pixels were seen before
_TURNED_HEAT, _UPRIGHT_HEAT = 0.03, 0.05  # from which a place of such a pass, or of the upright one, is looked at
_TURNED_AT_MOST = 2  # such places per pass; one that is confirmed has the whole image read in its direction
_BATCH = 8  # crops that are read at once
_TURNED_FIRST = 0.2  # score of the first, cheapest crop below which a direction is given up
# Pass -> the directions that its places are read in. Between two quarters a face is proposed by one of them.
_DIRECTIONS = {180: (180,), 90: (90, 135), 270: (270, 225), 0: (0, 45, 315)}
_TURNED_READING = (32, 2, False)
_LANDMARK_SIZE, _LANDMARK_CONTEXT = 64, 3  # of the crop in which landmarks are read, as above
_LANDMARK_THRESHOLD = 0.05  # heat from which a face that is known to be there is read
_LANDMARK_SURE = 0.6  # heat from which no other direction is tried

FACE = Category(
    "face",
    "faces of 16 pixels and more, seen from the front or at an angle; single turned ones of 48 pixels and more",
    "face",
    "faces",
    grow=grow_head,
    shape=cover_head,
    criterion="people",
)

Read = Callable[[np.ndarray, float], np.ndarray]
"""From an image and a threshold to (N, 5) rows of its upright faces, by falling score."""


@dataclass(frozen=True)
class Faces(Detector):
    """Human faces. Measured on those of 16 pixels and more at their shorter side, upright or in a picture turned as a
    whole; a single face that is turned beside others that are not is found from 48 pixels on, of 32 four in five.

    Args:
        scales: sizes at which the whole image is read, relative to its own; 1 costs 1.8 times 0.75.
        flag_threshold: score in (0, 1) from which a face flags its image.
        redact_threshold: first score in (0, 1) from which a candidate is looked at.
        confirm_threshold: mean of all readings from which a candidate is hidden if its image is flagged.
        certain_threshold: first score from which a candidate is not read a second time.
        sure_threshold: score from which a face flags its image without a second network, that of `People`, being asked.
        turned_threshold: mean of the crop's readings from which a face in another direction is believed.
        residue_threshold: score from which a face counts as left over after an edit.
        engine: "onnxruntime" or "openvino", see `engine.py`.
        threads: threads that one call may use.
    """

    scales: tuple[float, ...] = (0.75,)
    flag_threshold: float = 0.25
    redact_threshold: float = 0.15
    confirm_threshold: float = 0.13
    certain_threshold: float = 0.6
    sure_threshold: float = 0.65
    turned_threshold: float = 0.45
    residue_threshold: float = 0.15
    engine: str = "onnxruntime"
    threads: int = 1

    categories = (FACE,)
    shipped = Shipped("CenterFace", "mit", "u2s_datasets")
    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "openvino")

    def check(self) -> None:
        """Raise `SetupError` for an unknown engine, missing weights or a number out of its range."""
        check_engine(self.engine)
        if not isinstance(self.scales, tuple | list) or not self.scales:
            raise SetupError(f"invalid scales={self.scales!r}; expected a tuple of one scale or more, such as (0.75,)")
        check_ranges(self, scales=(0.05, 8), flag_threshold=(0, 0.99), redact_threshold=(0, 0.99))
        check_ranges(self, confirm_threshold=(0, 0.99), certain_threshold=(0, 0.99), residue_threshold=(0, 0.99))
        check_ranges(self, sure_threshold=(0, 0.99), turned_threshold=(0, 0.99))
        check_int("threads", self.threads, 1, 1024)
        if not _WEIGHTS.is_file():
            raise SetupError(f"the installed package has no {_WEIGHTS.name}; install it again")
        self._people.check()  # it is asked where no face is sure

    def load(self) -> OnnxModel:
        """The network; raises `SetupError` as `check` does."""
        self.check()
        return OnnxModel(_WEIGHTS, self.engine, self.threads)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Faces and weaker candidates of each image, best first; see `Detector.detect`."""
        found = [_detections(self._detect(image), image.shape) for image in images]
        return [[self._with_outline(image, d) for d in each] for image, each in zip(images, found, strict=True)]

    def _with_outline(self, image: np.ndarray, face: Detection) -> Detection:
        return dataclasses.replace(face, outline=head_outline(face.box, self.landmarks(image, face.box)))

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """Faces that overlap the edited boxes, any way up, the upright ones searched for at full size.

        Only the surroundings of the boxes are read: the pixels beyond them are those that `detect` saw.
        """
        pairs = zip(images, edited, strict=True)
        return [_detections(self._residue(image, boxes), image.shape) for image, boxes in pairs]

    def landmarks(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        """(5, 2) float64 x and y in the image's pixels: both eyes, the tip of the nose, both corners of the mouth.

        The left one comes first, as seen when the face is upright. The face is read again from its crop, always at the
        same size, and in up to six directions unless it is clearly upright.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: where a face is, or may be.

        Returns:
            The landmarks; None where nothing in the box looks like a face.
        """
        best = self._landmarks(image, np.array(box, float), 0)
        if best[1] >= _LANDMARK_SURE:
            return best[0]
        quarters = {angle: self._landmarks(image, np.array(box, float), angle) for angle in (90, 180, 270)} | {0: best}
        angle = max(quarters, key=lambda angle: quarters[angle][1])
        best = quarters[angle]
        if 0 < best[1] < _LANDMARK_SURE:  # it may lean to either side; what looks like no face in any quarter is none
            leaning = [self._landmarks(image, np.array(box, float), (angle + by) % 360) for by in (45, -45)]
            best = max([best, *leaning], key=lambda found: found[1])
        return best[0]

    def _landmarks(self, image: np.ndarray, box: np.ndarray, angle: int) -> tuple[np.ndarray | None, float]:
        """The landmarks as the crop shows them in one direction, and their face's score."""
        crop, inside = face_crop(image, box, _LANDMARK_SIZE, _LANDMARK_CONTEXT, angle)
        outputs = self.loaded(canvas([crop]))
        rows, points = decode(outputs, 0, _LANDMARK_THRESHOLD), decode_landmarks(outputs, 0, _LANDMARK_THRESHOLD)
        there = overlap(rows, inside) > 0.3
        if not there.any():
            return None, 0.0
        best = int(np.argmax(np.where(there, rows[:, 4], -1)))
        if angle == 0:
            scale = (box[2] - box[0]) / (inside[2] - inside[0])
            return box[:2] + (points[best] - inside[:2]) * scale, float(rows[best, 4])
        scale = float(np.sqrt((box[2:] - box[:2]).prod())) / _LANDMARK_SIZE
        away = turn_back(points[best] - np.array(crop.shape[1::-1]) / 2, angle, (0, 0))
        return (box[:2] + box[2:]) / 2 + away * scale, float(rows[best, 4])

    def _detect(self, image: np.ndarray) -> np.ndarray:
        """Rows by falling score; those that are not certain carry the mean of all their readings."""

        def read(picture: np.ndarray, threshold: float) -> np.ndarray:
            return suppress(np.concatenate([self._read(picture, scale, threshold) for scale in self.scales]))

        rows = self._any_way_up(image, read, self.redact_threshold, None)
        rows = self._ask_for_people(image, self._read_again(image, rows))
        return rows[np.argsort(-rows[:, 4], kind="stable")]

    def _any_way_up(
        self, image: np.ndarray, read: Read, threshold: float, within: Sequence[np.ndarray] | None
    ) -> np.ndarray:
        """Rows of the upright faces, and of those in every direction in which a face was confirmed.

        Args:
            image: (H, W, 3) uint8.
            read: the full reading, which other directions get as well.
            threshold: score of the rows.
            within: boxes near which faces in other directions are searched for; None for everywhere.
        """
        upright = read(image, min(threshold, _UPRIGHT_HEAT))
        confirmed = self._search_turned(image, upright, within)
        found = [at_angle(upright[upright[:, 4] >= threshold], 0, image.shape), confirmed]
        certain = list(upright[upright[:, 4] >= self.certain_threshold])
        for angle in sorted({int(angle) for angle in confirmed[:, ANGLE]}):
            picture = small_enough(image) if angle % 90 else image
            rows = at_angle(read(turned(picture, angle), threshold), angle, picture.shape)
            rows[:, :4] *= image.shape[1] / picture.shape[1]
            for face in certain:
                same = overlap(rows, face, of_smaller=True) > 0.5
                rows = rows[~same | (rows[:, 4] > face[4] + _CLEARLY)]
            found.append(rows)
        return suppress(np.concatenate(found))

    def _search_turned(self, image: np.ndarray, upright: np.ndarray, within: Sequence[np.ndarray] | None) -> np.ndarray:
        """Rows of faces in other directions, one at least of each direction that the picture's faces have.

        A smaller image suffices to propose them at a low threshold, and a few small crops to turn most of these down.
        """
        height, width = image.shape[:2]
        scale = max(self.scales) * _TURNED_SCALE * (1.0 if within is None else _TURNED_AGAIN)
        small = resize(image, *(stretched_side(max(1, round(side * scale))) for side in (width, height)))
        certain = [row for row in upright if row[4] >= self.certain_threshold + _CLEARLY]
        places = []
        for quarter in _DIRECTIONS:
            if quarter:
                rows = self._read(turned(small, quarter), 1.0, _TURNED_HEAT, stretch=False)
                rows = at_angle(rows, quarter, small.shape)
                rows[:, :4] *= np.tile([width / small.shape[1], height / small.shape[0]], 2)
            else:
                rows = at_angle(upright[upright[:, 4] < self.certain_threshold], 0, image.shape)
            rows = _beside(rows if within is None else _near(rows, within), certain)
            places += [*rows[:1], *(row for row in rows[1:_TURNED_AT_MOST] if row[4] >= _UPRIGHT_HEAT)]
        likely = self._turn_to_face(image, places)
        found = np.zeros((0, 6))
        for row in sorted(likely, key=lambda row: -row[4]):
            if len(_beside(row[None], found)):
                row[4] = self._second_scores(image, row[None])[0]
                found = np.concatenate([found, row[None][row[None, 4] >= self.turned_threshold]])
        return found

    def _turn_to_face(self, image: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each row in the direction in which a small crop looks most like a face, unless that is upright or too low."""
        ways = [(n, angle) for n, place in enumerate(places) for angle in _DIRECTIONS[int(place[ANGLE])]]
        rows = [np.array([*places[n][:4], 0.0, angle]) for n, angle in ways]
        best: dict[int, np.ndarray] = {}
        for (n, _), row, score in zip(ways, rows, self._read_crops(image, rows, *_TURNED_READING), strict=True):
            row[4] = score
            best[n] = row if n not in best or score > best[n][4] else best[n]
        return [row for row in best.values() if row[ANGLE] and row[4] >= _TURNED_FIRST]

    def _read_again(self, image: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows, by falling score, without those that their crops turn down; what is not certain is read again.

        Beside a certain face the others flag nothing, and two small crops suffice to tell a face from a hand.
        """
        scores, weak = rows[:, 4].copy(), np.nonzero(rows[:, 4] < self.certain_threshold)[0][:_SECOND_AT_MOST]
        if len(weak) and weak[0] == 0:  # the best may be certain after all
            scores[0], weak = self._second_scores(image, rows[:1])[0], weak[1:]
        flags = (scores >= self.certain_threshold).any()
        scores[weak] = self._second_scores(image, rows[weak], _BESIDE_OTHERS if flags else _SECOND_READINGS)
        return np.column_stack([rows[:, :4], scores, rows[:, ANGLE:]])[scores >= self.confirm_threshold]

    def _ask_for_people(self, image: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows of an image of which no face is sure, each with the mean of its score and of how much a person is
        seen there; without those of animals. The first that flags the image settles it.
        """
        scores = rows[:, 4].copy()
        if (scores >= self.sure_threshold).any():
            return rows
        for i in np.nonzero((scores >= self.flag_threshold) & (rows[:, ANGLE] == 0))[0]:
            person, animal = self._people.likeness(image, tuple(rows[i, :4].tolist()))
            is_animal = animal >= _ANIMAL and animal > person
            scores[i] = 0.0 if is_animal else (scores[i] + person) / 2
            if scores[i] >= self.flag_threshold:
                scores[i] = max(scores[i], rows[i, 4])
                break
        return np.column_stack([rows[:, :4], scores, rows[:, ANGLE:]])[scores >= self.confirm_threshold]

    @functools.cached_property
    def _people(self) -> People:
        return People(engine=self.engine, threads=self.threads)

    def _second_scores(
        self, image: np.ndarray, rows: np.ndarray, readings: Sequence[tuple[int, int, bool]] = _SECOND_READINGS
    ) -> list[float]:
        """Of each row the mean of its first score and of these readings of its crop.

        Where they are hopeless, those that are left are taken to be as the mean of those that were made.
        """
        scores: list[list[float]] = [[] for _ in rows]
        for reading in readings:
            open_ones = [i for i, made in enumerate(scores) if not made or np.mean(made) >= _HOPELESS]
            for i, score in zip(open_ones, self._read_crops(image, rows[open_ones], *reading), strict=True):
                scores[i].append(score)
        means = [float(np.mean(made)) for made in scores]
        return [
            (float(row[4]) + len(readings) * mean) / (1 + len(readings)) for row, mean in zip(rows, means, strict=True)
        ]

    def _read_crops(
        self, image: np.ndarray, rows: Sequence[np.ndarray] | np.ndarray, size: int, context: int, mirrored: bool
    ) -> list[float]:
        """Scores of candidates in their directions, from a crop of each; see `_SECOND_READINGS`.

        Several at once, since a network that goes from one size to another takes twice as long for small crops.
        """
        crops = [face_crop(image, row[:4], size, context, int(row[ANGLE])) for row in rows]
        scores: list[float] = []
        for start in range(0, len(crops), _BATCH):
            part = crops[start : start + _BATCH]
            pixels = [crop[:, ::-1] if mirrored else crop for crop, _ in part]
            number = next(n for n in (1, 2, 4, _BATCH) if n >= len(part))  # few shapes, see `canvas_side`
            outputs = self.loaded(canvas([*pixels, *[np.zeros_like(pixels[0])] * (number - len(part))]))
            for n, (_, box) in enumerate(part):
                found = decode(outputs, n, 0.02)
                scores.append(float(found[overlap(found, box) > _SAME_FACE, 4].max(initial=0.0)))
        return scores

    def _read(self, image: np.ndarray, scale: float, threshold: float, stretch: bool = True) -> np.ndarray:
        """(N, 5) rows (x0, y0, x1, y1, score) found in the whole image at one scale, in the image's pixels.

        With `stretch`, the sides are stretched a little to fill their canvas. An image that exceeds one canvas is
        read in tiles, and again at a quarter of the size until it fits, for faces larger than a tile's margin.
        """
        height, width = image.shape[:2]
        size = [max(1, round(v * scale)) for v in (width, height)]
        scaled = resize(image, *(map(stretched_side, size) if stretch else size))
        found = [self._read_tile(scaled, tile, threshold) for tile in tiles(*scaled.shape[:2])]
        rows = np.concatenate(found) * np.array([width / scaled.shape[1], height / scaled.shape[0]] * 2 + [1.0])
        if len(found) > 1:
            rows = np.concatenate([rows, self._read(image, scale / 4, threshold, stretch)])
        rows[:, :4] = np.clip(rows[:, :4], 0, [width, height, width, height])
        return suppress(rows)

    def _read_tile(self, image: np.ndarray, tile: Tile, threshold: float) -> np.ndarray:
        """Rows whose centre lies in the tile's core, in the image's pixels."""
        (x0, y0, x1, y1), (left, top, right, bottom) = tile
        rows = decode(self.loaded(canvas([image[y0:y1, x0:x1]])), 0, threshold)
        rows[:, :4] += [x0, y0, x0, y0]
        x, y = (rows[:, 0] + rows[:, 2]) / 2, (rows[:, 1] + rows[:, 3]) / 2
        return rows[(x >= left) & (x < right) & (y >= top) & (y < bottom)]

    def _residue(self, image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """Rows that overlap the boxes by more than a fifth of the smaller of the two."""
        height, width = image.shape[:2]
        # Stretched to multiples of 32 as CenterFace's own demo and deface do, so that what they find is found.
        full = resize(image, -(-width // 32) * 32, -(-height // 32) * 32)
        factor = np.tile([full.shape[1] / width, full.shape[0] / height], 2)
        edited = [np.array(box) * factor for box in boxes]
        found = [np.zeros((0, 6))]

        def read(picture: np.ndarray, threshold: float) -> np.ndarray:
            return self._read(picture, 1.0, threshold, stretch=False)

        for x0, y0, x1, y1 in windows(edited, *full.shape[:2]):
            corner = np.array([x0, y0, x0, y0])
            inside = [box - corner for box in edited]
            rows = self._any_way_up(full[y0:y1, x0:x1], read, self.residue_threshold, inside)
            rows[:, :4] = (rows[:, :4] + corner) / factor
            found.append(rows)
        return _near(suppress(np.concatenate(found)), [np.array(box) for box in boxes])


def _detections(rows: np.ndarray, shape: Sequence[int]) -> list[Detection]:
    boxes = [upright_box(row, shape) for row in rows]
    return [Detection("face", box, score) for box, score in zip(boxes, rows[:, 4].tolist(), strict=True)]


def _beside(rows: np.ndarray, faces: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The rows that are not part of the heads of these faces."""
    for face in faces:
        rows = rows[overlap(rows, np.array(grow_head(tuple(face[:4]))), of_smaller=True) <= 0.5]
    return rows


def _near(rows: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """The rows that overlap one of the boxes by more than a fifth of the smaller of the two."""
    touched = [overlap(rows, box, of_smaller=True) > 0.2 for box in boxes]
    return rows[np.any(touched, axis=0)] if touched else rows[:0]
