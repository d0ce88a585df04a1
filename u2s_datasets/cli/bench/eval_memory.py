"""`u2s bench eval --memory`: what `u2s eval` holds in memory, on a run of a tenth of the rows and on one of all.

Both runs are evaluated in a fresh process each, with every formula, an encoder of random projections as wide as
CLIP ViT-L/14's, and the attack on all originals. What grows from one to the other grows with the rows.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.parts.metrics.encoders import ImageTextEncoder
from u2s_datasets.runs.manifest import Shard
from u2s_datasets.runs.writer import Output

_WIDTH, _SIDE, _SHARD = 768, 64, 256


@dataclass(frozen=True)
class Projections(ImageTextEncoder):
    """Stands in for CLIP: a random projection of the image at 8x8, and of the letters of a text."""

    def embed_images(self, images: Any) -> np.ndarray:
        """(N, 768) float32."""
        small = [np.asarray(i.convert("RGB").resize((8, 8)), np.float32).ravel() for i in images]
        return (np.stack(small) - 128) @ _projection()

    def embed_texts(self, texts: Any) -> np.ndarray:
        """(N, 768) float32."""
        counts = [np.bincount([ord(k) % 192 for k in text], minlength=192) for text in texts]
        return np.stack(counts).astype(np.float32) @ _projection()


@cache
def _projection() -> np.ndarray:
    """(192, 768): 8 x 8 pixels of three colours, or 192 letters, to an embedding."""
    return np.random.default_rng(0).normal(size=(192, _WIDTH)).astype(np.float32)


def bench_memory(rows: int = 10_000) -> dict[str, Any]:
    """Measure and print a table.

    Args:
        rows: of the larger run, 20 or more.

    Returns:
        Per run its rows, seconds, and MiB at the peak: `anonymous` is memory that the process owns, `mapped` also
        counts files that it has mapped and that the system may drop.

    Raises:
        SetupError: too few rows.
        U2SError: an evaluation failed.
    """
    if rows < 20:
        raise SetupError(f"rows={rows} is too few to tell a tenth from the whole; give 20 or more, such as 10000")
    tenth, whole = (_measure_in_process(n) for n in (rows // 10, rows))
    kib = round(1024 * (whole["anonymous_mib"] - tenth["anonymous_mib"]) / (rows - rows // 10), 2)
    for made in (tenth, whole):
        print(f"  {made['rows']:8,} rows  {made['seconds']:8.1f} s  {made['anonymous_mib']:8.1f} MiB anonymous", end="")
        print(f"  {made['mapped_mib']:8.1f} MiB with mapped files")
    print(f"  {kib:.2f} KiB more per row")
    return {"memory": [tenth, whole], "kib_per_row": kib}


def _measure_in_process(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        write_run(Path(name), rows)
        done = subprocess.run([sys.executable, "-m", __name__, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise U2SError(f"the evaluation of {rows:,} rows failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    return {"rows": rows, **json.loads(done.stdout.splitlines()[-1])}


def write_run(folder: Path, rows: int) -> None:
    """A finished run of half safe and half edited rows in `folder/out`, and its originals in `folder/photos`."""
    photos, done = folder / "photos", list[Shard]()
    photos.mkdir(parents=True)
    with Output(folder / "out") as output:
        source = {"source": str(photos), "source_kind": "folder", "source_content": "", "split": None}
        output.resume({**source, "image_column": None, "configuration": {}, "secret": ""})
        for start in range(0, rows, _SHARD):
            made = [_write_row(photos, i) for i in range(start, min(start + _SHARD, rows))]
            output.add_shard(done, start // _SHARD, made, {})
        edited = rows // 2
        facts = {"rows": rows, c.SAFE: rows - edited, c.ANONYMIZED: edited, c.WITHHELD: 0, "verified": True}
        output.vouch(done, facts)


def _write_row(photos: Path, i: int) -> dict[str, Any]:
    """Write one original; returns the row's columns, private and public."""
    small = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
    before = Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    (photos / f"{i:08d}.jpg").write_bytes(images.encode(before, "jpeg"))
    after = before if i % 2 == 0 else Image.fromarray(np.asarray(before) // 2)
    item = c.review_item("text", f"gate {i}", "", (0, 0, 9, 9), 0.9)
    return {
        c.ROW_ID: f"{i:032x}",
        c.SOURCE: f"{i:08d}.jpg",
        c.STATUS: c.SAFE if i % 2 == 0 else c.ANONYMIZED,
        c.PRIVACY_FLAG: i % 2 == 1,
        c.PRIVACY_REVIEW: [item] * (i % 2),
        c.PUBLIC_CAPTION: f"a pattern, number {i}",
        c.ANONYMIZED_IMAGE: {"bytes": images.encode(after, "jpeg"), "path": None},
        **dict.fromkeys((c.TEXT_SIMILARITY, c.TEXT_RECALL, c.RESIDUAL_FACES, c.RESIDUAL_TEXT), 0),
        "kept": {},
        "kept_emptied": {},
    }


def _measure(folder: Path) -> dict[str, float]:
    """Evaluate the run in this process; returns the seconds and the peaks of memory in MiB."""
    from u2s_datasets.evaluation.evaluate import evaluate_run
    from u2s_datasets.stages.score import Score

    peaks = {"anonymous_mib": 0.0, "mapped_mib": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            mib = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
            peaks["anonymous_mib"] = max(peaks["anonymous_mib"], mib["RssAnon"])
            peaks["mapped_mib"] = max(peaks["mapped_mib"], mib["RssAnon"] + mib["RssFile"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    score = Score(inspect=None, clip=Projections())
    try:
        evaluate_run(folder / "out", original=str(folder / "photos"), score=score)
    finally:
        stop.set()
        watcher.join()
    return {name: round(value, 1) for name, value in {"seconds": time.perf_counter() - start, **peaks}.items()}


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
