"""What a repository holds already, told by what lies there: its own `u2s.json` may come from anybody.

A file counts as an earlier push's if it has the name of a shard of ours and the digest that `u2s.json` gives for it. Of
the rest of `u2s.json` the card repeats numbers and escaped words, and only of splits whose files are all there. Before
a repository is opened, every such file is read back and searched like a new one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.publish.build import check_name, config_folder
from u2s_datasets.publish.hub import CARD, HubError, HubRepository
from u2s_datasets.publish.scan import FileDigest, PrivateIndex, scan_published
from u2s_datasets.publish.summary import SUMMARY_FILE

_OWN = (CARD, ".gitattributes", SUMMARY_FILE)
_LARGEST_SUMMARY = 2**24  # bytes


@dataclass
class Published:
    """One revision of a repository.

    Args:
        revision: its name; None is the main branch.
        summary: of the configs and splits whose files are there as it says, with the changelog; {} if there is none.
        shards: name -> SHA-256 of the files of these splits.
        foreign: names of all other files that this program does not write.
    """

    revision: str | None
    summary: dict[str, Any]
    shards: dict[str, str]
    foreign: set[str]


def look(hub: HubRepository, revision: str | None, own: Mapping[str, FileDigest]) -> Published:
    """What a revision holds.

    Args:
        hub: the repository.
        revision: a branch or tag; None is the main branch.
        own: files of this very push, which may be there already if it was cut.

    Raises:
        HubError: the repository's `u2s.json` is damaged.
    """
    there = hub.files(revision)
    known: dict[str, Any] = {}
    if SUMMARY_FILE in there:
        if there[SUMMARY_FILE][0] > _LARGEST_SUMMARY:
            raise _damaged(hub)
        known = hub.read_json(SUMMARY_FILE, revision)
    configs: dict[str, dict[str, Any]] = {}
    shards: dict[str, str] = {}
    try:
        for config, name, split in _named_splits(known):
            files = {file["path"]: (file["size"], file["sha256"]) for file in split["files"]}
            if files and all(_is_shard(path, config, name) and there.get(path) == files[path] for path in files):
                configs.setdefault(config, {})[name] = split
                shards |= {path: digest for path, (_, digest) in files.items()}
        changelog = list(known.get("changelog", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(hub) from error
    ours = {(path, digest) for path, digest in shards.items()} | {(path, d.sha256) for path, d in own.items()}
    foreign = {path for path, (_, digest) in there.items() if path not in _OWN and (path, digest) not in ours}
    return Published(revision, {"configs": configs, "changelog": changelog} if known else {}, shards, foreign)


def search(hub: HubRepository, found: Published, index: PrivateIndex) -> Iterator[str]:
    """What is wrong with the files of earlier pushes in a revision: read back and searched as far as they tell."""
    for path, digest in found.shards.items():
        data = hub.read(path, found.revision)
        if FileDigest.of(data).sha256 != digest:
            yield f"{path} is not what the repository says it is"
        yield from (f"{path} {finding}" for finding in scan_published(data, index))


def _named_splits(known: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(config, split, its summary) of those with names of ours."""
    for config, splits in known.get("configs", {}).items():
        for name, split in splits.items():
            try:
                check_name("config_name", config)
                check_name("split", name)
            except SetupError:
                continue
            yield config, name, split


def _is_shard(path: str, config: str, split: str) -> bool:
    return (
        re.fullmatch(rf"{re.escape(f'{config_folder(config)}/{split}')}-\d{{5}}-of-\d{{5}}\.parquet", path) is not None
    )


def _damaged(hub: HubRepository) -> HubError:
    return HubError(f"{SUMMARY_FILE} in {hub.repo_id} is damaged; remove it there and push again")
