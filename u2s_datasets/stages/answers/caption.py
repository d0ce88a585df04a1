"""The answers that become texts: a review with two captions, in any markdown or in JSON, and an instruction."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.stages.answers import markup

# Hard limits, about twice what the prompts ask for and more; an answer beyond them is asked for again.
MAX_ITEMS, MAX_ITEM_CHARS = 32, 600
MAX_CAPTION_WORDS, MAX_INSTRUCTION_WORDS = 120, 90

# The form that the caption prompt asks for, as a regular expression to which a backend may hold its model.
_ITEM = r"ITEM: [^\n]+\nCATEGORY: [^\n]+\nREASON: [^\n]+"
FORM = (
    rf"PRIVACY_REVIEW\n(none|{_ITEM}(\n\n?{_ITEM}){{0,9}})\n\n"
    r"PRIVATE_CAPTION\n[^\n]+\n\nPUBLIC_CAPTION\n[^\n]+"
)


@dataclass(frozen=True)
class ReviewItem:
    """One private thing that the model names, with "" for a category or reason that it does not give."""

    category: str
    item: str
    reason: str


@dataclass(frozen=True)
class Captions:
    """The three sections of a caption answer. `review` and `private` are private."""

    review: tuple[ReviewItem, ...]
    private: str
    public: str


_HEAD = re.compile(
    r"^[ \t>*_`#\-+\[(\"\d.)]*(?:section\b[ \t]*\d*[ \t]*[:.\-]?[ \t]*)?[*_`\[(\"]*"
    r"(privacy[ _-]?review|private[ _-]?caption|public[ _-]?caption)"
    r"[*_`\])\"]*[ \t]*(?:\([^()\n]{0,40}\))?[*_`\"]*[ \t]*(?:[:：=–—-][*_`]*|$)",
    re.IGNORECASE | re.MULTILINE | re.ASCII,
)
_SECTIONS = {"privacyreview": "privacy review", "privatecaption": "private caption", "publiccaption": "public caption"}


def parse_caption(text: str) -> Captions:
    """The review, the private and the public caption.

    Args:
        text: the whole answer to a caption prompt: headed sections in any markdown, or one JSON object.

    Raises:
        UnparsableAnswer: a section is missing, given twice, empty (the review may say "none"), a refusal, an echo
            of the prompt, of several paragraphs, or longer than the limits.
    """
    bare = markup.bare_answer(text)
    if bare.startswith("{"):
        sections = {markup.key(name): value for name, value in markup.json_object(bare).items() if value is not None}
    else:
        sections = _headed_sections(bare)
    for key, words in _SECTIONS.items():
        if key not in sections:
            raise UnparsableAnswer(f"the {words} is missing: give all three sections, each under its name")
    return Captions(
        review=_review(sections["privacyreview"]),
        private=_caption(sections["privatecaption"], "private caption"),
        public=_caption(sections["publiccaption"], "public caption"),
    )


def _headed_sections(text: str) -> dict[str, Any]:
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads), len(text)][1:]
    sections: dict[str, Any] = {}
    for head, end in zip(heads, ends, strict=True):
        name, content = markup.key(head.group(1)), markup.unruled(text[head.end() : end])
        if content and sections.setdefault(name, content) != content:
            raise UnparsableAnswer(f"the {_SECTIONS[name]} is given twice: give each section once")
    return sections


def _caption(section: Any, what: str) -> str:
    text = section if isinstance(section, str) else ""
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if re.search(r"\w", p)]
    if len(paragraphs) > 1 or sum(line.strip() != markup.unbulleted(line) for line in text.splitlines()) > 1:
        raise UnparsableAnswer(f"the {what} has several paragraphs: write one, and nothing after it")
    return markup.prose(section, what, MAX_CAPTION_WORDS)


_NO_ITEM = re.compile(r"\W*(?:none|n/?a|nothing|no items?)(?: (?:found|visible|identified|detected))?\W*", re.I)
_FIELD = re.compile(r"\b(item|category|reason)\b[ \t]*\d*[*_`\])\"]*[ \t]*[:：=–—-][*_`]*", re.IGNORECASE | re.ASCII)


def _review(section: Any) -> tuple[ReviewItem, ...]:
    """Every line becomes part of an item, understood or not: what is lost here is not looked for in public text."""
    items: list[dict[str, str]] = []
    for entry in section if isinstance(section, list) else [section]:
        if isinstance(entry, dict):
            fields = {name.lower(): str(value) for name, value in entry.items() if value is not None}
            known = {name: fields.pop(name, "").strip() for name in ("category", "item", "reason")}
            items.append(known | {"reason": " ".join(filter(None, [known["reason"], *fields.values()]))})
        else:
            items += _items(str(entry).strip().splitlines())
    found = tuple(dict.fromkeys(ReviewItem(i["category"].lower(), i["item"], i["reason"]) for i in items))
    if len(found) > MAX_ITEMS or any(len(f.item) + len(f.reason) > MAX_ITEM_CHARS for f in found):
        raise UnparsableAnswer("the privacy review is too long: list at most ten items, one short line each")
    return found


def _items(lines: list[str]) -> list[dict[str, str]]:
    items: list[dict[str, str]] = []
    for name, value in (pair for line in lines for pair in _fields(line)):
        words = markup.flattened(value).strip(" ,;|(-–—")
        if not re.search(r"\w", words) or (len(lines) == 1 and _NO_ITEM.fullmatch(words)):
            continue
        last = items[-1] if items else {}
        if not last or (name == "item" and (last["item"] or last["reason"])) or (name == "category" and last[name]):
            items.append(last := {"category": "", "item": "", "reason": ""})
        last[name] = f"{last[name]} {words}".strip()
    return items


def _fields(line: str) -> Iterable[tuple[str, str]]:
    if line.strip().startswith("|"):
        cells = [cell.strip("*_ ") for cell in line.strip().strip("|").split("|")]
        if {cell.lower() for cell in cells} <= {"item", "category", "reason", "#", ""}:
            return ()
        names = ("item", "category", "reason") if len(cells) > 2 else ("item", "reason")
        return zip((*names, *["reason"] * len(cells)), cells, strict=False)
    before, *rest = _FIELD.split(markup.unbulleted(line))
    return [("item", before), *zip((name.lower() for name in rest[::2]), rest[1::2], strict=True)]


_LEAD = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[!,. ]+|here(?:['’]s| is| are)\b[^:\n]{0,80}:"
    r"|(?:the )?(?:(?:final|suggested|proposed|combined|merged|edited|edit|editing|new)[ _-]?){0,2}"
    r"(?:instructions?|captions?|modifications?|changes|edits?|output|answer|result|prompt)[*_`\"]*\s*[:：][*_`]*)\s*",
    re.IGNORECASE,
)
_COUNT = re.compile(r"^\W*(?:word|token)s?[ _]?count\b.*$|^\W*\d+ (?:words|tokens)\W*$", re.IGNORECASE | re.MULTILINE)


def parse_instruction(text: str, max_words: int = MAX_INSTRUCTION_WORDS) -> str:
    """One line of plain words: an edit instruction or a merged caption.

    Args:
        text: the whole answer to an instruct or merge prompt.
        max_words: the most words to accept.

    Raises:
        UnparsableAnswer: nothing is left, a refusal, an echo of the prompt, or too many words.
    """
    bare = markup.bare_answer(text)
    if bare.startswith("{"):
        values = [value for value in markup.json_object(bare).values() if isinstance(value, str)]
        bare = values[0] if len(values) == 1 else ""
    bare = _COUNT.sub("", bare)
    while True:
        shorter = _LEAD.sub("", markup.unbulleted(markup.unruled(markup.peeled(bare))).lstrip("*_`"), count=1)
        if shorter == bare:
            return markup.prose(bare, "text", max_words, joint=", ")
        bare = shorter
