"""The cards: templates of `hub_cards/` filled with facts. A missing fact is an error or reads "not measured"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from u2s_datasets.errors import SetupError
from u2s_datasets.publish.card_sections import UNKNOWN, UNMEASURED, bullets, md, sections, table, template
from u2s_datasets.publish.gate import ALLOWABLE

_STEPS = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_SIZES = [(10 ** (3 + step), name) for step, name in enumerate(_STEPS)]


@dataclass(frozen=True)
class About:
    """What only the publisher can know; nothing of it is guessed.

    Args:
        license: of what is published, as the Hub writes it, such as "cc-by-4.0"; "other" with a `license_link`.
        source_dataset: a Hub id "ORG/NAME", "original" for photos that the publisher took, or words.
        source_license: the licence under which the source came.
        title: of the card; the repository's name if none is given.
        license_link: where the text of a licence "other" stands.
        contact: how to ask for the removal of an image, beside the Community tab.
        task_categories: as the Hub writes them, such as "image-classification".
        gated: whether readers must agree first: "auto", or "manual" to decide on each.
    """

    license: str
    source_dataset: str
    source_license: str
    title: str = ""
    license_link: str = ""
    contact: str = ""
    task_categories: tuple[str, ...] = ()
    gated: Literal["auto", "manual"] | None = None

    def missing(self) -> Iterator[str]:
        """What has to be given still."""
        for name, option in (
            ("license", "--license"),
            ("source_dataset", "--source-dataset"),
            ("source_license", "--source-license"),
        ):
            if not str(getattr(self, name) or "").strip():
                yield f"{name} is missing: give it ({option})"
        if self.license == "other" and not self.license_link:
            yield "license='other' needs license_link (--license-link)"
        if self.gated not in (None, "auto", "manual"):
            yield f"gated={self.gated!r} is neither 'auto' nor 'manual'"


def dataset_card(repo_id: str, about: About, facts: Mapping[str, Any]) -> str:
    """The README.md of a dataset repository.

    Args:
        repo_id: "ORG/NAME".
        about: what the publisher states.
        facts: as `facts.merged` makes them, of every config and split in the repository.

    Raises:
        KeyError: a fact is missing.
        ValueError: huggingface_hub does not take the metadata.
    """
    from huggingface_hub import DatasetCard

    title = about.title or repo_id.split("/")[-1]
    first = next(iter(facts["configs"]))
    body = template("dataset.md").substitute(
        title=md(title),
        repo_id=repo_id,
        first=first,
        again=_again(facts),
        source=_source(about),
        license=md(about.license) + (f" ({md(about.license_link)})" if about.license_link else ""),
        sections="\n\n".join(sections(facts)),
        exceptions=_exceptions(facts),
        gating=_gating(about),
        removal=_removal(repo_id, about),
        changelog="\n".join(_changes(facts["changelog"])),
    )
    text = f"---\n{_metadata(title, about, facts).to_yaml()}\n---\n\n{body}"
    DatasetCard(text, ignore_metadata_errors=False)
    return text


def model_card(repo_id: str, **facts: Any) -> str:
    """The README.md of a fine-tuned editor.

    Args:
        repo_id: "ORG/NAME".
        facts: all of `license`, `base_model`, `base_license`, `library_name`, `pipeline_tag`, `datasets` (ids of the
            training pairs), `training` (name -> value), `metrics` (Markdown, or "" where nothing was measured) and
            `limits`.

    Raises:
        SetupError: a fact is missing, or is none of these.
        ValueError: huggingface_hub does not take the metadata.
    """
    from huggingface_hub import ModelCard, ModelCardData

    asked = ("license", "base_model", "base_license", "library_name", "pipeline_tag")
    known = {*asked, "datasets", "training", "metrics", "limits"}
    lacking = [name for name in sorted(known) if name not in facts or (name in asked and not facts[name])]
    if lacking or facts.keys() - known:
        raise SetupError(f"the model card lacks {lacking}; it takes {sorted(known)}")
    data = ModelCardData(
        license=facts["license"],
        base_model=facts["base_model"],
        library_name=facts["library_name"],
        pipeline_tag=facts["pipeline_tag"],
        datasets=list(facts["datasets"]) or None,
        tags=["privacy", "anonymization", "u2s_datasets"],
    )
    body = template("model.md").substitute(
        title=md(repo_id.split("/")[-1]),
        base_model=md(facts["base_model"]),
        base_license=md(facts["base_license"]),
        license=md(facts["license"]),
        datasets=", ".join(f"`{name}`" for name in facts["datasets"]) or UNKNOWN,
        training=table(("setting", "value"), [(k, str(v)) for k, v in facts["training"].items()]) or UNKNOWN,
        metrics=facts["metrics"].strip() or f"Quality and privacy of this model's edits: {UNMEASURED}.",
        limits=facts["limits"].strip() or UNKNOWN,
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{body}"
    ModelCard(text, ignore_metadata_errors=False)
    return text


def _metadata(title: str, about: About, facts: Mapping[str, Any]) -> Any:
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from datasets.splits import SplitDict, SplitInfo
    from huggingface_hub import DatasetCardData

    rows = sum(f["counts"]["published"] for splits in facts["configs"].values() for f in splits.values())
    data = DatasetCardData(
        license=about.license,
        license_link=about.license_link or None,
        pretty_name=title,
        annotations_creators=["machine-generated"],
        size_categories=[
            next((name for limit, name in _SIZES if rows < limit), "n>1M" if rows < 10**7 else "10M<n<100M")
        ],
        source_datasets=[_source_tag(about)],
        task_categories=list(about.task_categories) or None,
        tags=["image", "privacy", "anonymized", "u2s_datasets"],
        configs=list(_configs(facts)),
        extra_gated_prompt=_GATE_PROMPT if about.gated else None,
        extra_gated_fields={_GATE_FIELD: "checkbox"} if about.gated else None,
    )
    infos = {}
    for config, splits in facts["configs"].items():
        numbers = {name: SplitInfo(name, f["num_bytes"], f["counts"]["published"]) for name, f in splits.items()}
        info = DatasetInfo(features=Features.from_dict(next(iter(splits.values()))["features"]))
        info.splits = SplitDict.from_split_dict([{**vars(s), "dataset_name": None} for s in numbers.values()])
        info.download_size = sum(file["size"] for f in splits.values() for file in f["files"])
        info.dataset_size = sum(f["num_bytes"] for f in splits.values())
        infos[config] = info
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


_GATE_PROMPT = (
    "These images were made from photos that showed private things. You agree not to try to find out who or what was "
    "shown, not to reconstruct the originals, and to report an image that gives someone away."
)
_GATE_FIELD = "I agree to these terms"


def _configs(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for number, (config, splits) in enumerate(facts["configs"].items()):
        folder = "data" if config == "default" else config
        files = [{"split": name, "path": f"{folder}/{name}-*"} for name in splits]
        yield {"config_name": config, "data_files": files, **({"default": True} if number == 0 else {})}


def _source_tag(about: About) -> str:
    if about.source_dataset == "original":
        return "original"
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", about.source_dataset)
    return f"extended|{about.source_dataset}" if is_id else "extended|other"


def _source(about: About) -> str:
    whose = "photos that the publisher took" if about.source_dataset == "original" else md(about.source_dataset)
    return f"{whose}, under the licence: {md(about.source_license)}"


def _again(facts: Mapping[str, Any]) -> str:
    """Whether the edits were looked at again, as the end of a sentence."""
    if all(one["how"]["verified"] for splits in facts["configs"].values() for one in splits.values()):
        return ", inspected again, and withheld where what was looked for could not be shown to be gone"
    return "; some of them were **not** inspected again (see below)"


def _exceptions(facts: Mapping[str, Any]) -> str:
    lines = []
    for config, splits in facts["configs"].items():
        for split, one in splits.items():
            lines += [f"{config}/{split}: {ALLOWABLE[code]} ({n:,} times)" for code, n in one["allowed"].items()]
            lines += [
                f"{config}/{split}: the column `{n}` looks identifying and was let through"
                for n in one["allowed_columns"]
            ]
    return bullets(lines) if lines else "None."


def _gating(about: About) -> str:
    if about.gated is None:
        return "This repository is not gated. Whoever uses the images is asked to keep to this all the same:"
    return f"Access is gated ({about.gated}). Readers agree to this:"


def _removal(repo_id: str, about: About) -> str:
    also = f", or write to {md(about.contact)}" if about.contact else ""
    return f"open a discussion in the [Community tab](https://huggingface.co/datasets/{repo_id}/discussions){also}"


def _changes(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in reversed(changes):
        version = f" {entry['version']}" if entry["version"] else ""
        note = f": {md(entry['note'])}" if entry["note"] else ""
        yield f"- {entry['date']}{md(version)}, {md(entry['what'])}, {entry['rows']:,} rows{note}"
