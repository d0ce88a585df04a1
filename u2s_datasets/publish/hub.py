"""The Hub, as far as publishing needs it: what is there, what goes there, and what its refusals mean.

Everything goes through `huggingface_hub`. The token is given to it once and never stands in a message.
"""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import HFValidationError, validate_repo_id

from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.publish.scan import FileDigest

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
    429: "too many requests: wait some minutes, then run the same again; it goes on where it left off",
}
_SERVER = "the Hub failed on its side: run the same again later; it goes on where it left off"
_T = TypeVar("_T")


class HubError(U2SError):
    """The Hub refused or failed; the message says what to do.

    Args:
        status: the HTTP status; None if the Hub was not reached.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class HubRepository:
    """One dataset repository.

    Args:
        repo_id: "ORG/NAME".
        token: a write token; None takes HF_TOKEN or the one of `hf auth login`.
        revision: the branch to write to; None is the main one.

    Raises:
        SetupError: an invalid name.
    """

    def __init__(self, repo_id: str, token: str | None = None, revision: str | None = None) -> None:
        try:
            validate_repo_id(repo_id)
            if repo_id.count("/") != 1:
                raise HFValidationError("the owner is missing")
        except HFValidationError as error:
            raise SetupError(f"invalid repository name {repo_id!r}; write it ORG/NAME") from error
        version = importlib.metadata.version("u2s_datasets")
        self._api = HfApi(token=token, library_name="u2s_datasets", library_version=version)
        self._token, self.repo_id, self.revision = token, repo_id, revision
        self._where: dict[str, Any] = {"repo_id": repo_id, "repo_type": "dataset"}
        self._refs: Any = None

    @property
    def host(self) -> str:
        """Where everything is sent: `HF_ENDPOINT`, or the Hub itself; without a user's name and password."""
        scheme, separator, rest = self._api.endpoint.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    def check_private(self, doing: str) -> None:
        """Raise `HubError` if the repository is not private, as it has to be while this is done."""
        with self._explained("looking at who may read"):
            private = bool(self._api.repo_info(**self._where).private)
        if not private:
            raise HubError(
                f"{self.repo_id} on {self.host} is public: somebody opened it while this push was at work ({doing}). "
                "Whatever was uploaded can be read by everybody: make it private again or delete it, and find out who "
                "opened it; then run the same again"
            )

    def open(self) -> bool | None:
        """Look at the repository. Returns whether it is private; None if there is none yet."""
        with self._explained("looking at the repository"):
            try:
                private = bool(self._api.repo_info(**self._where).private)
            except RepositoryNotFoundError as error:
                if error.response.status_code != 404:  # the Hub says 401 for a token that it does not know
                    raise
                return None
            self._refs = self._api.list_repo_refs(**self._where)
        return private

    def check_tag(self, name: str | None) -> None:
        """Raise `HubError` for a tag that is there already: a tag is never moved."""
        if self._refs is not None and name in {ref.name for ref in self._refs.tags}:
            raise HubError(f"{self.repo_id} has the tag {name!r} already: give another one, or leave it out", 409)

    def create(self) -> None:
        """Create the repository, private: it is opened to others at the end, if at all."""
        self._call("creating the repository", self._api.create_repo, private=True, exist_ok=True)

    def branch(self) -> None:
        """Create the branch unless it exists; a new one begins as the main one."""
        if not self._has_branch():
            doing = f"creating the branch {self.revision!r}"
            self._call(doing, self._api.create_branch, branch=str(self.revision), exist_ok=True)

    def _has_branch(self) -> bool:
        known = [] if self._refs is None else [*self._refs.branches, *self._refs.converts]
        return self.revision is None or self.revision.startswith("refs/") or self.revision in {r.name for r in known}

    def pull_request(self, title: str) -> str:
        """Open a pull request and write to it from now on. Returns its address."""
        opened = self._call("opening a pull request", self._api.create_pull_request, title=title)
        self.revision = opened.git_reference
        return opened.url

    def readable(self) -> str | None:
        """The revision to read what is there: the one to write to, or the main one if that does not exist yet."""
        return self.revision if self._has_branch() else None

    def all_revisions(self) -> list[str]:
        """Every branch and tag."""
        return [] if self._refs is None else [ref.name for ref in (*self._refs.branches, *self._refs.tags)]

    def files(self, revision: str | None) -> dict[str, tuple[int, str]]:
        """Every file of a revision: path -> (size, SHA-256 of a large file, else the git digest)."""
        with self._explained("listing the repository"):  # a generator, which asks the Hub while it is read
            tree = list(self._api.list_repo_tree(**self._where, recursive=True, revision=revision))
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
        return {f.path: (f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in files}

    def read_json(self, path: str, revision: str | None) -> dict[str, Any]:
        """A JSON file of a revision. Raises `HubError` if it is damaged."""
        try:
            return dict(json.loads(self.read(path, revision)))
        except (ValueError, TypeError, RecursionError) as error:
            raise HubError(f"{path} in {self.repo_id} is damaged: it is no JSON; remove it and push again") from error

    def read(self, path: str, revision: str | None) -> bytes:
        """A file of a revision."""
        with tempfile.TemporaryDirectory(prefix="u2s-hub-") as folder:
            options = {"filename": path, "revision": revision, "local_dir": folder}
            return Path(self._call(f"reading {path}", self._api.hf_hub_download, **options)).read_bytes()

    def upload(self, folder: Path, scanned: Mapping[str, FileDigest], message: str, stale: Sequence[str] = ()) -> str:
        """Upload files of a folder; those that are there already are not sent again. Returns the commit.

        What is sent is named by its hash: the Hub refuses other bytes under the hash of what was searched.

        Args:
            folder: where they lie.
            scanned: name in the repository -> the digest of what was searched.
            message: of the commit.
            stale: patterns of files that are removed unless they are among these.

        Raises:
            HubError: a file is not the one that was searched, and nothing of this was sent; or the Hub refused.
        """
        adding = [CommitOperationAdd(name, str(folder / name)) for name in scanned]
        for one in adding:
            if one.upload_info.sha256.hex() != scanned[one.path_in_repo].sha256:
                raise HubError(
                    f"{one.path_in_repo} was changed after it was searched, and was not uploaded; find out what writes "
                    "into the folder of the build, then run the same again"
                )
        there = self.files(self.revision) if stale else {}
        gone = [name for name in there if name not in scanned and any(fnmatch(name, pattern) for pattern in stale)]
        operations = [*adding, *(CommitOperationDelete(name) for name in gone)]
        options = {"operations": operations, "commit_message": message, "revision": self.revision}
        return self._call("uploading", self._api.create_commit, **options).oid

    def compare(self, scanned: Mapping[str, FileDigest]) -> None:
        """Raise `HubError` unless the repository holds what was searched, byte for byte: name -> digest."""
        there = self.files(self.revision)
        wrong = [
            name
            for name, digest in scanned.items()
            # The Hub names a large file's content by its SHA-256 and any other's by git's digest.
            if there.get(name) not in ((digest.size, digest.sha256), (digest.size, digest.git))
        ]
        if wrong:
            raise HubError(
                f"{self.repo_id} does not hold what was checked here ({', '.join(wrong[:5])}); it stays private if it "
                "was. Run the same again, and look at the repository before you open it"
            )

    def tag(self, name: str, message: str) -> None:
        """Tag what was written."""
        options = {"tag": name, "tag_message": message or None, "revision": self.revision}
        self._call(f"tagging {name!r}", self._api.create_tag, **options)

    def settings(self, **values: Any) -> None:
        """Change who may read: `private`, `gated`."""
        self._call("changing who may read", self._api.update_repo_settings, **values)

    def _call(self, doing: str, request: Callable[..., _T], **options: Any) -> _T:
        """Make a request about this repository. Raises `HubError`, which says what was being done."""
        with self._explained(doing):
            return request(**self._where, **options)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into a `HubError` that says what to do and never holds the token."""
        try:
            yield
        except (HTTPError, RuntimeError, ValueError, OSError) as error:
            if isinstance(error, U2SError):
                raise
            raise self._explanation(doing, error) from None  # the client's own message may repeat the token

    def _explanation(self, doing: str, error: BaseException) -> HubError:
        failed = f"{self.repo_id}: {doing} failed"
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (HfHubHTTPError, HTTPError)):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            answer = self._without_token(cause.server_message or "")
            remedy = _REMEDIES.get(status, _SERVER if status >= 500 else _REMEDIES[400])
            return HubError(f"{failed} with {status}: {remedy}{f' (it says: {answer})' if answer else ''}", status)
        if cause is not None or isinstance(error, ConnectionError):
            return HubError(
                f"{failed}: the Hub could not be reached ({type(cause or error).__name__}); check the network and "
                "HF_ENDPOINT, then run the same again; it goes on where it left off"
            )
        return HubError(f"{failed}: {self._without_token(str(error))}; run the same again")

    def _without_token(self, text: str) -> str:
        """One short line without the token, whoever put it there."""
        for token in filter(None, (self._token, get_token())):
            text = text.replace(token, "(token)")
        return " ".join(text.split())[:300]
