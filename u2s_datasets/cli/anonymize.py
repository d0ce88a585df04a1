"""`u2s anonymize`: its options, made from `RunOptions`, and its call of `run`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.cli import arguments
from u2s_datasets.cli.arguments import Flag, OptionTable
from u2s_datasets.executor.options import RunOptions
from u2s_datasets.parts import catalog
from u2s_datasets.sources.addresses import local_path, strip_credentials

if TYPE_CHECKING:
    from u2s_datasets.executor.trial import Trial

_GROUPS = {
    "profile_name": "what is done",
    "models": "models, for profiles that have some",
    "scores": "what an edited image must score",
    "seed": "how it is edited",
    "split": "what is read",
    "secret": "how it is run",
}
"""The first option of each group in the help."""

OPTIONS = OptionTable(
    RunOptions,
    {
        "profile_name": Flag("--profile"),
        "detectors": Flag(metavar="A,B", parse=arguments.some_names),
        "detector_options": Flag("--detector-option", "DETECTOR.NAME=VALUE", arguments.by_part, repeats=True),
        "editor": Flag(help=f"{', '.join(catalog.EDITORS)}; default: the profile's"),
        "editor_options": Flag("--editor-option", "NAME=VALUE", arguments.settings, repeats=True),
        "identity": Flag(metavar="NAME"),
        "label_column": Flag(metavar="NAME"),
        "verify": Flag("--no-verify", help="do not inspect the output; it is marked as unverified"),
        "models": Flag("--model", "ROLE=ID", arguments.by_role, repeats=True),
        "backend": Flag(metavar="[ROLE=]NAME", parse=arguments.backends, repeats=True),
        "criteria": Flag(metavar="A,B", parse=arguments.criteria),
        "threshold": Flag(metavar="T"),
        "groups": Flag(metavar="A,B", parse=arguments.groups),
        "scores": Flag("--score", "NETWORK[=WEIGHTS]", arguments.networks, repeats=True),
        "above": Flag(metavar="SCORE=VALUE", parse=arguments.limits, repeats=True),
        "at_most": Flag(metavar="SCORE=VALUE", parse=arguments.limits, repeats=True),
        "image_column": Flag(metavar="NAME"),
        "keep": Flag(metavar="A,B", parse=lambda _, value: arguments.names(value)),
        "allow": Flag(metavar="A,B", parse=lambda _, value: arguments.names(value)),
        "text_check": Flag(metavar="NAME"),
        "text_check_options": Flag("--text-check-option", "NAME=VALUE", arguments.settings, repeats=True),
        "limit": Flag(metavar="N"),
        "secret": Flag(metavar="FILE"),
        "shard_size": Flag(metavar="N"),
        "num_proc": Flag(metavar="N"),
        "ray_address": Flag(metavar="ADDR"),
        "pools": Flag("--pool", "STAGE:NAME=VALUE,…", arguments.pools, repeats=True),
    },
)
_NAMES = [
    "profile_name",
    *(name for name in OPTIONS.fields() if name not in ("profile_name", "progress")),  # --quiet is the opposite
]


def add(commands: Any, help_class: Any) -> None:
    """Add it to a parser's commands."""
    p = commands.add_parser(
        "anonymize",
        help="a folder or dataset in, a folder of safe parquet shards and reports out",
        description="Anonymize SRC into DIR. Killed or stopped, the same command goes on where it left off.",
        formatter_class=help_class,
    )
    p.set_defaults(call=_anonymize)
    p.add_argument(
        "src", metavar="SRC", help="images, parquet, tar shards, saved dataset, s3://…, or Hub dataset ORG/NAME"
    )
    p.add_argument(
        "--out", metavar="DIR", required=True, help="new folder for data/, private/, run.json, report.html; or s3://…"
    )
    group = p
    for name in _NAMES:
        if name in _GROUPS:
            group = p.add_argument_group(_GROUPS[name])
        OPTIONS.add(group, [name])
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress bar and no summary; a dry run then prints facts alone"
    )


def _anonymize(a: argparse.Namespace) -> int:
    from u2s_datasets.executor.run import run, try_out

    given = OPTIONS.given(a, _NAMES)
    if a.dry_run and not a.quiet:
        _print_trial(a.out, try_out(a.src, a.out, RunOptions(**given)))
        return 0
    summary = run(a.src, a.out, progress=not a.quiet, **given)
    if a.dry_run:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
    elif not a.quiet:
        _print_result(a.out, summary)
    return 0


def _print_trial(out: str, trial: Trial) -> None:
    print(trial)
    path = local_path(out)
    if path is None:
        print("\nNo page of pictures: it shows originals, and is written beside an --out on this machine only.")
        return
    page = path.with_name(f"{path.name}-dry-run.html")
    try:
        if not page.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {page.parent}")
        trial.write_page(page)
    except OSError as error:
        print(f"\nNo page of pictures: {page} cannot be written: {error}; give an --out whose parent can be.")
        return
    print(f"\nlook at it  {page}   (it shows originals: never publish it)\nNothing else was written.")


def _print_result(out: str, summary: dict[str, Any]) -> None:
    from u2s_datasets.evaluation.report.report import report

    path = local_path(out)
    out = str(path or strip_credentials(out).partition("?")[0])
    if path is None:
        print(f"{summary['rows']} rows = " + " + ".join(f"{summary[s]} {s}" for s in columns.STATUSES))
    else:
        print(report(out))
    rates = summary["rates"]
    for name, stage in rates.get("stages", {}).items():  # of a run with Ray
        speed = f"{stage['rows_per_second_and_worker']} img/s each" if stage["rows_per_second_and_worker"] else ""
        mark = "  <- bottleneck" if name == rates["bottleneck"] else ""
        print(f"stage {name:<10} {stage['workers']:g} x {speed}, busy {stage['busy']:.0%}{mark}")
    if summary["unverified"]:
        print(f"\nUNVERIFIED: {summary['unverified']} of the images in data/ may still show something private.")
    print(f"\nsafe to look at  {out}/report.html")
    print(f"originals beside {out}/private/report.html   (never publish private/)")
