"""What the card says of each config and split, gathered from the run and kept in the repository as `u2s.json`.

Everything here is public and is read from the run, its provenance or the built files. What is not known is None, and
the card says so.
"""

import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.report import Report
from u2s_datasets.evaluation.report.tables import Table, evaluation_tables, number_tables
from u2s_datasets.parts.catalog import category_of, known_detectors
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.parts.metrics.dlib_faces import DlibFaces
from u2s_datasets.parts.weights import WEIGHTS
from u2s_datasets.publish.build import Builder, BuiltFile
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.publish.provenance import Provenance
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.publish.scan import FileDigest
from u2s_datasets.runs.files import sha256
from u2s_datasets.stages import prompts
from u2s_datasets.stages.inspect import scope

SUMMARY_FILE, SCHEMA = "u2s.json", 2
_STEPS = ("Anonymize", "Inspect", "Caption", "Instruct", "Score")


def summarize(
    split: RunSplit | DatasetSplit,
    gate: PublishGate,
    builder: Builder,
    files: Sequence[BuiltFile],
    scanned: Mapping[str, FileDigest],
    licences: Mapping[str, str],
) -> dict[str, Any]:
    """What is public of one split.

    Args:
        split: the rows, read to their end.
        gate: which judged them.
        builder: which wrote the published ones.
        files: what it wrote.
        scanned: name in the repository -> the digest of what was searched.
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
        "tables": [[table.title, list(table.head), [list(row) for row in table.rows]] for table in _tables(report)],
        "how": _describe_run(split, gate.provenance.read(), licences)
        if isinstance(split, RunSplit) and split.is_bound
        else _describe_rows(split, gate.provenance.read(), licences),
        "quality": dict(gate.quality),
        "allowed": gate.allowed(),
        "allowed_columns": sorted(gate.allow & set(split.kept)),
        "audit": None if split.audit is None else split.audit.public(),
        "dropped": len(dropped_columns(split)),
        "kept_emptied": {name: count for name, count in sorted(split.kept_emptied.items()) if count},
        "kept": list(split.kept),
        "names_not_checked": list(split.names_not_checked),
        "features": split.features.to_dict(),
        "files": [
            {"path": b.path, "size": scanned[b.path].size, "sha256": scanned[b.path].sha256, "rows": b.rows}
            for b in files
        ],
        "num_bytes": builder.num_bytes,
        "program": importlib.metadata.version("u2s_datasets"),
    }


def _tables(report: Report) -> Iterator[Table]:
    """The report's tables for anyone, less the counts and the criteria, which have their own places."""
    found = [*number_tables(report, private=False), *evaluation_tables(report.beyond.get(False, {}), private=False)]
    return (table for table in found if table.rows or not table.head)


def dropped_columns(split: RunSplit | DatasetSplit) -> set[str]:
    """Columns that could be kept and are not."""
    return set(split.available) - set(split.features) - set(c.SCORE)


def _describe_run(split: RunSplit, provenance: Provenance, licences: Mapping[str, str]) -> dict[str, Any]:
    run, configuration = split.run, split.run["configuration"]
    return {
        "profile": run["profile"],
        "verified": run["verified"] is True and provenance.verified,
        "inspected": run["inspected_criteria"],
        "not_inspected": run["not_inspected"],
        "parts": list(list_parts(configuration["anonymize"], run["versions"], licences)),
        "prompts": prompt_digests(configuration),
        "code": configuration["code"],
        "versions": run["versions"],
    }


def _describe_rows(
    split: RunSplit | DatasetSplit, provenance: Provenance, licences: Mapping[str, str]
) -> dict[str, Any]:
    """What the rows themselves say, where no facts are bound to them."""
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
    shipped = {type(part).__name__: part.shipped for part in (*known_detectors(), DlibFaces()) if part.shipped}
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
    return {"schema": SCHEMA, "configs": configs, "changelog": [*changes, entry]}
