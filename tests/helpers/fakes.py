"""Small parts that are real parts: they stand where a test needs a part to fail, to change nothing, or to die."""

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.errors import MissingWeights
from u2s_datasets.images import encode
from u2s_datasets.parts import Box, Detection, Detector, Edit, Editor
from u2s_datasets.parts.metrics.encoders import ImageTextEncoder
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.privacy import Face


@dataclass(frozen=True)
class RedSquares(Detector):
    """Finds the bounding box of pure red: a private region that a test can paint."""

    categories = ("face",)
    flag_threshold: float = 0.5

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> list[Detection]:
        ys, xs = np.nonzero((image == (255, 0, 0)).all(axis=2))
        if len(ys) == 0:
            return []
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        return [Detection("face", box, 0.9)]


@dataclass(frozen=True)
class Touchy(RedSquares):
    """Raises on an image with a pure green pixel in its corner; kills its process on pure blue."""

    def _one(self, image: np.ndarray) -> list[Detection]:
        if tuple(image[0, 0]) == (0, 255, 0):
            raise RuntimeError("green is too much for me")
        if tuple(image[0, 0]) == (0, 0, 255):
            os._exit(9)
        return super()._one(image)


@dataclass(frozen=True)
class Slow(RedSquares):
    """Takes its time, so that something can happen to it in the middle."""

    def _one(self, image: np.ndarray) -> list[Detection]:
        time.sleep(0.2)
        return super()._one(image)


@dataclass(frozen=True)
class Moody(RedSquares):
    """Fails where the environment says so."""

    def _one(self, image):
        if os.environ.get("U2S_TEST_MOOD") == "bad":
            raise MemoryError("no memory just now")
        return super()._one(image)


@dataclass(frozen=True)
class BrokenEngine(RedSquares):
    """Its model cannot be loaded; without it, it finds nothing."""

    def load(self):
        raise MissingWeights("zebra.onnx is missing; run: get zebra")


@dataclass(frozen=True)
class Careless(RedSquares):
    """A detector that answers nothing, or no number, where it found something."""

    answer: str = "none"

    def _one(self, image: np.ndarray) -> list[Detection]:
        found = super()._one(image)
        if self.answer == "none":
            return None if found else []  # type: ignore[return-value]
        return [Detection(d.category, d.box, float("nan")) for d in found]


@dataclass(frozen=True)
class Broken(Editor):
    """An editor that goes wrong in the way it is told."""

    how: str = "same"
    redacts = True

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        if self.how == "raises":
            raise RuntimeError("no memory left")
        if self.how == "fewer":
            return []
        if self.how == "array":
            return [np.asarray(e.image) for e in edits]  # type: ignore[misc]
        if self.how == "size":
            return [Image.new("RGB", (5, 5)) for _ in edits]
        if self.how == "elsewhere":
            return [_painted(e.image, (0, 0, 3, 3)) for e in edits]
        return [e.image.copy() for e in edits]


@dataclass(frozen=True)
class Persistent(Editor):
    """Covers the boxes only from its third attempt on."""

    redacts = True

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [_painted(e.image, e.boxes[0] if e.strength >= 2 else (0, 0, 1, 1 + e.strength)) for e in edits]


@dataclass(frozen=True)
class Rewriter(Editor):
    """A rewriting editor: paints the whole picture anew, except for the boxes where it is told to keep them."""

    keep_boxes: bool = False

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        outputs = []
        for e in edits:
            output = Image.fromarray(255 - np.asarray(e.image))
            for box in e.boxes if self.keep_boxes else ():
                corner = (int(box[0]), int(box[1]))
                output.paste(e.image.crop((*corner, int(box[2]), int(box[3]))), corner)
            outputs.append(output)
        return outputs


@dataclass(frozen=True)
class ByPixels(FaceEncoder):
    """A face network that knows a face by its exact pixels: any other is a stranger."""

    smallest: int = 16

    def embed_at(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Face | None]:
        crops = [image[int(y0) : int(y1), int(x0) : int(x1)] for x0, y0, x1, y1 in boxes]
        seeds = [zlib.crc32(repr(crop.shape).encode() + crop.tobytes()) for crop in crops]
        return [Face(box, np.random.default_rng(seed).normal(size=64)) for box, seed in zip(boxes, seeds, strict=True)]


@dataclass(frozen=True)
class Kept(Editor):
    """A rewriting editor that paints everything anew but pure red."""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        before = [np.asarray(e.image) for e in edits]
        return [Image.fromarray(np.where((b == (255, 0, 0)).all(axis=2)[..., None], b, 255 - b)) for b in before]


@dataclass(frozen=True)
class Dim(Editor):
    """A rewriting editor that has no effect to speak of: all pixels a little darker."""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [Image.eval(e.image, lambda v: max(v - 4, 0)) for e in edits]


@dataclass(frozen=True)
class Grid(ImageTextEncoder):
    """Embeds an image as its small copy and a text as its letters; raises on a pure green corner."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        if any(i.getpixel((0, 0)) == (0, 255, 0) for i in images):
            raise RuntimeError("green is too much for me")
        small = [np.asarray(i.resize((8, 8)), np.float32).ravel() - 128 for i in images]
        return np.stack(small) if small else np.zeros((0, 192), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.resize(np.frombuffer(t.encode(), np.uint8).astype(np.float32) - 90, 192) for t in texts])


@dataclass(frozen=True)
class Heads(FaceEncoder):
    """A face is a strip of pure red with ten rows of one colour below it; the colour is the person."""

    same: float = 0.9

    def embed(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> list[Face]:
        found = []
        red = (image == (255, 0, 0)).all(axis=2)
        for y in np.flatnonzero(red.any(axis=1)):
            x0, x1 = np.flatnonzero(red[y])[[0, -1]]
            colour = image[y + 1 : y + 11, x0 : x1 + 1].reshape(-1, 3).mean(axis=0) - 128
            found.append(Face((float(x0), float(y), float(x1 + 1), float(y + 11)), colour.astype(np.float32)))
        return found


def portrait(*people: tuple[int, int, int], seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A noisy picture of these people, each a colour, from top to bottom; for `Heads`."""
    array = np.random.default_rng(seed).integers(40, 200, (size[1], size[0], 3), dtype=np.uint8)
    for i, colour in enumerate(people):
        array[5 + 20 * i, 30:60] = (255, 0, 0)
        array[6 + 20 * i : 16 + 20 * i, 30:60] = colour
    return Image.fromarray(array)


def _painted(image: Image.Image, box: Box) -> Image.Image:
    output = image.copy()
    output.paste((10, 20, 30), tuple(int(v) for v in box))  # type: ignore[arg-type]
    return output


def picture(red: bool = False, corner: tuple[int, int, int] | None = None, seed: int = 0) -> Image.Image:
    """A noisy picture, with a red square where it is to be private."""
    rng = np.random.default_rng(seed)
    array = rng.integers(40, 200, (64, 96, 3), dtype=np.uint8)
    if red:
        array[20:40, 30:60] = (255, 0, 0)
    if corner is not None:
        array[0, 0] = corner
    return Image.fromarray(array)


def pairs(befores, afters, **other):
    """A batch as it comes out of `anonymize`, with PIL images."""
    encoded = [None if a is None else png(a) for a in afters]
    status = [c.ANONYMIZED if a is not None else c.WITHHELD for a in afters]
    return {"image": list(befores), c.ANONYMIZED_IMAGE: encoded, c.STATUS: status, **other}


def png(image):
    return {"bytes": encode(image, "png"), "path": None}


def some_pictures(folder: Path, blue: Sequence[int], number: int = 4) -> Path:
    """Pictures of which those with a blue corner kill a `Touchy` detector."""
    folder.mkdir()
    for i in range(number):
        picture(corner=(0, 0, 255) if i in blue else None, seed=i).save(folder / f"{i}.png")
    return folder


@dataclass(frozen=True)
class Hungry(RedSquares):
    """Takes a while and this many MiB for a picture with a pure blue pixel in its corner."""

    mebibytes: int = 520

    def _one(self, image: np.ndarray) -> list[Detection]:
        if tuple(image[0, 0]) == (0, 0, 255):
            taken = np.ones(self.mebibytes * 2**20, np.uint8)
            time.sleep(0.3)
            del taken
        return super()._one(image)


@dataclass(frozen=True)
class Starving(Hungry):
    """Takes more than any test's group has."""

    mebibytes: int = 1200
