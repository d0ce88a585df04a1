"""`u2s bench detect`: what detectors and redaction do with things of which the place is known to the pixel.

Every picture goes through `Anonymize` as a row does. A kind of thing is one entry of `KINDS`: what draws it, what tells
whether a stranger could still read it, and which detectors are asked.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.bench.code_scenes import code_scenes, is_code_read
from u2s_datasets.cli.bench.face_scenes import face_scenes, is_face_found
from u2s_datasets.cli.bench.sample_photos import open_photos
from u2s_datasets.cli.bench.scenes import Scene
from u2s_datasets.cli.bench.text_scenes import text_scenes
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.checks import check_choice, check_int
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.profiles import profile

_COVERED = 0.9  # share of the pixels of a quad that have to change
_BATCH = 8
_PHOTOS_AT_MOST = 32
_COUNTS = ("pictures", "flagged", "covered", "withheld", "beside")
_READ_COUNTS = ("read before", "read after")


class Kind(NamedTuple):
    """One kind of thing to draw.

    Args:
        scenes: photos and the number of pictures per cell to pictures.
        detectors: names in the catalog.
        is_read: whether somebody's reader reads it in (H, W, 3) uint8 RGB; None if nobody's reads all of it.
        not_on: sample photos that hold such things already, by the start of their names.
    """

    scenes: Callable[[Sequence[np.ndarray], int], Iterator[Scene]]
    detectors: tuple[str, ...]
    is_read: Callable[[np.ndarray], bool] | None = None
    not_on: tuple[str, ...] = ()


KINDS = {
    "codes": Kind(code_scenes, ("codes",), is_code_read),
    "text": Kind(text_scenes, ("text",), not_on=("people/astronaut", "papers/", "things/rocket", "things/coins")),
    "faces": Kind(face_scenes, ("faces",), is_face_found),
}


def bench_detect(
    src: str | None = None, kind: str = "codes", rows: int = 100, detectors: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure and print a table.

    Args:
        src: a folder of photos that hold nothing of the kind, or for faces of some with and some without; None for
            those of the scikit-image package.
        kind: a key of `KINDS`.
        rows: pictures per line of the table, 1 or more.
        detectors: names, instead of the kind's own.

    Returns:
        Cell -> its counts: pictures; flagged; covered, with 90% or more of the thing's pixels changed; withheld;
        beside, regions that were hidden and touch no such thing; where somebody's reader reads the kind, read before
        and after. Likewise by variant, such as the turn. What is flagged of pictures without a thing is a false alarm.

    Raises:
        SetupError: an unknown kind or detector, too few rows, or a folder without a photo that decodes.
    """
    check_choice("kind", kind, tuple(KINDS))
    check_int("rows", rows)
    chosen = KINDS[kind]
    step = profile(detectors=detectors or chosen.detectors).with_engine("openvino").anonymize
    cells: dict[str, Counter[str]] = {}
    variants: dict[str, Counter[str]] = {}
    scenes = chosen.scenes(_photos(src, chosen.not_on), rows)
    while batch := list(itertools.islice(scenes, _BATCH)):
        for scene, counts in zip(batch, _judge(step, batch, chosen.is_read), strict=True):
            cells.setdefault(scene.cell, Counter()).update(counts)
            variants.setdefault(scene.variant, Counter()).update(counts)
    for title, table in (("", cells), ("all of them by variant", variants)):
        _print(title or kind, table)
    return {"kind": kind, "cells": {k: dict(v) for k, v in cells.items()}, "variants": variants}


def _photos(src: str | None, not_on: tuple[str, ...]) -> list[np.ndarray]:
    with open_photos(src) as source:
        items = [item for item in source.read(0, _PHOTOS_AT_MOST) if src or not item.source.startswith(not_on)]
        decoded = [images.decode(item.image).pixels for item in items]
    if not decoded:
        raise SetupError(f"no photo in {src!r}; give a folder with at least one")
    return [np.asarray(photo) for photo in decoded]


def _judge(
    step: Anonymize, scenes: Sequence[Scene], is_read: Callable[[np.ndarray], bool] | None
) -> Iterator[dict[str, int]]:
    """The counts of every picture."""
    made = step({step.image_column: [Image.fromarray(scene.image) for scene in scenes]})
    columns = made[c.PRIVACY_FLAG], made[c.ANONYMIZED_IMAGE], made[c.PRIVACY_REVIEW]
    for scene, flag, after, review in zip(scenes, *columns, strict=True):
        output = None if after is None else np.asarray(after.convert("RGB"))
        covered = scene.quad is not None and output is not None and _changed(scene.image, output, scene.quad)
        beside = sum(not _touches(scene.quad, item["box"]) for item in review if item["box"] is not None)
        values = (1, flag, covered >= _COVERED, output is None, beside)
        counts = {name: int(value) for name, value in zip(_COUNTS, values, strict=True)}
        if is_read is not None:
            read = is_read(scene.image), output is not None and is_read(output)
            counts |= {name: int(value) for name, value in zip(_READ_COUNTS, read, strict=True)}
        yield counts


def _touches(quad: np.ndarray | None, box: Sequence[float]) -> bool:
    """Whether the upright box around the quad has a pixel in common with a box."""
    return quad is not None and bool((quad.min(0) < box[2:]).all() and (quad.max(0) > box[:2]).all())


def _changed(image: np.ndarray, output: np.ndarray, quad: np.ndarray) -> float:
    """Share of the quad's pixels that are not what they were, or lie between such.

    Paint on white paper is white in places, so gaps of up to a quarter of the quad's longer side count as painted.
    """
    inside = np.zeros(output.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, np.rint(quad).astype(np.int32), 1)
    side = max(int(np.ptp(quad, axis=0).max() / 4), 1)
    changed = (image != output).any(axis=2).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    return float(closed[inside == 1].mean())


def _print(title: str, table: dict[str, Counter[str]]) -> None:
    names = [name for name in (*_COUNTS, *_READ_COUNTS) if any(name in counts for counts in table.values())]
    print(f"{title:24}", *(f"{name:>12}" for name in names))
    for line, counts in table.items():
        print(f"  {line:22}", *(f"{counts[name]:12}" for name in names))
