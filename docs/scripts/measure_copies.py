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
ChangeOfFaces = Callable[[np.ndarray, Sequence[Box]], np.ndarray]
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


def shuffled(pixels: np.ndarray) -> np.ndarray:
    """Cut into 3 by 3 tiles, which change places."""
    height, width = (side // 3 for side in pixels.shape[:2])
    corners = [(y * height, x * width) for y in range(3) for x in range(3)]
    after = pixels.copy()
    for (y, x), (v, u) in zip(corners, np.random.default_rng(1).permutation(corners), strict=True):
        after[y : y + height, x : x + width] = pixels[v : v + height, u : u + width]
    return after


def stretched(pixels: np.ndarray, across: float) -> np.ndarray:
    """Stretched about the middle, and cut or mirrored at the edges."""
    height, width = pixels.shape[:2]
    matrix = np.array([[across, 0, (1 - across) * width / 2], [0, 1, 0]])
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def swirled(pixels: np.ndarray) -> np.ndarray:
    """Turned by 40° in the middle, less and less towards the edges."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - height / 2, x - width / 2
    angle = np.radians(40) * np.exp(-((x / width) ** 2 + (y / height) ** 2) * 6)
    columns, rows = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    columns, rows = (columns + width / 2).astype(np.float32), (rows + height / 2).astype(np.float32)
    return cv2.remap(pixels, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def face_alone(pixels: np.ndarray, boxes: Sequence[Box], grow: float, keeps_shape: bool = False) -> np.ndarray:
    """The largest face and its surroundings, as large as the picture."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    half = [grow * (x1 - x0) / 2, grow * (y1 - y0) / 2]
    if keeps_shape:
        half = [max(half[0], half[1] * width / height), max(half[1], half[0] * height / width)]
    left, top = max((x0 + x1) / 2 - half[0], 0), max((y0 + y1) / 2 - half[1], 0)
    crop = pixels[int(top) : int(top + 2 * half[1]) + 1, int(left) : int(left + 2 * half[0]) + 1]
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC)


def faces_scaled(pixels: np.ndarray, boxes: Sequence[Box], scale: float) -> np.ndarray:
    """Every face at another size in its place, on the background as it was without it."""
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = 1
    after = cv2.inpaint(pixels, mask, 3, cv2.INPAINT_TELEA)
    for x0, y0, x1, y1 in boxes:
        crop = pixels[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
        small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = max(int((y0 + y1 - small.shape[0]) / 2), 0), max(int((x0 + x1 - small.shape[1]) / 2), 0)
        room = after[top : top + small.shape[0], left : left + small.shape[1]]
        room[:] = small[: room.shape[0], : room.shape[1]]
    return after


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
    **{f"scale {by}": functools.partial(warped, scale=by) for by in (0.4, 0.5, 0.6, 1.6, 2.0, 3.0)},
    "scale 0.5, turn 20": lambda p: warped(p, turn=20, scale=0.5),
    "scale 2, mirror": lambda p: warped(np.ascontiguousarray(p[:, ::-1]), scale=2),
    "tiles shuffled": shuffled,
    "stretch 1.3": lambda p: stretched(p, 1.3),
    "stretch 0.75": lambda p: stretched(p, 0.75),
    "swirl": swirled,
}
FACE_LIES: dict[str, ChangeOfFaces] = {
    "face alone": functools.partial(face_alone, grow=1.2),
    "face alone, unstretched": functools.partial(face_alone, grow=1.6, keeps_shape=True),
    "faces at 0.5": functools.partial(faces_scaled, scale=0.5),
    "faces at 1.8": functools.partial(faces_scaled, scale=1.8),
}


def told(lie: str, pixels: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """What the editor of this name gives back for a picture whose faces are in `boxes`."""
    after = LIES[lie](pixels) if lie in LIES else FACE_LIES[lie](pixels, boxes)
    return np.ascontiguousarray(after)


@dataclass(frozen=True)
class Lying(Editor):
    """Gives the original back, changed in one way."""

    how: str = ""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """The changed originals."""
        return [Image.fromarray(told(self.how, np.asarray(e.image), e.boxes)) for e in edits]


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
        after = told(lie, before, boxes)
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
    for lie in [*LIES, *FACE_LIES]:
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
