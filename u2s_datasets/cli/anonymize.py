"""`u2s anonymize`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from u2s_datasets import columns
from u2s_datasets.cli.arguments import (
    add_judgement,
    add_weights,
    backends,
    by_role,
    criteria,
    given,
    names,
    options,
    pools,
)
from u2s_datasets.parts import catalog
from u2s_datasets.sources.addresses import local_path, strip_credentials


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
    what = p.add_argument_group("what is done")
    what.add_argument("--profile", default="cpu", help="named set of parts; see `u2s profiles`")
    what.add_argument("--detectors", metavar="A,B", help="what to look for: faces,text; default: the profile's")
    what.add_argument("--editor", help=f"{', '.join(catalog.EDITORS)}; default: the profile's")
    what.add_argument(
        "--editor-option",
        action="append",
        metavar="NAME=VALUE",
        help="argument of the editor, such as num_inference_steps=28 or lora=FILE; repeat; see docs/editors.md",
    )
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
    work.add_argument("--ray", action="store_true", help="let Ray drive the run; --num-proc is then workers per stage")
    work.add_argument(
        "--ray-address", metavar="ADDR", help="a running cluster, for --ray; default: one on this machine"
    )
    work.add_argument(
        "--pool",
        action="append",
        metavar="STAGE:NAME=VALUE,…",
        help="workers of one stage, for --ray: size, num_cpus, num_gpus (or a fraction) of each, batch_size; such as "
        "inspect:size=4,num_gpus=0.5; repeat per stage; see docs/scale.md",
    )
    work.add_argument("--dry-run", action="store_true", help="check and count everything, write nothing")
    work.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")


def _add_models(models: Any) -> None:
    add_weights(models)
    models.add_argument("--small", action="store_true", help="the profile's smaller models")
    models.add_argument("--dtype", help="float32, bfloat16 or float16; default: each part's own")
    add_judgement(models)
    models.add_argument("--groups", metavar="A,B", help="demographic groups to draw for each edited image; or paper")
    models.add_argument("--device", help="such as cuda:1; default: a GPU per worker, else the CPU")


def _anonymize(a: argparse.Namespace) -> int:
    from u2s_datasets.executor.run import run

    facts = run(
        a.src,
        a.out,
        profile_name=a.profile,
        detectors=given("--detectors", a.detectors),
        editor=a.editor,
        editor_options=options("--editor-option", a.editor_option),
        backend=backends(a.backend),
        models=by_role("--model", a.model),
        small=a.small,
        dtype=a.dtype,
        device=a.device,
        criteria=criteria(a.criteria),
        threshold=a.threshold,
        method=a.method,
        groups=_groups(a.groups),
        seed=a.seed,
        format=a.format,
        verify=not a.no_verify,
        prior=a.prior,
        label_column=a.label_column,
        split=a.split,
        image_column=a.image_column,
        keep=names(a.keep),
        allow=names(a.allow),
        secret=a.secret,
        limit=a.limit,
        shard_size=a.shard_size,
        num_proc=a.num_proc,
        ray=a.ray,
        ray_address=a.ray_address,
        pools=pools("--pool", a.pool),
        dry_run=a.dry_run,
        progress=not a.quiet,
    )
    if a.dry_run:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    elif not a.quiet:
        _print_result(a.out, facts)
    return 0


def _print_result(out: str, facts: dict[str, Any]) -> None:
    from u2s_datasets.evaluation.report.report import report

    path = local_path(out)
    out = str(path or strip_credentials(out).partition("?")[0])
    if path is None:
        print(f"{facts['rows']} rows = " + " + ".join(f"{facts[s]} {s}" for s in columns.STATUSES))
    else:
        print(report(out))
    _print_stages(facts["rates"])
    if not facts["verified"]:
        print("\nUNVERIFIED: the output was not inspected again (--no-verify).")
    print(f"\nsafe to look at  {out}/report.html")
    print(f"originals beside {out}/private/report.html   (never publish private/)")


def _groups(value: str | None) -> tuple[str, ...] | str | None:
    groups = given("--groups", value)
    if groups is None:
        return None
    return "paper" if groups == ["paper"] else tuple(groups)


def _print_stages(rates: dict[str, Any]) -> None:
    """What each stage of a run with Ray did per second, and which one the others wait for."""
    for name, stage in rates.get("stages", {}).items():
        speed = f"{stage['rows_per_second_and_worker']} img/s each" if stage["rows_per_second_and_worker"] else ""
        mark = "  <- bottleneck" if name == rates["bottleneck"] else ""
        print(f"stage {name:<10} {stage['workers']:g} x {speed}, busy {stage['busy']:.0%}{mark}")
