"""`u2s bench eval`: images per second of each metric, on the bundled photos or a folder's."""

import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.cli.bench.sample_photos import open_photos
from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError
from u2s_datasets.parts.metrics import privacy
from u2s_datasets.parts.metrics.quality import clip_similarity
from u2s_datasets.parts.metrics.reidentification import ranks
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


def bench_eval(src: str | None = None, rows: int = 64) -> dict[str, Any]:
    """Measure and print a table.

    Args:
        src: a folder of readable photos; None for those of the scikit-image package.
        rows: how many pairs to measure: each photo beside itself with its pixel values halved.

    Returns:
        Pairs per second by metric, and what could not be measured.

    Raises:
        SetupError: `rows` is below 1.
    """
    if rows < 1:
        raise SetupError(f"invalid rows={rows}; expected 1 or more")
    pairs = []
    with open_photos(src, rows) as source:
        for item in source.read(0, rows):
            row = Row(images.decode(item.image).pixels, {})
            row.edited = Image.fromarray(row.array // 2)  # also decodes, so that this is not timed
            pairs.append(row)
    # SSIM on all cores and on one: the best of three, in turns, since others may use the machine.
    rates: dict[str, float] = {}
    for _ in range(3):
        for name, number in (("ssim", None), ("ssim, 1 thread", 1)):
            rate = _rate(partial(score_ssim, pairs, threads=number), len(pairs))
            rates[name] = max(rate, rates.get(name, 0.0))
    rates |= _formulas()
    absent: dict[str, str] = {}
    work: dict[str, Callable[..., None]] = {"clip": score_clip, "lpips": score_lpips, "faces": score_faces}
    for name, measure in work.items():
        part = NETWORKS[name][1]()
        try:
            part.check()
        except (MissingExtra, MissingWeights) as error:
            absent[name] = str(error)
            continue
        _ = part.loaded  # so that loading is not timed
        rates[name] = _rate(partial(measure, part, pairs), len(pairs))
    speed_up = round(rates["ssim"] / rates["ssim, 1 thread"], 2)
    for name, value in rates.items():
        print(f"  {name:24} {value:12,.1f} per second")
    print(f"  ssim on {available_threads()} threads is {speed_up:.2f} times as fast as on one")
    for name, why in absent.items():
        print(f"  {name:24} not measured: {why}")
    return {"rows": len(pairs), "pairs_per_second": rates, "ssim_speed_up": speed_up, "absent": absent}


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
    return round(number / max(timeit.timeit(call, number=1), 1e-9), 1)
