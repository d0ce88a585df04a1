"""What a card says of one config and split, and the Markdown that cards are made of."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.metrics.definitions import SPECS

UNKNOWN = "not recorded"
UNMEASURED = "not measured"


def template(name: str) -> string.Template:
    """A template of `hub_cards/`, from the checkout or the installed package."""
    inside = Path(__file__).parents[1] / "hub_cards" / name
    beside = Path(__file__).parents[2] / "hub_cards" / name
    for path in (inside, beside):
        if path.is_file():
            return string.Template(path.read_text("utf-8"))
    raise SetupError(f"the card template {name!r} is missing from this installation; install u2s_datasets again")


def sections(facts: Mapping[str, Any]) -> Iterator[str]:
    """One section for each config and split."""
    for config, splits in facts["configs"].items():
        for split, one in splits.items():
            how, counts = one["how"], one["counts"]
            yield template("split.md").substitute(
                config=config,
                split=split,
                published=f"{counts['published']:,}",
                sum=_sum(counts),
                home=_home(counts, one["quality"]),
                profile=f"`{how['profile']}`" if how["profile"] else UNKNOWN,
                verified=_VERIFIED[bool(how["verified"])],
                parts=_parts(how["parts"]),
                prompts=_prompts(how["prompts"]),
                code=f"`{how['code']}`" if how["code"] else UNKNOWN,
                versions=", ".join(f"{k} {v}" for k, v in sorted(how["versions"].items())) or UNKNOWN,
                inspected=bullets(how["inspected"]),
                not_inspected=bullets(how["not_inspected"]),
                metrics=_metrics(one["metrics"]),
                audit=_audit(one["audit"]),
                columns=_columns(one),
                kept_texts=f"{how['kept_texts_withheld']:,}",
            )


_VERIFIED = {
    True: "Every edited image was inspected again, and withheld where what was looked for was not shown to be gone.",
    False: "The edited images were **not** inspected again.",
}


def _sum(counts: Mapping[str, int]) -> str:
    return f"{counts['rows']:,} rows = {counts['safe']:,} safe + {counts['anonymized']:,} anonymized + " + (
        f"{counts['withheld']:,} withheld"
    )


def _home(counts: Mapping[str, int], quality: Mapping[str, float]) -> str:
    at = {"higher": "at least", "lower": "at most"}
    gate = ", ".join(f"{name} {at[SPECS[name].better]} {worst:g}" for name, worst in quality.items())
    return (
        f"Of the safe and anonymized rows, {counts['rejected']:,} were rejected in a review and "
        f"{counts['below_quality']:,} did not pass the quality gate ({gate or 'none was asked for'}); they stay home "
        "too."
    )


def _parts(parts: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for part in parts:
        settings = ", ".join(f"{k} {v}" for k, v in sorted(part["settings"].items()))
        model = part["model"] or "no model"
        revision = part["revision"] or (UNKNOWN if part["model"] else "–")
        rows.append((part["part"], model, revision, part["licence"] or (UNKNOWN if part["model"] else "–"), settings))
    return table(("part", "model", "revision", "licence", "settings"), rows) or f"Models: {UNKNOWN}."


def _prompts(prompts: Mapping[str, str] | None) -> str:
    if prompts is None:
        return f"Prompts: {UNKNOWN}."
    if not prompts:
        return "No language model was asked, so there are no prompts."
    return table(("prompt", "SHA-256"), [(name, digest) for name, digest in prompts.items()])


def _metrics(markdown: str) -> str:
    """The report's tables, less the counts and the criteria, which have their own places."""
    kept = [block for block in re.split(r"\n\n(?=\*\*|Not )", markdown.strip()) if _is_metric(block)]
    return "\n\n".join(kept) or f"Scores: {UNMEASURED}."


def _is_metric(block: str) -> bool:
    return not re.match(r"\*\*(?:[\d,]+ rows|Looked for|Not looked for)", block)


def _audit(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return "Not audited: nobody looked at a random sample of the published images and counted the leaks."
    return (
        f"On {audit['date']} a reviewer looked at {audit['n']:,} randomly drawn publishable images and found "
        f"{audit['leaks']:,} that leaked. With {audit['confidence']:.0%} confidence, at most "
        f"{audit['upper_bound']:.2%} of the images leak (exact binomial bound of Clopper and Pearson)."
    )


def _columns(one: Mapping[str, Any]) -> str:
    from datasets import Features

    rows = []
    for name, feature in Features.from_dict(one["features"]).items():
        meaning = SPECS[name].meaning if name in SPECS else _MEANINGS.get(name, "")
        whose = "kept from the source" if name in one["kept"] else meaning
        rows.append((name, _type(feature), whose))
    return table(("column", "type", "what it is"), rows)


def _type(feature: Any) -> str:
    from datasets import ClassLabel, Image, List, Value

    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, Value):
        return feature.dtype
    if isinstance(feature, ClassLabel):
        return f"one of {feature.num_classes} classes"
    if isinstance(feature, List):
        return f"list of {_type(feature.feature)}"
    if isinstance(feature, dict):
        return "{" + ", ".join(f"{name}: {_type(inner)}" for name, inner in feature.items()) + "}"
    return type(feature).__name__


_MEANINGS = {
    "row_id": "keyed digest; names the row, tells nothing of its source",
    "anonymized_image": "re-encoded pixels without metadata",
    "anonymization_status": "`safe`: nothing was found; `anonymized`: edited",
    "privacy_flag": "whether something private was found in the original",
    "public_caption": "a description without what is private",
    "edit_instruction": "what the editor was told to change",
    "edit_caption": "a description of the edited image",
    "provenance": "editor, attempts and versions, as JSON",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; "" without rows."""
    lines = [head, ["---"] * len(head), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def bullets(items: Sequence[str]) -> str:
    """A Markdown list; words that say so where it is empty."""
    return "\n".join(f"- {item}" for item in items) or f"- {UNKNOWN}"


def md(text: str) -> str:
    """Text as Markdown shows it literally, on one line."""
    return re.sub(r"([\\*<>\[\]|#])", r"\\\1", re.sub(r"\s+", " ", str(text)))
