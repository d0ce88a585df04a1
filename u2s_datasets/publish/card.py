"""The cards: templates of `hub_cards/` filled in. What is missing is an error, or reads "not measured"."""

import html
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, DatasetInfo, Features, Image, List, Value
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import CardData, DatasetCard, DatasetCardData, ModelCard, ModelCardData, RepoCard

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.privacy.kept_columns import NOT_CHECKED
from u2s_datasets.publish.build import config_folder
from u2s_datasets.publish.gate import ALLOWABLE
from u2s_datasets.publish.options import About

UNKNOWN = "not recorded"
UNMEASURED = "not measured"
LONGEST = 2000
"""Characters of one text in a card."""
_SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
    10**10: "1B<n<10B",
}
_GATED_PROMPT = (
    "These images were made from photos that showed private things. You agree not to try to find out who or what was "
    "shown, not to reconstruct the originals, and to report an image that gives someone away."
)
_VERIFIED = {
    True: "Every edited image was inspected again, and withheld where what was looked for was not shown to be gone.",
    False: "The edited images were **not** inspected again.",
}
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


def dataset_card(repo_id: str, about: About, summary: Mapping[str, Any]) -> str:
    """The README.md of a dataset repository.

    Args:
        repo_id: "ORG/NAME".
        about: what the publisher states.
        summary: of every config and split in the repository, as `summary.merge_summaries` makes it.

    Raises:
        KeyError: something is missing in the summary.
        ValueError: huggingface_hub does not take the metadata.
    """
    title = plain(about.title) or repo_id.split("/")[-1]
    splits = {(config, name): split for config, named in summary["configs"].items() for name, split in named.items()}
    if all(split["how"]["verified"] for split in splits.values()):
        verified = ", inspected again, and withheld where what was looked for could not be shown to be gone"
    else:
        verified = "; some of them were **not** inspected again (see below)"
    source = "photos that the publisher took" if about.source_dataset == "original" else md(about.source_dataset)
    gating = "This repository is not gated. Whoever uses the images is asked to keep to this all the same:"
    if about.gated is not None:
        gating = f"Access is gated ({about.gated}). Readers agree to this:"
    removal = f"open a discussion in the [Community tab](https://huggingface.co/datasets/{repo_id}/discussions)"
    body = template("dataset.md").substitute(
        title=md(title),
        repo_id=repo_id,
        first=next(iter(summary["configs"])),
        verified=verified,
        source=f"{source}, under the licence: {md(about.source_license)}",
        license=md(about.license) + (f" ({md(about.license_link)})" if about.license_link else ""),
        sections="\n\n".join(_section(config, name, split) for (config, name), split in splits.items()),
        exceptions=_exceptions(splits),
        gating=gating,
        removal=removal + (f", or write to {md(about.contact)}" if about.contact else ""),
        changelog="\n".join(_changelog_line(entry) for entry in reversed(summary["changelog"])),
    )
    return _with_head(_metadata(title, about, summary["configs"]), body, DatasetCard)


def _with_head(data: CardData, body: str, kind: type[RepoCard]) -> str:
    """A card with its head in YAML. Raises `SetupError` if a text in it is not read back as it is."""
    text = f"---\n{data.to_yaml()}\n---\n\n{body}"
    card = kind(text, ignore_metadata_errors=False)
    if card.text.strip() != body.strip() or card.data.to_dict() != data.to_dict():
        raise SetupError(
            "a text in the card's head breaks it; take line breaks and control characters out of class names"
        )
    return text


def model_card(repo_id: str, **facts: Any) -> str:
    """The README.md of a fine-tuned editor.

    Args:
        repo_id: "ORG/NAME".
        facts: all of `license`, `base_model`, `base_license`, `library_name`, `pipeline_tag`, `datasets` (ids of the
            training pairs), `training` (name -> value), `metrics` (Markdown, or "" if nothing was measured) and
            `limits`.

    Raises:
        SetupError: a fact is missing or unknown.
        ValueError: huggingface_hub does not take the metadata.
    """
    required = ("license", "base_model", "base_license", "library_name", "pipeline_tag")
    known = {*required, "datasets", "training", "metrics", "limits"}
    lacking = [name for name in sorted(known) if name not in facts or (name in required and not facts[name])]
    if lacking or facts.keys() - known:
        raise SetupError(f"the model card lacks {lacking}; expected all of {sorted(known)} and nothing else")
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
    return _with_head(data, body, ModelCard)


def template(name: str) -> string.Template:
    """A template of `hub_cards/`, from the installed package or the checkout."""
    package = Path(__file__).parents[1]
    for folder in (package, package.parent):
        if (folder / "hub_cards" / name).is_file():
            return string.Template((folder / "hub_cards" / name).read_text("utf-8"))
    raise SetupError(f"the card template {name!r} is missing from this installation; install u2s_datasets again")


def _metadata(title: str, about: About, configs: Mapping[str, Mapping[str, Any]]) -> Any:
    """The card's head in YAML."""
    source_tag = "original" if about.source_dataset == "original" else "extended|other"
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", about.source_dataset):
        source_tag = f"extended|{about.source_dataset}"
    rows = sum(split["counts"]["published"] for splits in configs.values() for split in splits.values())
    files: list[dict[str, Any]] = []
    infos = {}
    for config, splits in configs.items():
        paths = [{"split": name, "path": f"{config_folder(config)}/{name}-*"} for name in splits]
        files.append({"config_name": config, "data_files": paths, **({} if files else {"default": True})})
        numbers = [SplitInfo(name, s["num_bytes"], s["counts"]["published"]) for name, s in splits.items()]
        info = DatasetInfo(features=Features.from_dict(next(iter(splits.values()))["features"]))
        info.splits = SplitDict.from_split_dict([{**vars(split), "dataset_name": None} for split in numbers])
        info.download_size = sum(file["size"] for split in splits.values() for file in split["files"])
        info.dataset_size = sum(split["num_bytes"] for split in splits.values())
        infos[config] = info
    data = DatasetCardData(
        license=about.license,
        license_link=about.license_link or None,
        pretty_name=re.sub(r"[<>`]", "", title),
        annotations_creators=["machine-generated"],
        size_categories=[next((name for limit, name in _SIZES.items() if rows < limit), "10B<n<100B")],
        source_datasets=[source_tag],
        task_categories=list(about.task_categories) or None,
        tags=["image", "privacy", "anonymized", "u2s_datasets"],
        configs=files,
        extra_gated_prompt=_GATED_PROMPT if about.gated else None,
        extra_gated_fields={"I agree to these terms": "checkbox"} if about.gated else None,
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _section(config: str, name: str, split: Mapping[str, Any]) -> str:
    """What the card says of one config and split."""
    how, counts = split["how"], {key: f"{number:,}" for key, number in split["counts"].items()}
    least = {"higher": "at least", "lower": "at most"}
    gate = ", ".join(f"{score} {least[SPECS[score].better]} {worst:g}" for score, worst in split["quality"].items())
    prompts = table(("prompt", "SHA-256"), [*(how["prompts"] or {}).items()])
    if not prompts:
        asked = "No language model was asked, so there are no prompts."
        prompts = f"Prompts: {UNKNOWN}." if how["prompts"] is None else asked
    metrics = [_titled(*one) for one in split.get("tables", ())]  # those of an earlier version's push are not repeated
    meanings = {
        **{n: spec.meaning for n, spec in SPECS.items()},
        **_MEANINGS,
        **dict.fromkeys(split["kept"], "kept from the source"),
    }
    features = Features.from_dict(split["features"]).items()
    columns = [(column, _type(feature), meanings.get(column, "")) for column, feature in features]
    return template("split.md").substitute(
        counts,
        config=config,
        split=name,
        gate=gate or "none was asked for",
        profile=code(how["profile"]) if how["profile"] else UNKNOWN,
        verified=_VERIFIED[bool(how["verified"])],
        parts=_parts(how["parts"]),
        prompts=prompts,
        code=f"`{how['code']}`" if re.fullmatch(r"[0-9a-f]{1,128}", str(how["code"])) else UNKNOWN,
        versions=", ".join(md(f"{k} {v}") for k, v in sorted(how["versions"].items())) or UNKNOWN,
        inspected=bullets(how["inspected"]),
        not_inspected=bullets(how["not_inspected"]),
        metrics="\n\n".join(metrics) or f"Scores: {UNMEASURED}.",
        audit=_audit(split["audit"]),
        columns=table(("column", "type", "what it is"), columns),
        emptied=_emptied(split),
        dropped=f"{split['dropped']:,}" if "dropped" in split else UNKNOWN,
    )


def _parts(parts: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for part in parts:
        unknown = UNKNOWN if part["model"] else "–"
        settings = ", ".join(f"{k} {v}" for k, v in sorted(part["settings"].items()))
        model = (part["model"] or "no model", part["revision"] or unknown, part["licence"] or unknown)
        rows.append((part["part"], *model, settings))
    return table(("part", "model", "revision", "licence", "settings"), rows) or f"Models: {UNKNOWN}."


def _emptied(split: Mapping[str, Any]) -> str:
    """What of the kept columns stayed home, and what was not looked for in them."""
    if "kept_emptied" not in split:  # pushed by an earlier version
        return f"Emptied in kept columns: {UNKNOWN}."
    counts = ", ".join(f"{code(column)} {number:,}" for column, number in split["kept_emptied"].items())
    why = "since it said something private or is nothing that a rule knows"
    lines = [f"Emptied in kept columns, {why}: {counts or 'none'}."]
    lines += [f"Of the column {code(column)}, **{NOT_CHECKED}**." for column in split.get("names_not_checked", ())]
    return "\n\n".join(lines)


def _audit(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return "Not audited: nobody looked at a random sample of the published images and counted the leaks."
    return (
        f"On {md(audit['date'])} a reviewer looked at {audit['n']:,} randomly drawn publishable images and found "
        f"{audit['leaks']:,} that leaked. With {audit['confidence']:.0%} confidence, at most "
        f"{audit['upper_bound']:.2%} of the images leak (exact binomial bound of Clopper and Pearson)."
    )


def _titled(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A report's table, a list, or a sentence, in Markdown."""
    if not head and not rows:
        return md(title)
    return f"**{md(title)}**\n\n" + (table(head, rows) if head else bullets([cell for (cell,) in rows]))


def _type(feature: Any) -> str:
    match feature:
        case Image():
            return "image"
        case Value():
            return feature.dtype
        case ClassLabel():
            return f"one of {feature.num_classes} classes"
        case List():
            return f"list of {_type(feature.feature)}"
        case dict():
            return "{" + ", ".join(f"{name}: {_type(inner)}" for name, inner in feature.items()) + "}"
    return type(feature).__name__


def _exceptions(splits: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    lines = []
    for (config, name), split in splits.items():
        allowed = [f"{ALLOWABLE[code]} ({times:,} times)" for code, times in split["allowed"].items()]
        columns = [
            f"the column {code(column)} looks identifying and was let through" for column in split["allowed_columns"]
        ]
        lines += [f"{md(f'{config}/{name}')}: {exception}" for exception in allowed + columns]
    return "\n".join(f"- {line}" for line in lines) or "None."


def _changelog_line(entry: Mapping[str, Any]) -> str:
    version = f" {md(entry['version'])}" if entry["version"] else ""
    note = f": {md(entry['note'])}" if entry["note"] else ""
    return f"- {md(entry['date'])}{version}, {md(entry['what'])}, {entry['rows']:,} rows{note}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; "" without rows."""
    lines = [[md(cell) for cell in head], ["---"] * len(head), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def bullets(items: Sequence[str]) -> str:
    """A Markdown list; "not recorded" if it is empty."""
    return "\n".join(f"- {md(item)}" for item in items) or f"- {UNKNOWN}"


def plain(text: Any) -> str:
    """Text on one line, without control, format and unassigned characters, and at most `LONGEST` characters."""
    line = " ".join(str(text)[: 2 * LONGEST].split())
    line = "".join(letter for letter in line if unicodedata.category(letter)[0] != "C")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def md(text: Any) -> str:
    """Text as Markdown and HTML show it literally, on one line: no tag, link, image, heading or rule comes of it."""
    line = html.escape(plain(text), quote=False)
    line = _MARKUP.sub(r"\\\g<0>", line)
    return _BLOCK.sub(r"\1\\\2", _ADDRESS.sub(lambda found: f"&#{ord(found[0][-1])};", line))


def code(text: Any) -> str:
    """A plain name as code, anything else as `md` shows it."""
    return f"`{text}`" if re.fullmatch(r"(?!www\.)[\w.:+-]{1,100}", str(text)) else md(text)


_MARKUP = re.compile(r"[\\`*\[\]|#~!$]|(?<![^\W_])_|_(?![^\W_])")
_ADDRESS = re.compile(r":(?=//)|(?<=www)\.|(?<=WWW)\.", re.IGNORECASE)
"""What makes an address a link by itself."""
_BLOCK = re.compile(r"^(\d{0,9})([-+=.)])(?=\s|$|[-=]+\s*$)")
"""What begins a list or a rule at the start of a line."""
