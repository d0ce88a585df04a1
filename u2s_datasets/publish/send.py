"""The upload of a job in its order: private, data, comparison, card, tag, and only then everybody's eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from u2s_datasets.publish import facts as facts_
from u2s_datasets.publish.gate import REMEDIES, Refused
from u2s_datasets.publish.hub import CARD, HubError, Remote
from u2s_datasets.publish.job import Job
from u2s_datasets.publish.scan import folder_files

_OWN_FILES = {CARD, ".gitattributes", facts_.FACTS_FILE}


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Args:
        repo_id, revision: where; `revision` is none on the main branch.
        commit: of the data.
        private: whether only its owner sees it.
        pull_request: its address, where one was opened.
        files: path -> size in bytes.
    """

    repo_id: str
    revision: str | None
    commit: str
    private: bool
    pull_request: str | None
    files: dict[str, int]


def send(
    job: Job, remote: Remote, private: bool, create_pr: bool, tag: str | None, note: str, allow: set[str]
) -> Pushed:
    """Upload what a job prepared.

    Args:
        job: judged, built and scanned, with nothing against it.
        remote: where it goes.
        private, create_pr, tag, note, allow: as in `push_to_hub`.

    Raises:
        Refused: the repository is public, or holds what nobody inspected.
        HubError: the Hub refused or failed.
    """
    is_private = remote.open()
    remote.check_tag(tag)
    known: dict[str, Any] = {}
    if is_private is None:
        remote.create()
        is_private = True
    else:
        if not is_private and private:
            raise Refused(
                {"repository": f"{job.repo_id} is public; push into a private repository, or say private=False"}
            )
        known = _known(job, remote, private, allow)
    remote.branch()
    job.write_card(known, note, tag or "")  # a fact that is missing must show before the first file is there
    address = remote.pull_request(note or "New version of the safe dataset") if create_pr else None
    commit = remote.upload(job.data, f"Data, made with u2s_datasets{f': {note}' if note else ''}", job.stale())
    remote.compare(job.data)
    remote.upload(job.top, "Card", ())
    remote.compare(job.top)
    if tag is not None:
        remote.tag(tag, note)
    if job.about.gated is not None:
        remote.settings(gated=job.about.gated)
    if is_private and not private and address is None:
        remote.settings(private=False)
        is_private = False
    files = {name: file.stat().st_size for name, file in [*folder_files(job.data), *folder_files(job.top)]}
    return Pushed(job.repo_id, remote.revision, commit, is_private, address, files)


def _known(job: Job, remote: Remote, private: bool, allow: set[str]) -> dict[str, Any]:
    """The facts of a repository that is there already. Raises `Refused` where it holds what nobody inspected.

    Looked at is the revision to write to, and every branch and tag where the repository is to be opened.
    """
    known, foreign = _look(job, remote, remote.readable())
    for revision in () if private else remote.all_revisions():
        foreign |= _look(job, remote, revision)[1]
    if foreign and "foreign_files" not in allow:
        words = f"{len(foreign)} files, such as {min(foreign)!r}; {REMEDIES['foreign_files']}"
        raise Refused({"foreign_files": words})
    if foreign:
        job.allow_foreign(len(foreign))
    return known


def _look(job: Job, remote: Remote, revision: str | None) -> tuple[dict[str, Any], set[str]]:
    """(facts, foreign files) of a revision. Files of this very push, which was cut, are no strangers."""
    there = remote.files(revision)
    known = remote.read_json(facts_.FACTS_FILE, revision) if facts_.FACTS_FILE in there else {}
    try:
        splits = [one for config in known.get("configs", {}).values() for one in config.values()]
        ours = {file["path"]: file["sha256"] for one in splits for file in one["files"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{facts_.FACTS_FILE} in {job.repo_id} is damaged; remove it there, push again") from error
    mine = {b.path: facts_.sha256(b.file) for b in job.built}
    digests = {path: digest for path, (_, digest) in there.items() if path not in _OWN_FILES}
    return known, {path for path, digest in digests.items() if digest not in (ours.get(path), mine.get(path))}
