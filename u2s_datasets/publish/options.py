"""The options of a push, declared once.

`u2s.push_to_hub`, `u2s push` and the help texts of both are made from here: a new option is a field and its docstring
line here, an argument in the signature of `push_to_hub`, and the place where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from u2s_datasets.parts import TextCheck

_CARD = "what only you know (for the card)"
_TARGET = "where it goes and who sees it"
_GATE = "what may leave"
_LONGEST = {
    "license": 100,
    "source_dataset": 500,
    "source_license": 500,
    "title": 200,
    "license_link": 500,
    "contact": 300,
    "note": 2000,
    "tag": 200,
}
"""Option -> characters of a text for the card, at most."""
_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
_LINK = re.compile(r"(?:https?://)?[\w./~%?=&+:@,;#-]+", re.ASCII)
_F = TypeVar("_F", bound=Callable[..., Any])


def _option(default: Any, group: str, flag: str, /, **keywords: Any) -> Any:
    """A field that `u2s push` takes too: under this group and flag, with these keywords of `add_argument`."""
    return field(default=default, metadata={"group": group, "flag": flag, "keywords": keywords})


@dataclass(frozen=True)
class About:
    """What only the publisher can state; nothing of it is guessed.

    Args:
        license: licence of what is published, as the Hub writes it, such as "cc-by-4.0"; required. "other" also needs
            a `license_link`.
        source_dataset: Hub id "ORG/NAME" of the source, "original" for the publisher's own photos, or a description;
            required.
        source_license: licence under which the source came; required.
        title: title of the card; default: the repository's name.
        license_link: address of the text of a licence "other".
        contact: where to ask for the removal of an image, besides the Community tab.
        task_categories: tasks as the Hub writes them, such as "image-classification".
        gated: whether readers must agree to terms first: "auto", or "manual" to decide on each request.
    """

    license: str = _option("", _CARD, "--license")
    source_dataset: str = _option("", _CARD, "--source-dataset")
    source_license: str = _option("", _CARD, "--source-license")
    title: str = _option("", _CARD, "--title")
    license_link: str = _option("", _CARD, "--license-link", metavar="URL")
    contact: str = _option("", _CARD, "--contact")
    task_categories: Sequence[str] = _option((), _CARD, "--task", metavar="A,B")
    gated: Literal["auto", "manual"] | None = _option(None, _TARGET, "--gated", choices=["auto", "manual"])

    def missing(self) -> Iterator[str]:
        """What is still missing or wrong, each with its remedy."""
        for name in ("license", "source_dataset", "source_license"):
            if not str(getattr(self, name) or "").strip():
                yield f"{name} is missing: give it (--{name.replace('_', '-')})"
        for name, most in _LONGEST.items():
            if len(str(getattr(self, name, None) or "")) > most:
                yield f"{name} has {len(str(getattr(self, name))):,} characters; expected at most {most:,}"
        words = {"license": [self.license], "task_categories": self.task_categories}
        for name, given in words.items():
            if bad := [word for word in given if word and not _WORD.fullmatch(str(word)[:200])]:
                yield f"invalid {name}={str(bad[0])[:40]!r}; expected words as the Hub writes them, such as cc-by-4.0"
        if self.license_link and not _LINK.fullmatch(str(self.license_link)[:2000]):
            yield "invalid license_link; expected an address such as https://example.org/licence, or a file's name"
        if self.license == "other" and not self.license_link:
            yield "license='other' needs license_link (--license-link)"
        if self.gated not in (None, "auto", "manual"):
            yield f"unknown gated={self.gated!r}; expected 'auto' or 'manual'"


@dataclass(frozen=True)
class PushOptions(About):
    """Everything that a push can be told besides what is pushed and where.

    Args:
        private: keep the repository private; otherwise it is opened to everybody, at the very end.
        revision: branch to write to, created if missing; default: the main branch.
        create_pr: write to a new pull request instead of a branch.
        tag: tag of this version, such as "v1.1".
        note: what changed, for the changelog.
        config_name: config of a single run or dataset; a dict of several names its own.
        split: split of a run or dataset; a `DatasetDict` names its own.
        max_shard_size: largest size of one file, such as "500MB".
        token: write token; default: HF_TOKEN or the token of `hf auth login`.
        keep: columns of the source to publish as well, and scores, which are rounded to two digits; default: all
            columns that a run kept, and none of a dataset.
        allow: exceptions by name (`gate.ALLOWABLE`), and kept columns that look identifying or hold texts in which no
            text check looked for names; the card states them.
        text_check: name of a recognizer of names in kept texts, or in Python one as it is; a run's texts were read by
            its own already.
        text_check_options: arguments of the text check, such as model=en_core_web_lg.
        quality: score -> worst value that may leave, per anonymized row; rows with a worse value or none are held
            back. clip_similarity=0.2 is a minimum, and ssim=0.9, where lower means less copied, a maximum.
        max_leak_rate: highest upper bound of an audit that is accepted, in [0, 1], such as 0.01.
        audit: what an audit found, for datasets, as `private/audit.json` of a run says it: `n`, `leaks`, `confidence`,
            `upper_bound` and `date`.
        secret: file with the key of new row ids, for datasets without ids; default: a key made for this call, so that
            an interrupted push cannot be resumed.
        model_licences: model id -> licence, for the card.
        work: folder for the build, emptied at the end; default: the run's `private/`, else the system's.
        dry_run: do everything but the upload, without a request, and show files, columns, sample rows and the card.
        progress: show a progress bar on standard error, and say there to which host how much is sent.

    Raises:
        SetupError: a value that cannot work.
    """

    private: bool = _option(
        True,
        _TARGET,
        "--public",
        action="store_false",
        default=None,
        help="open the repository to everybody in the end",
    )
    revision: str | None = _option(None, _TARGET, "--revision", metavar="BRANCH")
    create_pr: bool = _option(False, _TARGET, "--create-pr", action="store_true")
    tag: str | None = _option(None, _TARGET, "--tag")
    note: str = _option("", _CARD, "--note")
    config_name: str = _option("default", _TARGET, "--config-name")
    split: str = _option("train", _TARGET, "--split")
    max_shard_size: str | int = _option("500MB", _TARGET, "--max-shard-size")
    token: str | None = field(default=None, repr=False)
    keep: Sequence[str] | None = _option(None, _GATE, "--keep", metavar="A,B")
    allow: Sequence[str] = _option((), _GATE, "--allow", metavar="A,B")
    text_check: str | TextCheck | None = _option(None, _GATE, "--text-check", metavar="NAME")
    text_check_options: Mapping[str, Any] | None = _option(
        None, _GATE, "--text-check-option", action="append", metavar="NAME=VALUE"
    )
    quality: Mapping[str, float] | None = _option(None, _GATE, "--quality", action="append", metavar="SCORE=WORST")
    max_leak_rate: float | None = _option(None, _GATE, "--max-leak-rate", metavar="SHARE", type=float)
    audit: Mapping[str, Any] | None = None
    secret: str | Path | None = None
    model_licences: Mapping[str, str] | None = _option(
        None, _CARD, "--model-licence", action="append", metavar="MODEL=LICENCE"
    )
    work: str | Path | None = None
    dry_run: bool = _option(False, _GATE, "--dry-run", action="store_true")
    progress: bool = False

    def __post_init__(self) -> None:
        if self.max_leak_rate is not None and not 0 <= self.max_leak_rate <= 1:  # NaN fails this, too
            raise SetupError(
                f"invalid max_leak_rate={self.max_leak_rate!r}; expected a number from 0 to 1, such as 0.01"
            )
        if self.create_pr and self.revision is not None:
            raise SetupError(f"revision={self.revision!r} and create_pr=True exclude each other; give one of them")
