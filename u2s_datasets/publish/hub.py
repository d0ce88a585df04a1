"""The Hub, as far as publishing needs it: what is there, what goes there, and what its refusals mean.

Everything goes through `huggingface_hub`. The token is given to it once and never stands in a message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError, U2SError

CARD = "README.md"
_REMEDIES = {
    400: "the Hub did not understand the request; check the card's metadata and the names",
    401: "the Hub does not know this token, or none was given: run `hf auth login`, or set HF_TOKEN to a token with "
    "write access",
    403: "the token may not write there: give it write access to this repository's owner, and check that you are a "
    "member",
    404: "there is no such repository, revision or owner, or the token may not see it: check ORG/NAME and the token",
    409: "somebody changed the repository at the same time, or the name is taken: look at it, then run the same again",
    412: "somebody changed the repository at the same time: run the same again",
    413: "a file is too large for the Hub: give a smaller max_shard_size",
    429: "the Hub asks for patience: wait some minutes, then run the same again; it goes on where it left off",
}
_SERVER = "the Hub failed on its side: run the same again later; it goes on where it left off"


class HubError(U2SError):
    """The Hub refused or failed; the message says what to do.

    Args:
        status: the HTTP status, or none where the Hub was not reached.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """One dataset repository.

    Args:
        repo_id: "ORG/NAME".
        token: a write token; none takes HF_TOKEN or the one of `hf auth login`.
        revision: the branch to write to; none is the main one.
    """

    def __init__(self, repo_id: str, token: str | None = None, revision: str | None = None) -> None:
        import importlib.metadata

        from huggingface_hub import HfApi
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        try:
            validate_repo_id(repo_id)
        except HFValidationError as error:
            raise SetupError(f"{repo_id!r} is no repository name; write it ORG/NAME") from error
        if repo_id.count("/") != 1:
            raise SetupError(f"{repo_id!r} is no repository name; write it ORG/NAME")
        version = importlib.metadata.version("u2s_datasets")
        self._api = HfApi(token=token, library_name="u2s_datasets", library_version=version)
        self._token, self.repo_id, self.revision = token, repo_id, revision
        self._refs: Any = None
        self._where: dict[str, Any] = {"repo_id": repo_id, "repo_type": "dataset"}

    def __repr__(self) -> str:
        return f"Remote({self.repo_id!r}, revision={self.revision!r})"

    def open(self) -> bool | None:
        """Look at the repository. Returns whether it is private, or none where there is none yet."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self.explained("looking at the repository"):
            try:
                private = bool(self._api.repo_info(**self._where).private)
            except RepositoryNotFoundError as error:
                if error.response.status_code != 404:  # the Hub says 401 for a token that it does not know
                    raise
                return None
            self._refs = self._api.list_repo_refs(**self._where)
        return private

    def check_tag(self, name: str | None) -> None:
        """Raise `HubError` for a tag that is there already: it stands for ever."""
        if self._refs is not None and name in {ref.name for ref in self._refs.tags}:
            raise HubError(f"{self.repo_id} has the tag {name!r} already: give another one, or leave it out", 409)

    def create(self) -> None:
        """Make the repository, private: it is opened to others at the end, if at all."""
        with self.explained("creating the repository"):
            self._api.create_repo(**self._where, private=True, exist_ok=True)

    def branch(self) -> None:
        """Make sure that the branch is there; a new one begins as the main one."""
        if not self._is_there():
            with self.explained(f"creating the branch {self.revision!r}"):
                self._api.create_branch(**self._where, branch=str(self.revision), exist_ok=True)
                self._refs = self._api.list_repo_refs(**self._where)

    def _is_there(self) -> bool:
        known = [] if self._refs is None else [*self._refs.branches, *self._refs.converts]
        return self.revision is None or self.revision.startswith("refs/") or self.revision in {r.name for r in known}

    def pull_request(self, title: str) -> str:
        """Open a pull request and write to it from now on. Returns its address."""
        with self.explained("opening a pull request"):
            made = self._api.create_pull_request(**self._where, title=title)
        self.revision = made.git_reference
        return made.url

    def readable(self) -> str | None:
        """The revision to read what is there: the one to write to, or the main one where that is still to be made."""
        return self.revision if self._is_there() else None

    def all_revisions(self) -> list[str]:
        """Every branch and tag."""
        return [] if self._refs is None else [ref.name for ref in (*self._refs.branches, *self._refs.tags)]

    def files(self, revision: str | None) -> dict[str, tuple[int, str]]:
        """Every file of a revision: path -> (size, SHA-256 of a large file, else the git digest)."""
        from huggingface_hub.hf_api import RepoFile

        with self.explained("listing the repository"):
            tree = list(self._api.list_repo_tree(**self._where, recursive=True, revision=revision))
        found = [entry for entry in tree if isinstance(entry, RepoFile)]
        return {f.path: (f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in found}

    def read_json(self, path: str, revision: str | None) -> dict[str, Any]:
        """A JSON file of a revision. Raises `HubError` where it is none."""
        with self.explained(f"reading {path}"):
            file = self._api.hf_hub_download(**self._where, filename=path, revision=revision)
        try:
            return dict(json.loads(Path(file).read_text("utf-8")))
        except ValueError as error:
            raise HubError(f"{path} in {self.repo_id} is no JSON; remove it there and push again") from error

    def upload(self, folder: Path, message: str, stale: Sequence[str]) -> str:
        """Upload a folder; files that are there already are not sent again. Returns the commit.

        Args:
            stale: patterns of files that go where the folder has no such file.
        """
        with self.explained("uploading"):
            made = self._api.upload_folder(
                **self._where,
                folder_path=folder,
                commit_message=message,
                revision=self.revision,
                delete_patterns=list(stale) or None,
            )
        return made.oid

    def compare(self, folder: Path) -> None:
        """Raise `HubError` unless every file of a folder is in the repository, the same byte for byte."""
        there = self.files(self.revision)
        wrong = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            if there.get(name, (0, ""))[0] != path.stat().st_size or there[name][1] not in _digests(path):
                wrong.append(name)
        if wrong:
            raise HubError(
                f"{self.repo_id} does not hold what was checked here ({', '.join(wrong[:5])}); it stays private if it "
                "was. Run the same again, and look at the repository before you open it"
            )

    def tag(self, name: str, message: str) -> None:
        """Tag what was written."""
        with self.explained(f"tagging {name!r}"):
            self._api.create_tag(**self._where, tag=name, tag_message=message or None, revision=self.revision)

    def settings(self, **values: Any) -> None:
        """Change who may read: `private`, `gated`."""
        with self.explained("changing who may read"):
            self._api.update_repo_settings(**self._where, **values)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into a `HubError` that says what to do and never holds the token."""
        from huggingface_hub.errors import HTTPError

        try:
            yield
        except (HTTPError, RuntimeError, ValueError, OSError) as error:
            if isinstance(error, U2SError):
                raise
            raise self._explanation(doing, error) from None  # the client's own message may repeat the token

    def _explanation(self, doing: str, error: BaseException) -> HubError:
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (HfHubHTTPError, HTTPError)):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            said = self._clean(cause.server_message or "")
            remedy = _REMEDIES.get(status, _SERVER if status >= 500 else _REMEDIES[400])
            more = f" (it says: {said})" if said else ""
            return HubError(f"{self.repo_id}: {doing} failed with {status}: {remedy}{more}", status)
        if cause is not None or isinstance(error, ConnectionError):
            name = type(cause or error).__name__
            return HubError(
                f"{self.repo_id}: {doing} failed: the Hub could not be reached ({name}); check the network and "
                "HF_ENDPOINT, then run the same again; it goes on where it left off"
            )
        return HubError(f"{self.repo_id}: {doing} failed: {self._clean(str(error))}; run the same again")

    def _clean(self, text: str) -> str:
        """Text without the token, whoever put it there."""
        from huggingface_hub import get_token

        for token in filter(None, (self._token, get_token())):
            text = text.replace(token, "(token)")
        return " ".join(text.split())[:300]


def _digests(path: Path) -> set[str]:
    """How the Hub may name a file's content: SHA-256 for a large file, git's digest for another."""
    data = path.read_bytes()
    git = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False)
    return {hashlib.sha256(data).hexdigest(), git.hexdigest()}
