"""The `u2s` command: parse, call, print."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from u2s_datasets.errors import SetupError, U2SError

_BENCHES = ("stage1",)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 2 for a call to mend, 1 for a failure, 130 for Ctrl-C."""
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return arguments.call(arguments)
    except SetupError as error:
        print(f"u2s: {error}", file=sys.stderr)
        return 2
    except U2SError as error:
        print(f"u2s: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nu2s: stopped; the same command goes on where it left off", file=sys.stderr)
        return 130


def _joined(words: Sequence[str]) -> list[str]:
    """`bench stage1` as one command: what else follows `bench` is a folder of photos."""
    if words[:1] == ["bench"] and words[1:2] and words[1] in _BENCHES:
        return [f"bench {words[1]}", *words[2:]]
    return list(words)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, and nothing where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="u2s", description="Make image datasets safe to publish: find what is private, hide it, prove it."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_anonymize(commands)
    _add_report(commands)
    _add_fiftyone(commands)
    _add_simple(commands)
    _add_bench(commands)
    _add_bench_stage1(commands)
    return parser


def _add_anonymize(commands: Any) -> None:
    p = commands.add_parser(
        "anonymize",
        help="a folder or dataset in, a folder of safe parquet shards and reports out",
        description="Anonymize SRC into DIR. Killed or stopped, the same command goes on where it left off.",
        formatter_class=_Help,
    )
    p.set_defaults(call=_anonymize)
    p.add_argument("src", metavar="SRC", help="folder of images, parquet, saved dataset, or Hub dataset ORG/NAME")
    p.add_argument("--out", metavar="DIR", required=True, help="new folder for data/, private/, run.json, report.html")
    what = p.add_argument_group("what is done")
    what.add_argument("--profile", default="cpu", help="named set of parts; see `u2s profiles`")
    what.add_argument("--detectors", metavar="A,B", help="what to look for: faces,text; default: the profile's")
    what.add_argument("--editor", help="redact, solid, pixelate, blur, inpaint; default: the profile's")
    what.add_argument("--seed", type=int, default=0, help="seed of the run; every row's own comes from it")
    what.add_argument(
        "--format", default="auto", help="auto (JPEG stays JPEG, lossless stays lossless), jpeg, png, webp"
    )
    what.add_argument("--no-verify", action="store_true", help="do not inspect the output; it is marked as unverified")
    read = p.add_argument_group("what is read")
    read.add_argument("--split", help="split of a dataset that has several")
    read.add_argument("--image-column", metavar="NAME", help="image column of a dataset; default: found by its type")
    read.add_argument("--keep", metavar="A,B", help="columns to publish along; 'label' is the class folder of a file")
    read.add_argument("--allow", metavar="A,B", help="kept columns that may pass although they look identifying")
    read.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    work = p.add_argument_group("how it is run")
    work.add_argument("--secret", metavar="FILE", help="key of the row ids; default: made and kept in private/")
    work.add_argument("--shard-size", type=int, default=256, metavar="N", help="source rows per shard")
    work.add_argument(
        "--num-proc", type=int, metavar="N", help="worker processes; default: one per core, as far as memory goes"
    )
    work.add_argument("--dry-run", action="store_true", help="check and count everything, write nothing")
    work.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")


def _add_report(commands: Any) -> None:
    p = commands.add_parser("report", help="print a run's table and write its reports again")
    p.set_defaults(call=_report)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_fiftyone(commands: Any) -> None:
    p = commands.add_parser(
        "fiftyone", help="review a run by eye in the FiftyOne App, on this machine only", formatter_class=_Help
    )
    p.set_defaults(call=_fiftyone)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--name", help="of the FiftyOne dataset; default: the folder's")
    p.add_argument("--media", metavar="FOLDER", help="where the App's images go; default: DIR/private/fiftyone")
    p.add_argument("--port", type=int, default=5151, help="of the App, on 127.0.0.1")
    p.add_argument("--again", action="store_true", help="import the run anew")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")


def _add_simple(commands: Any) -> None:
    p = commands.add_parser("profiles", help="list the profiles, what they look for and what they do not")
    p.set_defaults(call=_profiles)
    p = commands.add_parser("doctor", help="what is installed, and what will really be used")
    p.set_defaults(call=_doctor)


def _add_bench(commands: Any) -> None:
    p = commands.add_parser(
        "bench",
        help="images per second per stage, overhead over the bare detectors, peak memory",
        formatter_class=_Help,
    )
    p.set_defaults(call=_bench)
    p.add_argument("src", metavar="SRC", nargs="?", help="folder of photos; default: those in the scikit-image package")
    p.add_argument("--rows", type=int, default=64, metavar="N", help="rows to measure; photos repeat as needed")
    p.add_argument("--detectors", metavar="A,B", help="only these detectors")
    p.add_argument(
        "--num-proc", type=int, metavar="N", help="worker processes; default: one per core, as far as memory goes"
    )
    p.add_argument("--versus", metavar="COMMAND", help="instead: time faces only against a program such as deface")


def _add_bench_stage1(commands: Any) -> None:
    p = commands.add_parser(
        "bench stage1",
        help="what a flag costs: forward passes, generated tokens, images per second",
        formatter_class=_Help,
    )
    p.set_defaults(call=_bench_stage1)
    p.add_argument("src", metavar="SRC", nargs="?", help="folder of photos; default: those in the scikit-image package")
    p.add_argument("--model", metavar="ID", help="a Hub id that is in the cache, or a folder; default: random weights")
    p.add_argument("--random-weights", metavar="SIZE", help="8b or tiny; default: 8b with a GPU, tiny without")
    p.add_argument("--dtype", help="float32, bfloat16 or float16; default: bfloat16 with a GPU, float32 without")
    p.add_argument("--batch", metavar="A,B", default="1,8,32", help="batch sizes")
    p.add_argument("--rows", type=int, default=32, metavar="N", help="photos per method and batch size")


def _anonymize(a: argparse.Namespace) -> int:
    from u2s_datasets.runner import run

    facts = run(
        a.src,
        a.out,
        profile_name=a.profile,
        detectors=_names(a.detectors) or None,
        editor=a.editor,
        seed=a.seed,
        format=a.format,
        verify=not a.no_verify,
        split=a.split,
        image_column=a.image_column,
        keep=_names(a.keep),
        allow=_names(a.allow),
        secret=a.secret,
        limit=a.limit,
        shard_size=a.shard_size,
        num_proc=a.num_proc,
        dry_run=a.dry_run,
        progress=not a.quiet,
    )
    if a.dry_run:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    elif not a.quiet:
        _print_result(a.out, facts)
    return 0


def _print_result(out: str, facts: dict[str, Any]) -> None:
    from u2s_datasets.metrics.report import report

    print(report(out))
    if not facts["verified"]:
        print("\nUNVERIFIED: the output was not inspected again (--no-verify).")
    print(f"\nsafe to look at  {out}/report.html")
    print(f"originals beside {out}/private/report.html   (never publish private/)")


def _report(a: argparse.Namespace) -> int:
    from u2s_datasets.metrics.report import report
    from u2s_datasets.runner import rewrite_reports

    result = report(a.dir)
    rewrite_reports(a.dir)
    print(result.to_json() if a.json else result)
    return 0


def _fiftyone(a: argparse.Namespace) -> int:
    from u2s_datasets import fiftyone_io

    fiftyone_io.require()
    from u2s_datasets.app.launch import launch

    dataset, session = launch(a.dir, a.name, a.media, a.port, again=a.again, browser=not a.no_browser)
    print(f"{dataset.name}: http://127.0.0.1:{a.port} (Ctrl-C ends it; decisions are kept in {a.dir}/private)")
    session.wait(-1)
    return 0


def _profiles(_: argparse.Namespace) -> int:
    from u2s_datasets.profiles import NAMES, profile

    for name, words in NAMES.items():
        inspected, left = profile(name).inspect.scope()
        print(f"{name}: {words}")
        print("  looks for", *inspected, sep="\n    - ")
        print("  does not look for", *left, sep="\n    - ")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from u2s_datasets.doctor import examine

    return examine()


def _bench(a: argparse.Namespace) -> int:
    from u2s_datasets.bench import bench, versus

    if a.versus is not None:
        versus(a.versus, a.src, a.rows)
        return 0
    bench(a.src, rows=a.rows, detectors=_names(a.detectors) or None, num_proc=a.num_proc)
    return 0


def _bench_stage1(a: argparse.Namespace) -> int:
    from u2s_datasets.bench_stage1 import bench

    batches = _numbers("--batch", a.batch)
    bench(a.src, model=a.model, random_weights=a.random_weights, dtype=a.dtype, batches=batches, rows=a.rows)
    return 0


def _numbers(option: str, value: str) -> list[int]:
    try:
        return [int(number) for number in _names(value)]
    except ValueError as error:
        raise SetupError(f"{option}={value!r}: give whole numbers, such as 1,8,32") from error


def _names(value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
