"""`u2s bench eval`: images per second of each metric, on the bundled photos or a folder's."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.cli.bench.sample_photos import PHOTOS, write_samples
from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError
from u2s_datasets.parts.metrics import privacy
from u2s_datasets.parts.metrics.quality import clip_similarity
from u2s_datasets.parts.metrics.reidentification import ranks
from u2s_datasets.sources.open import FolderSource
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.score import (
    NETWORKS,
    available_threads,
    score_clip,
    score_faces,
    score_lpips,
    score_ssim,
)

_GALLERY, _WIDTH = 10_000, 768
_WORDS = ["the", "fire", "exit", "is", "at", "gate", "twelve", "please", "mind", "the", "step"]


def bench_eval(src: str | None = None, rows: int = 64, parts: dict[str, Any] | None = None) -> dict[str, Any]:
    """Measure, print a table and a last line of JSON.

    Args:
        src: a folder of readable photos; those of the scikit-image package where none is given.
        rows: how many pairs to measure: each photo beside itself in half its colours.
        parts: "clip", "lpips" or "faces" -> the part; where none, the default part if its weights are here.

    Returns:
        What the JSON line holds: pairs per second by metric, and what could not be measured.
    """
    if rows < 1:
        raise SetupError(f"rows={rows} is below 1")
    pairs = _pairs(src, rows)
    rates = _on_cores(pairs) | _formulas()
    absent: dict[str, str] = {}
    work: dict[str, Callable[[Any, list[Row]], None]] = {
        "clip": score_clip,
        "lpips": score_lpips,
        "faces": score_faces,
    }
    for name, call in work.items():
        part = (parts or {}).get(name) or NETWORKS[name][1]()
        try:
            part.check()
        except (MissingExtra, MissingWeights) as error:
            absent[name] = str(error)
            continue
        part.loaded  # noqa: B018  start-up is not what is timed
        rates[name] = _rate(functools.partial(call, part, pairs), len(pairs))
    speed_up = round(rates["ssim"] / rates["ssim, 1 thread"], 2)
    facts = {"rows": len(pairs), "pairs_per_second": rates, "ssim_speed_up": speed_up, "absent": absent}
    for name, value in rates.items():
        print(f"  {name:24} {value:12,.1f} per second")
    print(f"  ssim on {available_threads()} threads is {facts['ssim_speed_up']:.2f} times as fast as on one")
    for name, why in absent.items():
        print(f"  {name:24} not measured: {why}")
    print(json.dumps(facts))
    return facts


def _pairs(src: str | None, rows: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(src) if src else Path(name)
        if src is None:
            write_samples(folder, copies=-(-rows // len(PHOTOS)))
        source = FolderSource(folder, str(folder))
        found = []
        for item in source.read(0, min(rows, len(source))):
            row = Row(images.decode(item.image).pixels, {})
            row.edited = Image.fromarray(row.array // 2)
            found.append(row)
    return found


def _on_cores(pairs: list[Row]) -> dict[str, float]:
    """SSIM on all cores and on one: the best of three, in turns, since others may use the machine."""
    for row in pairs:
        row.array  # noqa: B018  decoding is not what is timed
    names = {"ssim": None, "ssim, 1 thread": 1}
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for name, number in names.items():
            found[name].append(_rate(functools.partial(score_ssim, pairs, threads=number), len(pairs)))
    return {name: max(values) for name, values in found.items()}


def _formulas() -> dict[str, float]:
    """Rates of the formulas that take no image."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, _GALLERY, _WIDTH)).astype(np.float32)
    faces = [privacy.Face((0.0, 0.0, 9.0, 9.0), v) for v in a[:4]]
    labels = [["White", "Indian"], ["Black"], []] * 1000
    few = 256
    return {
        "clip_similarity": _rate(lambda: [clip_similarity(x, y) for x, y in zip(a, b, strict=True)], _GALLERY),
        "text_similarity": _rate(lambda: [privacy.text_similarity(_WORDS, _WORDS[:5]) for _ in range(2000)], 2000),
        "text_recall": _rate(lambda: [privacy.text_recall(_WORDS, _WORDS[:5]) for _ in range(2000)], 2000),
        "match_faces": _rate(lambda: [privacy.match_faces(faces, faces[::-1]) for _ in range(500)], 500),
        "race_entropy": _rate(lambda: privacy.race_entropy(labels), len(labels)),
        f"rank of {_GALLERY:,}": _rate(lambda: ranks(a[:few], b, range(few)), few),
    }


def _rate(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    call()
    return round(number / max(time.perf_counter() - start, 1e-9), 1)
