"""The `u2s` command: parse, call, print."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from u2s_datasets import catalog
from u2s_datasets.errors import SetupError, U2SError

_BENCHES = ("stage1", "edit", "eval")


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
    _add_vispr(commands)
    _add_eval(commands)
    _add_simple(commands)
    _add_bench(commands)
    _add_bench_stage1(commands)
    _add_bench_edit(commands)
    _add_bench_eval(commands)
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
    what.add_argument("--editor", help=f"{', '.join(catalog.EDITORS)}; default: the profile's")
    what.add_argument("--seed", type=int, default=0, help="seed of the run; every row's own comes from it")
    what.add_argument(
        "--format", default="auto", help="auto (JPEG stays JPEG, lossless stays lossless), jpeg, png, webp"
    )
    what.add_argument(
        "--prior",
        default="edit_caption",
        help="text that a rewriting editor draws: private_caption, class_name, public_caption, edit_instruction or "
        "edit_caption",
    )
    what.add_argument("--label-column", metavar="NAME", help="for --prior class_name: a column of --keep, with classes")
    what.add_argument("--no-verify", action="store_true", help="do not inspect the output; it is marked as unverified")
    _add_models(p.add_argument_group("models, for profiles that have some"))
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


def _add_models(models: Any) -> None:
    models.add_argument(
        "--model",
        action="append",
        metavar="ROLE=ID",
        help="other weights for 'inspect', 'instruct' or 'edit': a folder, a Hub id, or ID@COMMIT; repeat per role",
    )
    models.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="transformers, vllm, or a server's address; ROLE=NAME for one role; default: the profile's",
    )
    models.add_argument("--small", action="store_true", help="the profile's smaller models")
    models.add_argument("--dtype", help="float32, bfloat16 or float16; default: each part's own")
    models.add_argument("--device", help="such as cuda:1; default: a GPU per worker, else the CPU")


def _add_report(commands: Any) -> None:
    p = commands.add_parser("report", help="print a run's table and write its reports again")
    p.set_defaults(call=_report)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_vispr(commands: Any) -> None:
    p = commands.add_parser(
        "vispr",
        help="how well a profile's inspection agrees with the labels of VISPR",
        description="Inspect a split of VISPR and compare with its labels. Killed, the same command goes on.",
        formatter_class=_Help,
    )
    p.set_defaults(call=_vispr)
    p.add_argument("--root", metavar="DIR", required=True, help="the dataset's folder, with test2017.txt and images/")
    p.add_argument("--out", metavar="FILE.json", required=True, help="figures and curves; private answers go beside it")
    p.add_argument("--split", default="test", help="train, val or test")
    p.add_argument("--profile", default="cpu", help="see `u2s profiles`; or package.module:NAME")
    p.add_argument("--detectors", metavar="A,B", help="faces,text, or none for the model alone; default: the profile's")
    p.add_argument("--criteria", metavar="A,B", help="names such as people,vispr:documents, or a file of one to a line")
    p.add_argument("--threshold", type=float, metavar="T", help="flag from this score of the model on, in (0, 1]")
    p.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    p.add_argument("--batch-size", type=int, default=16, metavar="N", help="images judged together")
    p.add_argument("--seed", type=int, default=0, help="seed of the bootstrap intervals")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no table")


def _add_eval(commands: Any) -> None:
    p = commands.add_parser(
        "eval",
        help="measure a finished run: quality, copying, privacy, re-identification",
        description="Measure what the run did not. Networks whose weights are here are used; the others are named.",
        formatter_class=_Help,
    )
    p.set_defaults(call=_eval)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--original", metavar="SRC", help="where the originals are now; default: where they were")
    p.add_argument("--over", default="all", choices=("all", "flagged"), help="the rows that count")
    p.add_argument("--paper-compat", action="store_true", help="the paper's definitions where they differ")
    p.add_argument("--clip", metavar="MODEL", help="folder or Hub id of an open_clip model; default: OpenAI ViT-L/14")
    p.add_argument("--lpips", metavar="FILE", help="torchvision's VGG-16; default: torch's hub folder")
    p.add_argument("--faces", metavar="NAME", help="face encoder: an .onnx file, or 'package.module:Class'")
    p.add_argument("--vlm", metavar="MODEL", help="judge and reader: folder, Hub id, or http://HOST:PORT/v1#MODEL")
    p.add_argument("--vispr", metavar="FILE", help="result of `u2s vispr`: how reliable the run's inspection is")
    p.add_argument("--seed", type=int, default=0, help="seed of the controls' sample")
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")
    p = commands.add_parser("compare", help="several evaluated runs side by side", formatter_class=_Help)
    p.set_defaults(call=_compare)
    p.add_argument("dirs", metavar="DIR", nargs="+", help="output folders of `u2s anonymize` on the same source")
    p.add_argument("--out", metavar="FILE", help="also write a page with the trade-off plot; private")
    p.add_argument("--x", metavar="SCORE", help="score across the plot; default: the first quality score there is")
    p.add_argument("--y", metavar="SCORE", help="score up the plot; default: the first privacy score there is")
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")


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


def _add_bench_eval(commands: Any) -> None:
    p = commands.add_parser("bench eval", help="image pairs per second of each metric", formatter_class=_Help)
    p.set_defaults(call=_bench_eval)
    p.add_argument("src", metavar="SRC", nargs="?", help="folder of photos; default: those in the scikit-image package")
    p.add_argument("--rows", type=int, metavar="N", help="pairs to measure, default 64; with --memory 10000")
    p.add_argument("--memory", action="store_true", help="instead: what evaluating a tenth of N rows and all N holds")


def _add_bench_edit(commands: Any) -> None:
    p = commands.add_parser(
        "bench edit",
        help="a diffusion editor's images per second and memory, by batch and size",
        formatter_class=_Help,
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


def _anonymize(a: argparse.Namespace) -> int:
    from u2s_datasets.runner import run

    facts = run(
        a.src,
        a.out,
        profile_name=a.profile,
        detectors=_names(a.detectors) or None,
        editor=a.editor,
        backend=_backends(a.backend),
        models=_by_role("--model", a.model),
        small=a.small,
        dtype=a.dtype,
        device=a.device,
        seed=a.seed,
        format=a.format,
        verify=not a.no_verify,
        prior=a.prior,
        label_column=a.label_column,
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


def _vispr(a: argparse.Namespace) -> int:
    from u2s_datasets.vispr_evaluation import evaluate_vispr

    criteria = _names(a.criteria)
    result = evaluate_vispr(
        a.root,
        a.split,
        profile=a.profile,
        detectors=() if a.detectors == "none" else _names(a.detectors) or None,
        criteria=criteria[0] if len(criteria) == 1 else criteria or None,
        threshold=a.threshold,
        limit=a.limit,
        batch_size=a.batch_size,
        seed=a.seed,
        out=a.out,
        progress=not a.quiet,
    )
    if not a.quiet:
        print(f"{result}\n\nfigures and curves  {a.out}")
    return 0


def _eval(a: argparse.Namespace) -> int:
    from u2s_datasets.evaluate import evaluate_run, parts_named

    parts, vlm = parts_named(a.clip, a.lpips, a.faces, a.vlm)
    options = {"original": a.original, "over": a.over, "paper_compat": a.paper_compat, "seed": a.seed, "vispr": a.vispr}
    made = evaluate_run(a.dir, **options, parts=parts, vlm=vlm)
    print(made.to_json(private=True) if a.json else made)
    return 0


def _compare(a: argparse.Namespace) -> int:
    from u2s_datasets.metrics.compare import compare, page_at

    if a.out:
        page_at(a.out)
    made = compare(a.dirs, x=a.x, y=a.y)
    if a.out:
        made.to_html(a.out)
    print(made.to_json() if a.json else made)
    return 0


def _profiles(_: argparse.Namespace) -> int:
    from u2s_datasets.profiles import build
    from u2s_datasets.recipes import RECIPES

    for name, recipe in RECIPES.items():
        inspected, left = build(name).inspect.scope()
        print(f"{name}: {recipe.words}")
        for line in recipe.needs():
            print(f"  {line}")
        print("  looks for", *inspected, sep="\n    - ")
        if left:
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


def _bench_eval(a: argparse.Namespace) -> int:
    from u2s_datasets.bench_eval import bench_eval
    from u2s_datasets.bench_eval_memory import bench_memory

    if a.memory and a.src is not None:
        raise SetupError(f"--memory makes its own rows; leave {a.src!r} out")
    if a.memory:
        bench_memory(**({} if a.rows is None else {"rows": a.rows}))
        return 0
    bench_eval(a.src, **({} if a.rows is None else {"rows": a.rows}))
    return 0


def _by_role(flag: str, values: Sequence[str] | None) -> dict[str, str]:
    """{"edit": "folder"} of ["edit=folder"]."""
    pairs = [value.partition("=") for value in values or ()]
    for role, equals, what in pairs:
        if not (role and equals and what):
            raise SetupError(f"{flag} {role + equals + what!r}: say it as ROLE=..., such as edit=FOLDER")
    return {role: what for role, _, what in pairs}


def _backends(values: Sequence[str] | None) -> str | dict[str, str] | None:
    alone = [value for value in values or () if "=" not in value.partition("://")[0]]
    if alone and len(values or ()) > 1:
        raise SetupError(f"--backend {alone[0]!r} is for all roles; give it alone, or ROLE=NAME for each")
    return alone[0] if alone else _by_role("--backend", values) or None


def _bench_stage1(a: argparse.Namespace) -> int:
    from u2s_datasets.bench_stage1 import bench

    batches = _numbers("--batch", a.batch)
    bench(a.src, model=a.model, random_weights=a.random_weights, dtype=a.dtype, batches=batches, rows=a.rows)
    return 0


def _bench_edit(a: argparse.Namespace) -> int:
    from u2s_datasets.bench_edit import bench

    bench(
        a.editor,
        model=a.model,
        random_weights=a.random_weights,
        dtype=a.dtype,
        sizes=_numbers("--size", a.size) or None,
        batch_sizes=_numbers("--batch", a.batch),
        steps=a.steps,
    )
    return 0


def _numbers(option: str, value: str | None) -> list[int]:
    try:
        return [int(number) for number in _names(value)]
    except ValueError as error:
        raise SetupError(f"{option}={value!r}: give whole numbers, such as 1,8,32") from error


def _names(value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
