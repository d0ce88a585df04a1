"""What the card says of one config and split, gathered from the run and kept in the repository as `u2s.json`.

Everything here is public and is read from the run, its provenance or the built files; what is not known is none, and
the card says so.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.parts.catalog import category_of, known_detectors
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.parts.weights import WEIGHTS
from u2s_datasets.publish.build import Builder, Built
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import Gate
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.stages import prompts
from u2s_datasets.stages.inspect import scope

FACTS_FILE = "u2s.json"


def facts_of(
    split: RunSplit | DatasetSplit,
    gate: Gate,
    builder: Builder,
    built: Sequence[Built],
    licences: Mapping[str, str],
) -> dict[str, Any]:
    """The public facts of one split.

    Args:
        licences: model id -> licence, as the user states them.
    """
    made = split.report()
    return {
        "counts": {
            "rows": made.rows,
            **(made.statuses or {}),
            "rejected": gate.home["rejected"],
            "below_quality": gate.home["below_quality"],
            "published": builder.rows,
        },
        "metrics": made.to_markdown(),
        "how": _from_run(split, licences) if isinstance(split, RunSplit) else _from_provenance(split, licences),
        "quality": dict(gate.quality),
        "allowed": gate.allowed(),
        "allowed_columns": sorted(gate.allow & set(split.kept)),
        "audit": None if split.audit is None else vars(split.audit),
        "kept": list(split.kept),
        "features": split.features.to_dict(),
        "files": [{"path": b.path, "size": b.size, "sha256": sha256(b.file), "rows": b.rows} for b in built],
        "num_bytes": builder.num_bytes,
        "program": importlib.metadata.version("u2s_datasets"),
    }


def _from_run(split: RunSplit, licences: Mapping[str, str]) -> dict[str, Any]:
    run = split.run
    configuration = run["configuration"]
    return {
        "profile": run["profile"],
        "verified": run["verified"],
        "inspected": run["inspected_criteria"],
        "not_inspected": run["not_inspected"],
        "parts": list(_parts(configuration["anonymize"], run["versions"], licences)),
        "prompts": _prompts(configuration),
        "code": configuration["code"],
        "versions": run["versions"],
        "kept_texts_withheld": run["kept_texts_withheld"],
    }


def _from_provenance(split: DatasetSplit, licences: Mapping[str, str]) -> dict[str, Any]:
    facts = split.facts()
    inspected, left = scope([category_of(name) for name in facts["categories"]])
    return {
        "profile": None,
        "verified": facts["verified"],
        "inspected": inspected,
        "not_inspected": left,
        "parts": [part for editor in facts["editors"] for part in _parts(editor, facts["versions"], licences)],
        "prompts": None,
        "code": None,
        "versions": facts["versions"],
        "kept_texts_withheld": split.kept_texts_withheld,
    }


def _parts(config: Any, versions: Mapping[str, str], licences: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every part of a configuration that holds a model or edits, each once."""
    shipped = {type(part).__name__: part.shipped for part in known_detectors() if part.shipped}
    for found in {json.dumps(p, sort_keys=True): p for p in _configs(config)}.values():
        name, model = found["part"], found.get("model")
        settings = {k: v for k, v in found.items() if _plain(v) and k not in ("part", "model", "revision")}
        known = WEIGHTS.get(str(model))
        revision, licence = found.get("revision"), licences.get(str(model)) or (known.licence if known else None)
        if name in shipped:
            model, licence, package = shipped[name]
            revision = f"{package} {versions[package]}" if package in versions else None
        yield {"part": name, "model": model, "revision": revision, "licence": licence, "settings": settings}


def _configs(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        own = {k: v for k, v in config.items() if not isinstance(v, dict)}
        steps = ("Anonymize", "Inspect", "Caption", "Instruct", "Score")
        if "part" in config and config["part"] not in steps:
            yield own
        for value in config.values():
            yield from _configs(value)
    elif isinstance(config, list):
        for value in config:
            yield from _configs(value)


def _plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and value != "(not shown)")


def _prompts(configuration: Mapping[str, Any]) -> dict[str, str] | None:
    """Prompt -> SHA-256, where a model was asked; {} where none was; none where this is not the code that asked."""
    steps = configuration["anonymize"]
    if not any(steps[step].get("backend") for step in ("inspect", "caption", "instruct")):
        return {}
    if configuration["code"] != code_digest():
        return None
    return {path.stem: sha256(path) for path in sorted(prompts.FOLDER.glob("*.txt"))}


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merged(known: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]], note: str, version: str) -> dict[str, Any]:
    """The facts of a repository once this push is in it: other configs and splits stay, and the changelog grows.

    Args:
        known: what the repository's `u2s.json` says; {} for a new one.
        made: config -> split -> facts.
        note: what changed, in the user's words, or "".
        version: the tag of this push, or "".
    """
    configs = {config: dict(splits) for config, splits in known.get("configs", {}).items()}
    for config, splits in made.items():
        configs[config] = {**configs.get(config, {}), **splits}
    rows = sum(facts["counts"]["published"] for splits in made.values() for facts in splits.values())
    what = ", ".join(f"{config}/{split}" for config, splits in made.items() for split in splits)
    entry = {"date": datetime.date.today().isoformat(), "version": version, "what": what, "rows": rows, "note": note}
    changes = list(known.get("changelog", ()))
    if changes and {**changes[-1], "date": ""} == {**entry, "date": ""}:
        changes.pop()  # the same push once more, such as one that was cut and resumed
    return {"schema": 1, "configs": configs, "changelog": [*changes, entry]}
