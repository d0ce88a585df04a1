"""`u2s report`, `u2s eval`, `u2s compare` and `u2s vispr`."""

import argparse
from typing import Any

from u2s_datasets.cli.anonymize import OPTIONS
from u2s_datasets.cli.arguments import some_names

_MODELS = ("models", "backend", "criteria", "threshold", "method")
"""What `u2s vispr` takes as `u2s anonymize` does."""


def add(commands: Any, help_class: Any) -> None:
    """Add them to a parser's commands."""
    p = commands.add_parser("report", help="print a run's table and write its reports again")
    p.set_defaults(call=_report)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_eval(commands, help_class)
    _add_compare(commands, help_class)
    _add_vispr(commands, help_class)


def _add_eval(commands: Any, help_class: Any) -> None:
    p = commands.add_parser(
        "eval",
        help="measure a finished run: quality, copying, privacy, re-identification",
        description="Measure what the run did not. Networks whose weights are here are used; the others are named.",
        formatter_class=help_class,
    )
    p.set_defaults(call=_eval)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--vispr", metavar="FILE", help="result of `u2s vispr`: how reliable the run's inspection is")
    p.add_argument("--original", metavar="SRC", help="where the originals are now; default: where they were")
    p.add_argument("--over", default="all", choices=("all", "flagged"), help="the rows that count")
    p.add_argument("--paper-compat", action="store_true", help="the paper's definitions where they differ")
    p.add_argument("--clip", metavar="MODEL", help="folder or Hub id of an open_clip model; default: OpenAI ViT-L/14")
    p.add_argument("--lpips", metavar="FILE", help="torchvision's VGG-16; default: torch's hub folder")
    p.add_argument("--faces", metavar="NAME", help="face encoder: an .onnx file, or 'package.module:Class'")
    p.add_argument("--vlm", metavar="MODEL", help="judge and reader: folder, Hub id, or http://HOST:PORT/v1#MODEL")
    p.add_argument("--seed", type=int, default=0, help="seed of the controls' sample")
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_compare(commands: Any, help_class: Any) -> None:
    p = commands.add_parser("compare", help="several evaluated runs side by side", formatter_class=help_class)
    p.set_defaults(call=_compare)
    p.add_argument("dirs", metavar="DIR", nargs="+", help="output folders of `u2s anonymize` on the same source")
    p.add_argument("--out", metavar="FILE", help="also write a page with the trade-off plot; private")
    p.add_argument("--x", metavar="SCORE", help="score on the x axis; default: the first measured quality score")
    p.add_argument("--y", metavar="SCORE", help="score on the y axis; default: the first measured privacy score")
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_vispr(commands: Any, help_class: Any) -> None:
    p = commands.add_parser(
        "vispr",
        help="how well a profile's inspection agrees with the labels of VISPR",
        description="Inspect a split of VISPR and compare with its labels. Killed, the same command goes on.",
        formatter_class=help_class,
    )
    p.set_defaults(call=_vispr)
    p.add_argument("--root", metavar="DIR", required=True, help="the dataset's folder, with test2017.txt and images/")
    p.add_argument("--out", metavar="FILE.json", required=True, help="figures and curves; private answers go beside it")
    p.add_argument("--split", default="test", help="train, val or test")
    p.add_argument("--profile", default="cpu", help="see `u2s profiles`; or package.module:NAME")
    p.add_argument("--detectors", metavar="A,B", help="faces,text, or none for the model alone; default: the profile's")
    OPTIONS.add(p, _MODELS)
    p.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    p.add_argument("--batch-size", type=int, default=16, metavar="N", help="images judged together")
    p.add_argument("--seed", type=int, default=0, help="seed of the bootstrap intervals")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no table")


def _report(a: argparse.Namespace) -> int:
    from u2s_datasets.evaluation.report.report import report, rewrite_reports

    result = report(a.dir)
    rewrite_reports(a.dir)
    print(result.to_json() if a.json else result)
    return 0


def _eval(a: argparse.Namespace) -> int:
    from u2s_datasets.evaluation.evaluate import evaluate_run, make_parts

    parts = make_parts(a.clip, a.lpips, a.faces, a.vlm)
    options = {"original": a.original, "over": a.over, "paper_compat": a.paper_compat, "seed": a.seed, "vispr": a.vispr}
    made = evaluate_run(a.dir, **options, parts=parts)
    print(made.to_json(private=True) if a.json else made)
    return 0


def _compare(a: argparse.Namespace) -> int:
    from u2s_datasets.evaluation.compare import check_page, compare

    if a.out:
        check_page(a.out)
    made = compare(a.dirs, x=a.x, y=a.y)
    if a.out:
        made.to_html(a.out)
    print(made.to_json() if a.json else made)
    return 0


def _vispr(a: argparse.Namespace) -> int:
    from u2s_datasets.evaluation.vispr.evaluate import evaluate_vispr

    detectors = a.detectors
    if detectors is not None:
        detectors = () if detectors == "none" else some_names("--detectors", detectors)
    result = evaluate_vispr(
        a.root,
        a.split,
        profile=a.profile,
        detectors=detectors,
        limit=a.limit,
        batch_size=a.batch_size,
        seed=a.seed,
        out=a.out,
        progress=not a.quiet,
        **OPTIONS.given(a, _MODELS),
    )
    if not a.quiet:
        print(f"{result}\n\nfigures and curves  {a.out}")
    return 0
