"""`u2s bench` and `u2s bench stage1`, `edit`, `eval` and `detect`: parse, measure, print a line of JSON."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from u2s_datasets.cli.arguments import names, numbers
from u2s_datasets.errors import SetupError

_PHOTOS = "folder of photos; default: those in the scikit-image package"
_MODEL = "a Hub id that is in the cache, or a folder; default: random weights"
_DTYPE = "float32, bfloat16 or float16; default: {} with a GPU, float32 without"


def add(commands: Any, help_class: Any) -> None:
    """Add them to a parser's commands."""
    add_parser = partial(commands.add_parser, formatter_class=help_class)

    p = add_parser("bench", help="images per second per stage, overhead over the bare detectors, peak memory")
    p.set_defaults(call=partial(_run, _bench))
    p.add_argument("src", metavar="SRC", nargs="?", help=f"{_PHOTOS}; or the word eval: the metrics' rates")
    p.add_argument("--rows", type=int, default=64, metavar="N", help="rows to measure; photos repeat as needed")
    p.add_argument("--detectors", metavar="A,B", help="only these detectors")
    p.add_argument(
        "--num-proc", type=int, metavar="N", help="worker processes; default: one per core, memory permitting"
    )
    p.add_argument("--versus", metavar="COMMAND", help="instead: time faces only against a program such as deface")

    p = add_parser("bench stage1", help="what a flag costs: forward passes, generated tokens, images per second")
    p.set_defaults(call=partial(_run, _bench_stage1))
    p.add_argument("src", metavar="SRC", nargs="?", help=_PHOTOS)
    p.add_argument("--model", metavar="ID", help=_MODEL)
    p.add_argument("--random-weights", metavar="SIZE", help="8b or tiny; default: 8b with a GPU, tiny without")
    p.add_argument("--dtype", help=_DTYPE.format("bfloat16"))
    p.add_argument("--batch", metavar="A,B", default="1,8,32", help="batch sizes")
    p.add_argument("--rows", type=int, default=32, metavar="N", help="photos per method and batch size")

    p = add_parser("bench edit", help="a diffusion editor's images per second and memory, by batch and size")
    p.set_defaults(call=partial(_run, _bench_edit))
    p.add_argument("--editor", default="flowedit", help="flowedit, freeprompt, instruct_edit or another with --model")
    p.add_argument("--model", metavar="ID", help=_MODEL)
    sizes = "full (the real architecture) or tiny; default: full with a GPU, tiny without"
    p.add_argument("--random-weights", metavar="SIZE", nargs="?", help=sizes)
    p.add_argument("--dtype", help=_DTYPE.format("float16"))
    p.add_argument("--size", metavar="A,B", help="sides of the images; default: 512,1024 with a GPU, 64 without")
    p.add_argument("--batch", metavar="A,B", default="1,2,4,8,16", help="batch sizes")
    p.add_argument("--steps", type=int, metavar="N", help="num_inference_steps; default: the editor's own")

    p = add_parser("bench eval", help="image pairs per second of each metric")
    p.set_defaults(call=partial(_run, _bench_eval))
    p.add_argument("src", metavar="SRC", nargs="?", help=_PHOTOS)
    p.add_argument("--rows", type=int, metavar="N", help="pairs to measure, default 64; with --memory 10000")
    p.add_argument("--memory", action="store_true", help="instead: what evaluating a tenth of N rows and all N holds")

    p = add_parser("bench detect", help="how much of what is drawn into photos is found, hidden, and no longer read")
    p.set_defaults(call=partial(_run, _bench_detect))
    p.add_argument("src", metavar="SRC", nargs="?", help=f"{_PHOTOS}; they must not hold what is drawn")
    p.add_argument("--kind", default="codes", help="what is drawn: codes or text")
    p.add_argument("--rows", type=int, default=100, metavar="N", help="pictures per line of the table")
    p.add_argument("--detectors", metavar="A,B", help="what looks; default: the detector of this kind alone")


def _run(bench: Callable[[argparse.Namespace], dict[str, Any]], a: argparse.Namespace) -> int:
    print(json.dumps(bench(a)))
    return 0


def _bench(a: argparse.Namespace) -> dict[str, Any]:
    from u2s_datasets.cli.bench.run import bench, versus

    if a.versus is not None:
        return versus(a.versus, a.src, a.rows)
    return bench(a.src, rows=a.rows, detectors=names(a.detectors) or None, num_proc=a.num_proc)


def _need(*packages: str) -> None:
    """Raise `MissingExtra` before a module is imported that cannot be without the extra `models`."""
    from u2s_datasets.parts import checkpoints

    checkpoints.need("models", *packages)


def _bench_stage1(a: argparse.Namespace) -> dict[str, Any]:
    _need("torch", "transformers", "torchvision")
    from u2s_datasets.cli.bench.stage1 import bench

    batch_sizes = numbers("--batch", a.batch)
    return bench(a.src, a.model, random_weights=a.random_weights, dtype=a.dtype, batch_sizes=batch_sizes, rows=a.rows)


def _bench_edit(a: argparse.Namespace) -> dict[str, Any]:
    _need("torch", "diffusers", "transformers")
    from u2s_datasets.cli.bench.edit import bench

    sizes = None if a.size is None else numbers("--size", a.size)
    batch_sizes = numbers("--batch", a.batch)
    return bench(a.editor, a.model, a.random_weights, a.dtype, sizes, batch_sizes, a.steps)


def _bench_eval(a: argparse.Namespace) -> dict[str, Any]:
    from u2s_datasets.cli.bench.eval import bench_eval
    from u2s_datasets.cli.bench.eval_memory import bench_memory

    if not a.memory:
        return bench_eval(a.src, 64 if a.rows is None else a.rows)
    if a.src is not None:
        raise SetupError(f"unexpected SRC {a.src!r} beside --memory, which makes its own rows; leave it out")
    return bench_memory(10_000 if a.rows is None else a.rows)


def _bench_detect(a: argparse.Namespace) -> dict[str, Any]:
    from u2s_datasets.cli.bench.detect import bench_detect

    return bench_detect(a.src, a.kind, a.rows, names(a.detectors) or None)
