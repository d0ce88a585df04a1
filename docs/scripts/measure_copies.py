"""Measure law 9 on photos of faces: what becomes of editors that lie, and of honest rewritings.

    python docs/scripts/measure_copies.py --photos FOLDER [--identity dlib_faces]

Every photo in which the face detector finds a face is changed once by each lie. "found" are rows in which the pixels
alone show a copy of a face, "missed" all others. With `--identity` the rows go through `Anonymize` instead: "published"
are those whose rewriting was believed, "redacted" those in which a copy or a person was found and painted over.
Without a network all faces are redacted, which tells nothing of copies. An honest rewriting puts another photo's face
into the place of each, or fills it by OpenCV's inpainting. Counts of rows; the last lines count the faces of honest
rewritings.
"""

import argparse
import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import copies
from u2s_datasets.parts import Box, Detection, Edit, Editor
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.people import make_identity
from u2s_datasets.stages.residue import find_residue

Change = Callable[[np.ndarray], np.ndarray]
SUFFIXES = {".jpg", ".jpeg", ".png"}


def warped(pixels: np.ndarray, turn: float = 0.0, scale: float = 1.0, aside: float = 0.0) -> np.ndarray:
    """Turned and zoomed about the middle, seen from aside."""
    height, width = pixels.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.array([[1, 1], [-0.3, 0.5], [0, 0], [0, -1]], np.float32) * aside * min(width, height)
    turned = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale), [0, 0, 1]])
    matrix = cv2.getPerspectiveTransform(corners, moved) @ turned
    return cv2.warpPerspective(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def noisy(pixels: np.ndarray) -> np.ndarray:
    """Noise of 40 grey levels."""
    noise = np.random.default_rng(1).normal(0, 40, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def hue_turned(pixels: np.ndarray) -> np.ndarray:
    """Every hue a third further on."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


LIES: dict[str, Change] = {
    **{f"shift {by}": functools.partial(np.roll, shift=by, axis=1) for by in (1, 2, 4, 8, 16)},
    "mirror": lambda p: p[:, ::-1],
    "zoom 5%": lambda p: warped(p, scale=1.05),
    "zoom 30%, cropped": lambda p: warped(p, scale=1.3),
    **{f"turn {by}": functools.partial(warped, turn=by) for by in (5, 15, 30)},
    "turn 90, stretched": lambda p: cv2.resize(np.rot90(p).copy(), p.shape[1::-1]),
    "turn 180": lambda p: p[::-1, ::-1],
    "perspective": lambda p: warped(p, aside=0.08),
    "invert": lambda p: 255 - p,
    "sharpen": lambda p: cv2.addWeighted(p, 4, cv2.GaussianBlur(p, (0, 0), 2), -3, 0),
    "noise 40": noisy,
    "posterise": lambda p: p // 64 * 64 + 32,
    "hue": hue_turned,
    "jet": lambda p: cv2.applyColorMap(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLORMAP_JET),
    "red alone": lambda p: p * np.array([1, 0, 0], np.uint8),
    "channels swapped": lambda p: p[..., ::-1],
    "half grey": lambda p: (p // 2 + 64).astype(np.uint8),
    "half mirrored": lambda p: cv2.addWeighted(p, 0.5, np.ascontiguousarray(p[:, ::-1]), 0.5, 0),
}


@dataclass(frozen=True)
class Lying(Editor):
    """Gives the original back, changed in one way."""

    how: str = ""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """The changed originals."""
        return [Image.fromarray(np.ascontiguousarray(LIES[self.how](np.asarray(e.image)))) for e in edits]


def rewritten(
    pixels: np.ndarray, boxes: Sequence[Box], how: str, donors: Sequence[np.ndarray], seed: int
) -> np.ndarray:
    """A picture in which something else is in each box."""
    rng, after = np.random.default_rng(seed), pixels.copy()
    for box in boxes:
        x0, y0, x1, y1 = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
        if how == "other face":
            donor = donors[int(rng.integers(len(donors)))]
            after[y0:y1, x0:x1] = cv2.resize(donor, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        else:
            mask = np.zeros(pixels.shape[:2], np.uint8)
            mask[y0:y1, x0:x1] = 1
            after = cv2.inpaint(after, mask, 3, cv2.INPAINT_TELEA)
    return after


def outcome(answer: dict[str, list], row: int) -> str:
    """What became of a row: published, redacted, withheld or safe."""
    if answer[c.STATUS][row] != c.ANONYMIZED:
        return str(answer[c.STATUS][row])
    return "redacted" if json.loads(answer[c.PROVENANCE][row])["attempts"][-1]["redacts"] else "published"


def with_faces(folder: Path) -> list[tuple[Image.Image, list[Box]]]:
    """The photos in which the detector finds faces, and their boxes."""
    faces, found = u2s.Faces(), []
    for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        pixels = images.decode(file.read_bytes()).pixels
        boxes = [d.box for d in faces.detect([np.asarray(pixels)])[0] if d.score >= faces.flag_threshold]
        if boxes:
            found.append((pixels, boxes))
    return found


def outcomes(lie: str, photos: Sequence[tuple[Image.Image, list[Box]]], identity: str) -> Counter[str]:
    """What becomes of the rows in `Anonymize` with a face network."""
    inspect = Inspect(detectors=(u2s.Faces(),))
    step = u2s.Anonymize(editor=Lying(lie), identity=make_identity(identity), inspect=inspect, attempts=1)
    return Counter(outcome(step({"image": [pixels]}), 0) for pixels, _ in photos)


def found_and_missed(lie: str, photos: Sequence[tuple[Image.Image, list[Box]]]) -> Counter[str]:
    """In how many rows a copy of any face is found: all that was flagged there is then redacted in the original."""
    counts: Counter[str] = Counter()
    for pixels, boxes in photos:
        before = np.asarray(pixels)
        after = np.ascontiguousarray(LIES[lie](before))
        faces = (Detection("face", box, 1.0) for box in boxes)
        is_found = any(find_residue([], before, after, [face], absolute=False) for face in faces)
        counts["found" if is_found else "missed"] += 1
    return counts


def main() -> None:
    """Print a table of outcomes per editor, then how many faces of honest rewritings pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos with faces")
    parser.add_argument("--identity", help="a face network, to run all of Anonymize")
    parser.add_argument("--limit", type=int, help="photos at most")
    arguments = parser.parse_args()
    photos = with_faces(arguments.photos)[: arguments.limit]
    heads = [[images.clip_box(images.grow_head(b), p.size) for b in boxes] for p, boxes in photos]
    crops = [[p.crop(h) for h in hs if h] for (p, _), hs in zip(photos, heads, strict=True)]
    print(f"{len(photos)} photos")
    for lie in LIES:
        counts = outcomes(lie, photos, arguments.identity) if arguments.identity else found_and_missed(lie, photos)
        print(f"{lie:20} " + ", ".join(f"{what}: {number}" for what, number in sorted(counts.items())), flush=True)
    for how in ("other face", "inpainting"):
        passed = total = 0
        for i, ((pixels, boxes), grown) in enumerate(zip(photos, heads, strict=True)):
            before = np.asarray(pixels)
            for box, head in zip(boxes, grown, strict=True):
                others = [np.asarray(crop) for j, row in enumerate(crops) if j != i for crop in row]
                after = rewritten(before, [head] if head else [], how, others, total)
                passed += not copies.find_copies(before, after, [box])[0]
                total += 1
        print(f"honest, {how}: {passed} of {total} faces pass", flush=True)


if __name__ == "__main__":
    main()
