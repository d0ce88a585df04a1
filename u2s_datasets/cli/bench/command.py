"""`u2s bench`, `u2s bench stage1`, `u2s bench edit` and `u2s bench eval`."""

from __future__ import annotations

import argparse
from typing import Any

from u2s_datasets.cli.arguments import names, numbers
from u2s_datasets.errors import SetupError


def add(commands: Any, help_class: Any) -> None:
    """Add them to a parser's commands."""
    _add_bench(commands, help_class)
    _add_bench_stage1(commands, help_class)
    _add_bench_edit(commands, help_class)
    _add_bench_eval(commands, help_class)


def _add_bench(commands: Any, help_class: Any) -> None:
    p = commands.add_parser(
        "bench",
        help="images per second per stage, overhead over the bare detectors, peak memory",
        formatter_class=help_class,
    )
    p.set_defaults(call=_bench)
    p.add_argument(
        "src",
        metavar="SRC",
        nargs="?",
        help="folder of photos, default: those in the scikit-image package; or the word eval: the metrics' rates",
    )
    p.add_argument("--rows", type=int, default=64, metavar="N", help="rows to measure; photos repeat as needed")
    p.add_argument("--detectors", metavar="A,B", help="only these detectors")
    p.add_argument(
        "--num-proc", type=int, metavar="N", help="worker processes; default: one per core, as far as memory goes"
    )
    p.add_argument("--versus", metavar="COMMAND", help="instead: time faces only against a program such as deface")


def _add_bench_stage1(commands: Any, help_class: Any) -> None:
    p = commands.add_parser(
        "bench stage1",
        help="what a flag costs: forward passes, generated tokens, images per second",
        formatter_class=help_class,
    )
    p.set_defaults(call=_bench_stage1)
    p.add_argument("src", metavar="SRC", nargs="?", help="folder of photos; default: those in the scikit-image package")
    p.add_argument("--model", metavar="ID", help="a Hub id that is in the cache, or a folder; default: random weights")
    p.add_argument("--random-weights", metavar="SIZE", help="8b or tiny; default: 8b with a GPU, tiny without")
    p.add_argument("--dtype", help="float32, bfloat16 or float16; default: bfloat16 with a GPU, float32 without")
    p.add_argument("--batch", metavar="A,B", default="1,8,32", help="batch sizes")
    p.add_argument("--rows", type=int, default=32, metavar="N", help="photos per method and batch size")


def _add_bench_edit(commands: Any, help_class: Any) -> None:
    p = commands.add_parser(
        "bench edit",
        help="a diffusion editor's images per second and memory, by batch and size",
        formatter_class=help_class,
    )
    p.set_defaults(call=_bench_edit)
    p.add_argument("--editor", default="flowedit", help="flowedit, freeprompt, instruct_edit or another with --model")
    p.add_argument("--model", metavar="ID", help="a Hub id that is in the cache, or a folder; default: random weights")
    p.add_argument(
        "--random-weights",
        metavar="SIZE",
        nargs="?",
        const=None,
        help="full (the real architecture) or tiny; default: full with a GPU, tiny without",
    )
    p.add_argument("--dtype", help="float32, bfloat16 or float16; default: float16 with a GPU, float32 without")
    p.add_argument("--size", metavar="A,B", help="sides of the pictures; default: 512,1024 with a GPU, 64 without")
    p.add_argument("--batch", metavar="A,B", default="1,2,4,8,16", help="batch sizes")
    p.add_argument("--steps", type=int, metavar="N", help="num_inference_steps; default: the editor's own")


def _add_bench_eval(commands: Any, help_class: Any) -> None:
    p = commands.add_parser("bench eval", help="image pairs per second of each metric", formatter_class=help_class)
    p.set_defaults(call=_bench_eval)
    p.add_argument("src", metavar="SRC", nargs="?", help="folder of photos; default: those in the scikit-image package")
    p.add_argument("--rows", type=int, metavar="N", help="pairs to measure, default 64; with --memory 10000")
    p.add_argument("--memory", action="store_true", help="instead: what evaluating a tenth of N rows and all N holds")


def _bench(a: argparse.Namespace) -> int:
    from u2s_datasets.cli.bench.run import bench, versus

    if a.versus is not None:
        versus(a.versus, a.src, a.rows)
        return 0
    bench(a.src, rows=a.rows, detectors=names(a.detectors) or None, num_proc=a.num_proc)
    return 0


def _bench_stage1(a: argparse.Namespace) -> int:
    from u2s_datasets.cli.bench.stage1 import bench

    batches = numbers("--batch", a.batch)
    bench(a.src, model=a.model, random_weights=a.random_weights, dtype=a.dtype, batches=batches, rows=a.rows)
    return 0


def _bench_edit(a: argparse.Namespace) -> int:
    from u2s_datasets.cli.bench.edit import bench

    bench(
        a.editor,
        model=a.model,
        random_weights=a.random_weights,
        dtype=a.dtype,
        sizes=None if a.size is None else numbers("--size", a.size),
        batch_sizes=numbers("--batch", a.batch),
        steps=a.steps,
    )
    return 0


def _bench_eval(a: argparse.Namespace) -> int:
    from u2s_datasets.cli.bench.eval import bench_eval
    from u2s_datasets.cli.bench.eval_memory import bench_memory

    if a.memory and a.src is not None:
        raise SetupError(f"--memory makes its own rows; leave {a.src!r} out")
    if a.memory:
        bench_memory(**({} if a.rows is None else {"rows": a.rows}))
        return 0
    bench_eval(a.src, **({} if a.rows is None else {"rows": a.rows}))
    return 0
