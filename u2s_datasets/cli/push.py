"""`u2s push`: the command's words, and its call of `push_to_hub`. Loads nothing heavy before it is called."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError


def add(commands: Any, help_class: Any) -> None:
    """Add the command to a parser's commands."""
    p = commands.add_parser(
        "push",
        help="publish a finished run on the Hub, after every row and every byte was checked",
        description="Publish the safe and anonymized rows of DIR as the dataset ORG/NAME, private unless you say "
        "otherwise. Stopped, the same command goes on where it left off. "
        "The token is that of HF_TOKEN or `hf auth login`.",
        formatter_class=help_class,
    )
    p.set_defaults(call=push)
    p.add_argument(
        "dirs", metavar="DIR", nargs="+", help="output folder of `u2s anonymize`; NAME=DIR for several configs"
    )
    p.add_argument("repo_id", metavar="ORG/NAME", help="dataset repository; made where it is not there")
    card = p.add_argument_group("what only you know (for the card)")
    card.add_argument("--license", help="licence of what is published, such as cc-by-4.0; asked for")
    card.add_argument("--source-dataset", help="Hub id, 'original', or words; asked for")
    card.add_argument("--source-license", help="licence of the source; asked for")
    card.add_argument("--license-link", metavar="URL", help="text of a licence 'other'")
    card.add_argument("--title", help="title of the card")
    card.add_argument("--contact", help="where to ask for the removal of an image")
    card.add_argument("--task", metavar="A,B", help="task categories, such as image-classification")
    card.add_argument(
        "--model-licence", action="append", metavar="MODEL=LICENCE", help="licence of a model that was used"
    )
    card.add_argument("--note", help="what changed, for the changelog")
    where = p.add_argument_group("where it goes and who sees it")
    where.add_argument("--public", action="store_true", help="open the repository to everybody, at the very end")
    where.add_argument("--gated", choices=["auto", "manual"], help="readers agree to terms first")
    where.add_argument("--revision", metavar="BRANCH", help="branch to write to")
    where.add_argument("--create-pr", action="store_true", help="write to a new pull request")
    where.add_argument("--tag", help="tag of this version, such as v1.1")
    where.add_argument("--config-name", default="default", help="config of a single DIR")
    where.add_argument("--split", default="train", help="split")
    where.add_argument("--max-shard-size", default="500MB", help="size of a file")
    gate = p.add_argument_group("what may leave")
    gate.add_argument("--keep", metavar="A,B", help="only these of the columns that the run kept")
    gate.add_argument("--allow", metavar="A,B", help="exceptions by name; the card states them")
    gate.add_argument(
        "--quality",
        action="append",
        metavar="SCORE=WORST",
        help="anonymized rows with a worse score stay home: clip_similarity=0.2 is a least value, and ssim=0.9, where "
        "lower means less copied, a greatest one; repeat per score",
    )
    gate.add_argument("--max-leak-rate", type=float, metavar="SHARE", help="highest bound of an audit, such as 0.01")
    gate.add_argument("--dry-run", action="store_true", help="show files, columns, sizes, sample rows and the card")
    gate.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def push(a: argparse.Namespace) -> int:
    """Call `push_to_hub` and print what was, or would be, published. Returns 1 where a dry run was stopped."""
    from huggingface_hub.utils import disable_progress_bars

    from u2s_datasets.publish.push import Plan, push_to_hub

    if a.quiet:
        disable_progress_bars()
    made = push_to_hub(
        _data(a.dirs),
        a.repo_id,
        license=a.license or "",
        source_dataset=a.source_dataset or "",
        source_license=a.source_license or "",
        license_link=a.license_link or "",
        title=a.title or "",
        contact=a.contact or "",
        task_categories=_names(a.task),
        model_licences=dict(_pairs("--model-licence", a.model_licence)),
        note=a.note or "",
        private=not a.public,
        gated=a.gated,
        revision=a.revision,
        create_pr=a.create_pr,
        tag=a.tag,
        config_name=a.config_name,
        split=a.split,
        max_shard_size=a.max_shard_size,
        keep=None if a.keep is None else _names(a.keep),
        allow=_names(a.allow),
        quality={name: _number(name, value) for name, value in _pairs("--quality", a.quality)},
        max_leak_rate=a.max_leak_rate,
        dry_run=a.dry_run,
        progress=not a.quiet,
    )
    if isinstance(made, Plan):
        print(made)
        print(f"\n{made.card}" if made.card else "")
        return 1 if made.reasons else 0
    print(
        f"{'private' if made.private else 'public'} dataset {made.repo_id}: {len(made.files)} files, compared by hash"
    )
    if made.pull_request:
        print(f"pull request {made.pull_request}")
    return 0


def _data(dirs: Sequence[str]) -> Any:
    if len(dirs) == 1 and ("=" not in dirs[0] or Path(dirs[0]).expanduser().exists()):
        return dirs[0]
    return dict(_pairs("DIR", dirs))


def _pairs(what: str, given: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for words in given or ():
        name, equals, value = words.rpartition("=") if what == "--model-licence" else words.partition("=")
        if not (name and equals and value):
            raise SetupError(f"{what} {words!r} is to be written NAME=VALUE")
        pairs.append((name, value))
    return pairs


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise SetupError(f"--quality {name}={value!r} is no number") from error


def _names(value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]
