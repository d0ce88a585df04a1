"""What the card says of each config and split, gathered from the run and kept in the repository as `u2s.json`.

Everything here is public and is read from the run, its provenance or the built files. What is not known is None, and
the card says so.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from u2s_datasets.parts.catalog import category_of, known_detectors
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.parts.weights import WEIGHTS
from u2s_datasets.publish.build import Builder, BuiltFile
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.runs.files import sha256
from u2s_datasets.stages import prompts
from u2s_datasets.stages.inspect import scope

SUMMARY_FILE = "u2s.json"
_STEPS = ("Anonymize", "Inspect", "Caption", "Instruct", "Score")


def summarize(
    split: RunSplit | DatasetSplit,
    gate: PublishGate,
    builder: Builder,
    files: Sequence[BuiltFile],
    licences: Mapping[str, str],
) -> dict[str, Any]:
    """What is public of one split.

    Args:
        split: the rows, read to their end.
        gate: which judged them.
        builder: which wrote the published ones.
        files: what it wrote.
        licences: model id -> licence, as the user states them.
    """
    report = split.report()
    return {
        "counts": {
            "rows": report.rows,
            **(report.statuses or {}),
            "rejected": gate.held_back["rejected"],
            "below_quality": gate.held_back["below_quality"],
            "published": builder.rows,
        },
        "metrics": report.to_markdown(),
        "how": _describe_run(split, licences) if isinstance(split, RunSplit) else _describe_dataset(split, licences),
        "quality": dict(gate.quality),
        "allowed": gate.allowed(),
        "allowed_columns": sorted(gate.allow & set(split.kept)),
        "audit": None if split.audit is None else vars(split.audit),
        "kept": list(split.kept),
        "kept_emptied": dict(split.kept_emptied),
        "names_not_checked": list(split.names_not_checked),
        "features": split.features.to_dict(),
        "files": [
            {"path": b.path, "size": b.file.stat().st_size, "sha256": sha256(b.file), "rows": b.rows} for b in files
        ],
        "num_bytes": builder.num_bytes,
        "program": importlib.metadata.version("u2s_datasets"),
    }


def _describe_run(split: RunSplit, licences: Mapping[str, str]) -> dict[str, Any]:
    run, configuration = split.run, split.run["configuration"]
    return {
        "profile": run["profile"],
        "verified": run["verified"],
        "inspected": run["inspected_criteria"],
        "not_inspected": run["not_inspected"],
        "parts": list(list_parts(configuration["anonymize"], run["versions"], licences)),
        "prompts": prompt_digests(configuration),
        "code": configuration["code"],
        "versions": run["versions"],
    }


def _describe_dataset(split: DatasetSplit, licences: Mapping[str, str]) -> dict[str, Any]:
    provenance = split.provenance()
    inspected, not_inspected = scope([category_of(name) for name in provenance.categories])
    return {
        "profile": None,
        "verified": provenance.verified,
        "inspected": inspected,
        "not_inspected": not_inspected,
        "parts": [part for one in provenance.editors for part in list_parts(one, provenance.versions, licences)],
        "prompts": None,
        "code": None,
        "versions": provenance.versions,
    }


def list_parts(config: Any, versions: Mapping[str, str], licences: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every part of a configuration that holds a model or edits, each once.

    Args:
        config: of a step or editor, as `Part.config` gives it.
        versions: package -> version.
        licences: model id -> licence, as the user states them.
    """
    shipped = {type(part).__name__: part.shipped for part in known_detectors() if part.shipped}
    for part in {json.dumps(p, sort_keys=True): p for p in _part_configs(config)}.values():
        name, model, revision = part["part"], part.get("model"), part.get("revision")
        known = WEIGHTS.get(str(model))
        licence = licences.get(str(model)) or (known.licence if known else None)
        if name in shipped:
            model, licence, package = shipped[name]
            revision = f"{package} {versions[package]}" if package in versions else None
        settings = {
            key: value
            for key, value in part.items()
            if isinstance(value, (bool, int, float, str)) and value != "(not shown)"
            if key not in ("part", "model", "revision")
        }
        yield {"part": name, "model": model, "revision": revision, "licence": licence, "settings": settings}


def _part_configs(config: Any) -> Iterator[dict[str, Any]]:
    """Every part in a configuration, at any depth, without the parts in its fields."""
    if isinstance(config, dict) and "part" in config and config["part"] not in _STEPS:
        yield {key: value for key, value in config.items() if not isinstance(value, dict)}
    values = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for value in values:
        yield from _part_configs(value)


def prompt_digests(configuration: Mapping[str, Any]) -> dict[str, str] | None:
    """Prompt -> SHA-256; {} if no model was asked, None if other code than this asked it."""
    steps = configuration["anonymize"]
    if not any(steps[step].get("backend") for step in ("inspect", "caption", "instruct")):
        return {}
    if configuration["code"] != code_digest():
        return None
    return {path.stem: sha256(path) for path in sorted(prompts.FOLDER.glob("*.txt"))}


def merge_summaries(
    known: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]], note: str, version: str
) -> dict[str, Any]:
    """The summary of a repository once this push is in it: other configs and splits stay, and the changelog grows.

    Args:
        known: what the repository's `u2s.json` says; {} for a new one.
        made: config -> split -> summary.
        note: what changed, in the user's words, or "".
        version: the tag of this push, or "".
    """
    configs = {config: dict(splits) for config, splits in known.get("configs", {}).items()}
    for config, splits in made.items():
        configs[config] = {**configs.get(config, {}), **splits}
    rows = sum(summary["counts"]["published"] for splits in made.values() for summary in splits.values())
    what = ", ".join(f"{config}/{split}" for config, splits in made.items() for split in splits)
    entry = {"date": datetime.date.today().isoformat(), "version": version, "what": what, "rows": rows, "note": note}
    changes = list(known.get("changelog", ()))
    if changes and {**changes[-1], "date": ""} == {**entry, "date": ""}:
        changes.pop()  # the same push once more, such as one that was cut and resumed
    return {"schema": 1, "configs": configs, "changelog": [*changes, entry]}
