"""`u2s push`: its arguments, made from `PushOptions`, and its call of `push_to_hub`. Loads nothing heavy before."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.cli.arguments import names, settings
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.docstrings import argument_docs
from u2s_datasets.publish.options import PushOptions

# Those that the command line takes. The token is not one of them, since others can see a command line.
_OPTIONS = [option for option in dataclasses.fields(PushOptions) if option.metadata]


def add(commands: Any, help_class: Any) -> None:
    """Add the command to a parser's commands."""
    p = commands.add_parser(
        "push",
        help="publish a finished run on the Hub, after every row and every byte was checked",
        description="Publish the safe and anonymized rows of DIR as the dataset ORG/NAME, private unless you say "
        "otherwise. If it is interrupted, the same command goes on where it left off. "
        "The token is read from HF_TOKEN or `hf auth login`.",
        formatter_class=help_class,
    )
    p.set_defaults(call=push)
    p.add_argument(
        "dirs", metavar="DIR", nargs="+", help="output folder of `u2s anonymize`; NAME=DIR for several configs"
    )
    p.add_argument("repo_id", metavar="ORG/NAME", help="dataset repository; created if missing")
    p.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    docs = argument_docs(PushOptions)
    groups: dict[str, Any] = {}
    for option in _OPTIONS:
        title, keywords = option.metadata["group"], option.metadata["keywords"]
        if title not in groups:
            groups[title] = p.add_argument_group(title)
        text = docs.get(option.name, "").rstrip(".") + (
            "; repeat for each" if keywords.get("action") == "append" else ""
        )
        # An option that is not given stays None, and the default of `push_to_hub` holds.
        keywords = {"default": option.default or None, "help": text, **keywords}
        groups[title].add_argument(option.metadata["flag"], dest=option.name, **keywords)


def push(a: argparse.Namespace) -> int:
    """Call `push_to_hub` and print what was, or would be, published. Returns 1 if a dry run was stopped."""
    from huggingface_hub.utils import disable_progress_bars

    from u2s_datasets.publish.push import PushPreview, push_to_hub

    if a.quiet:
        disable_progress_bars()
    given = {option.name: _parsed(option, getattr(a, option.name)) for option in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    one_run = len(a.dirs) == 1 and ("=" not in a.dirs[0] or Path(a.dirs[0]).expanduser().exists())
    data = a.dirs[0] if one_run else _pairs("DIR", "NAME=DIR", a.dirs)
    result = push_to_hub(data, a.repo_id, progress=not a.quiet, **options)
    if isinstance(result, PushPreview):
        print(result)
        print(f"\n{result.card}" if result.card else "")
        return 1 if result.reasons else 0
    visibility = "private" if result.private else "public"
    print(f"{visibility} dataset {result.repo_id}: {len(result.files)} files, compared by hash, on {result.host}")
    if result.pull_request:
        print(f"pull request {result.pull_request}")
    return 0


def _parsed(option: dataclasses.Field[Any], value: Any) -> Any:
    """What was typed for an option, as `push_to_hub` takes it."""
    kind = str(option.type)
    if value is not None and kind.startswith("Sequence"):
        return names(value)
    if value is None or not kind.startswith("Mapping"):
        return value
    if option.name == "text_check_options":
        return settings(option.metadata["flag"], value)
    pairs = _pairs(option.metadata["flag"], option.metadata["keywords"]["metavar"], value)
    try:
        return {name: float(text) for name, text in pairs.items()} if "float" in kind else pairs
    except ValueError as error:
        raise SetupError(f"invalid {option.metadata['flag']} {value!r}; expected a number behind each =") from error


def _pairs(flag: str, form: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        # A model may be a path with "=" in it, a licence is not; the others' names have none.
        name, equals, value = text.rpartition("=") if flag == "--model-licence" else text.partition("=")
        if not (name and equals and value):
            raise SetupError(f"invalid {flag} {text!r}; expected {form}")
        pairs[name] = value
    return pairs
