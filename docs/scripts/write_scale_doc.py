"""A plan for millions of images, computed from what one image costs.

    python docs/scripts/write_scale_doc.py measure docs/scale_costs.json [PHOTOS]     measures this machine, one thread
    python docs/scripts/write_scale_doc.py write docs/scale.md docs/scale_costs.json  computes the tables of that page

The figures of models are seconds per image on one GPU. Whoever has measured them (`u2s bench stage1`,
`u2s bench edit`) puts them into the JSON in place of the examples there.
"""

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets.executor.ordering import LONGEST

IMAGES = (1_000_000, 10_000_000, 1_000_000_000)
_MARKS = "<!-- computed by docs/scripts/write_scale_doc.py -->", "<!-- end -->"
_RUN = 1_000_000
"""Rows of one run at the most. Every reader holds the list of the whole source, 140 bytes and more a row, Ray plans
1.5 ms a block before the first row, and the manifest is written again with every shard."""


@dataclass(frozen=True)
class Stage:
    """One stage of a plan.

    Args:
        name: for the table.
        seconds: of one worker, per image of the source.
        per_machine: workers that one machine has room for.
        start: seconds until a worker is ready.
    """

    name: str
    seconds: float
    per_machine: int
    start: float


def stages_of(costs: Mapping[str, Any], models: bool) -> list[Stage]:
    """The pools of a profile without or with models, from the costs of one image."""
    cpu, machine = costs["cpu"], costs["machine"]
    if not models:
        return [Stage("pipeline", cpu["pipeline"] / machine["efficiency"], machine["cores"], cpu["start"])]
    gpu = costs["gpu"]
    words = gpu["caption_tokens"] / gpu["tokens_per_second"]
    instruct = gpu["instruct_tokens"] / gpu["tokens_per_second"]
    edit = gpu["editor_seconds"] * gpu["attempts"] + cpu["detect"] + cpu["encode"]
    flagged = gpu["flagged"]
    return [
        Stage("inspect", gpu["judge_seconds"] + flagged * words, machine["gpus"], gpu["start"]),
        Stage("instruct", flagged * instruct, machine["gpus"], gpu["start"]),
        Stage("anonymize", flagged * edit + cpu["decode"] + cpu["encode"], machine["gpus"], gpu["start"]),
    ]


def plan(costs: Mapping[str, Any], images: int, models: bool, hours: float = 24.0) -> dict[str, Any]:
    """What so many images take.

    Args:
        costs: what `measure` wrote.
        images: of the source.
        models: whether language models and a diffusion editor work, on GPUs.
        hours: the time in which it is to be done; as many machines are taken as that needs.

    Returns:
        Machines, hours, runs beside each other, terabytes in and out, the limiting stage, seconds lost by failures.
    """
    stages = stages_of(costs, models)
    machines = {
        s.name: max(1, math.ceil(images * s.seconds / s.per_machine / (hours * 3600 - s.start))) for s in stages
    }
    takes = {s.name: images * s.seconds / s.per_machine / machines[s.name] + s.start for s in stages}
    speed = images / max(takes.values())
    writers = max(1, math.ceil(speed * costs["cpu"]["write"]))
    slowest = max(stages, key=lambda s: s.seconds / s.per_machine)
    lost = LONGEST * slowest.seconds + slowest.start
    return {
        "images": images,
        "machines": sum(machines.values()),
        "by_stage": machines,
        "hours": max(takes.values()) / 3600,
        "runs": max(writers, math.ceil(images / _RUN)),
        "terabytes_in": images * costs["cpu"]["bytes_in"] / 1e12,
        "terabytes_out": images * (costs["cpu"]["bytes_out"] + costs["cpu"]["bytes_private"]) / 1e12,
        "limits": slowest.name,
        "worker_dies": lost,
        "machine_dies": lost * slowest.per_machine,
    }


def table(costs: Mapping[str, Any], models: bool) -> str:
    """The plans as a table in Markdown."""
    lines = [
        "| images | machines | hours | runs | TB read | TB written | limiting stage | a worker dies | a machine dies |",
        "|--:|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for images in IMAGES:
        p = plan(costs, images, models)
        lines.append(
            f"| {images // 1_000_000:,} million | {p['machines']:,} | {p['hours']:.1f} | {p['runs']:,} | "
            f"{p['terabytes_in']:.2f} | {p['terabytes_out']:.2f} | {p['limits']} | {p['worker_dies']:.0f} s | "
            f"{p['machine_dies'] / 3600:.2f} h |"
        )
    return "\n".join(lines)


def page(costs: Mapping[str, Any]) -> str:
    """All that is computed, in Markdown."""
    cpu, machine, gpu = costs["cpu"], costs["machine"], costs["gpu"]
    names = ("read", "decode", "detect", "encode", "pipeline", "write")
    return "\n".join(
        [
            f"Processor time of one thread on {costs['measured']['on']}, {costs['measured']['date']}, load "
            f"{costs['measured']['load']}, medians over {costs['measured']['images']} photos of "
            f"{cpu['megapixels']:.2f} megapixels (mean):",
            "",
            "| per image | " + " | ".join(names) + " |",
            "|---|" + "--:|" * len(names),
            "| ms | " + " | ".join(f"{cpu[n] * 1000:.1f}" for n in names) + " |",
            "",
            f"Bytes per image: {cpu['bytes_in']:,.0f} read, {cpu['bytes_out']:,.0f} published, "
            f"{cpu['bytes_private']:,.0f} private. A worker is ready after {cpu['start']:.1f} s.",
            "",
            f"Profile `cpu`, machines of {machine['cores']} cores and 64 GB, of which the work gets "
            f"{machine['efficiency']:.0%}, as measured above:",
            "",
            table(costs, models=False),
            "",
            f"With models, machines of {machine['gpus']} GPUs, one stage per machine. **An example, not measured**: "
            f"{gpu['flagged']:.0%} flagged, {gpu['judge_seconds']} s per flag, {gpu['caption_tokens']} caption tokens "
            f"and {gpu['instruct_tokens']} instruction tokens at {gpu['tokens_per_second']} tokens per second and GPU, "
            f"{gpu['editor_seconds']} s per edit, {gpu['attempts']} attempts, {gpu['start']} s to load:",
            "",
            table(costs, models=True),
        ]
    )


def write(path: Path, costs: Mapping[str, Any]) -> None:
    """Put the computed part between its marks in a page."""
    text = path.read_text("utf-8")
    before, _, rest = text.partition(_MARKS[0])
    after = rest.partition(_MARKS[1])[2]
    path.write_text(f"{before}{_MARKS[0]}\n\n{page(costs)}\n\n{_MARKS[1]}{after}", "utf-8")


def measure(photos: str | None, rows: int = 18) -> dict[str, float]:
    """Seconds and bytes per image of the profile `cpu` in this process, medians over the photos.

    Args:
        photos: a folder; None for the photos of the scikit-image package.
        rows: how many photos at most.
    """
    from u2s_datasets import columns, images
    from u2s_datasets.cli.bench.sample_photos import open_photos
    from u2s_datasets.executor.pipeline import Pipeline
    from u2s_datasets.images.stored import with_bytes
    from u2s_datasets.runs.writer import Output
    from u2s_datasets.stages.profiles import profile

    with open_photos(photos, rows) as source, tempfile.TemporaryDirectory() as out:
        files = list(source.read(0, rows))
        pipeline = Pipeline(profile().with_engine("openvino", threads=1), b"0123456789abcdef")
        began = time.monotonic()
        pipeline.prepare()
        started = time.monotonic() - began
        items = [replace(item, image=with_bytes(item.image)) for item in files]
        answers = pipeline(items)
        detectors = pipeline.profile.inspect.detectors
        decoded = [images.decode(item.image) for item in items]
        arrays = [np.asarray(d.pixels) for d in decoded]
        with Output(Path(out)) as output:
            output.resume({"source_content": "", "secret": ""})
            written = _seconds(lambda rows: output.add_shard([], 0, rows, {}), [answers])
        private = Path(out, "private/rows/part-00000.parquet").stat().st_size
        published = [a[columns.ANONYMIZED_IMAGE] for a in answers if a[columns.ANONYMIZED_IMAGE]]
        return {
            "read": _seconds(with_bytes, [item.image for item in files]),
            "decode": _seconds(images.decode, [item.image for item in items]),
            "detect": _seconds(lambda array: [d.detect([array]) for d in detectors], arrays),
            "encode": _seconds(lambda d: images.encode(d.pixels, images.choose_format(d)), decoded),
            "pipeline": _seconds(lambda item: pipeline([item]), items),
            "write": written / len(items),
            "start": round(started, 2),
            "bytes_in": statistics.mean(len(i.image["bytes"]) for i in items),
            "bytes_out": sum(len(image["bytes"]) for image in published) / len(items),
            "bytes_private": private / len(items),
            "megapixels": statistics.mean(d.pixels.width * d.pixels.height / 1e6 for d in decoded),
        }


def _seconds(call: Callable[[Any], Any], values: Sequence[Any], rounds: int = 3) -> float:
    """Mean over the values of the median over the rounds, in seconds of processor time."""
    # Of this process alone: what else runs on the machine does not count.
    timed = (timeit.repeat(partial(call, v), timer=time.process_time, number=1, repeat=rounds) for v in values)
    return statistics.mean(map(statistics.median, timed))


def main(words: Sequence[str]) -> None:
    """Measure, or write the page."""
    if words[:1] == ["measure"]:
        import datetime

        import cv2

        cv2.setNumThreads(1)
        path = Path(words[1])
        costs = json.loads(path.read_text("utf-8")) if path.exists() else {}
        load = round(os.getloadavg()[0], 1)
        costs["cpu"] = measure(words[2] if len(words) > 2 else None)
        where = f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}"
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        costs["measured"] = {"on": where, "date": today, "load": load, "images": 18}
        path.write_text(json.dumps(costs, indent=1) + "\n", "utf-8")
    elif words[:1] == ["write"]:
        write(Path(words[1]), json.loads(Path(words[2]).read_text("utf-8")))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
