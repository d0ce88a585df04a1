"""A Hub on loopback: repositories, commits, large files, branches, tags and pull requests, as the client asks for them.

It keeps every request, so that a test can see what reached it, and can be told to refuse or to stop somebody midway.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "loopbackTokenThatMustNeverShow"

Files = dict[str, tuple[str, bytes]]  # path -> ("lfs" or "regular", content)


@dataclass
class Request:
    method: str
    path: str
    body: bytes = b""


@dataclass
class Repo:
    """One dataset repository; a commit is a whole tree of files."""

    private: bool
    gated: Any = False
    commits: dict[str, Files] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        words = repr(
            (message, len(self.commits), sorted((p, k, hashlib.sha1(d).hexdigest()) for p, (k, d) in files.items()))
        )
        name = hashlib.sha1(words.encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        self.messages.append(message)
        return name

    def find(self, revision: str) -> str | None:
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )


class Hub:
    """Starts on a free port of 127.0.0.1; use it in `with`.

    Attributes:
        requests: everything that was asked, in order.
        repos: "ORG/NAME" -> repository.
        refuse: (method, path) -> a status to refuse with, or none.
        before_put: called with the number of each large file (0, 1, …); False drops it and the connection.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        self.before_put: Callable[[int], bool] = lambda number: True
        self.puts = 0
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a revision holds."""
        repo = self.repos[repo_id]
        return {path: data for path, (_, data) in repo.commits[repo.find(revision) or ""].items()}

    def count(self, method: str, pattern: str) -> int:
        """How many requests were of this kind."""
        return sum(r.method == method and fnmatch(r.path, pattern) for r in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        path, query = parts.path, parse_qs(parts.query)
        self.hub.requests.append(Request(self.command, unquote(path), body))
        status = self.hub.refuse(self.command, unquote(path))
        if status is not None:
            said = {"error": f"refused with {self.headers.get('Authorization', '')}"}  # as a careless proxy would
            return self._json(said, status)
        if (
            not path.startswith(("/lfs/", "/api/validate-yaml"))
            and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            return self._error(401, "", "Invalid credentials in Authorization header")
        for pattern, work in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in work.__doc__.split(":")[0]:
                return work(self, *(unquote(group or "") for group in found.groups()), body=body, query=query)
        return self._error(404, "EntryNotFound", f"no such page {self.command} {path}")

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, "Content-Type": "application/json"} | (
            {"X-Error-Code": code} if code else {}
        )
        self._send(json.dumps({"error": message}).encode(), status, headers)

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repo(self, repo_id: str, revision: str = "main") -> tuple[Repo, str] | None:
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            return self._error(404, "RepoNotFound", "Repository not found")
        commit = repo.find(revision)
        return (repo, commit) if commit else self._error(404, "RevisionNotFound", f"no revision {revision}")

    def create(self, *, body: bytes, query: Any) -> None:
        """POST: a new repository."""
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.hub.repos:
            return self._error(409, "", "You already created this dataset repo")
        repo = self.hub.repos[repo_id] = Repo(private=asked.get("visibility") == "private")
        repo.commit("main", {".gitattributes": ("regular", b"*.parquet filter=lfs\n")}, "initial commit")
        self._json({"url": f"{self.hub.url}/datasets/{repo_id}"})

    def info(self, repo_id: str, revision: str, *, body: bytes, query: Any) -> None:
        """GET: facts of a repository."""
        if found := self._repo(repo_id, revision or "main"):
            repo, commit = found
            siblings = [{"rfilename": path} for path in repo.commits[commit]]
            facts = {"id": repo_id, "_id": "1", "private": repo.private, "gated": repo.gated, "sha": commit, "tags": []}
            self._json({**facts, "siblings": siblings, "disabled": False, "downloads": 0, "likes": 0})

    def settings(self, repo_id: str, *, body: bytes, query: Any) -> None:
        """PUT: who may read."""
        asked, repo = json.loads(body), self.hub.repos[repo_id]
        if "visibility" in asked:
            repo.private = asked["visibility"] == "private"
        repo.gated = asked.get("gated", repo.gated)
        self._json({"private": repo.private, "gated": repo.gated})

    def preupload(self, repo_id: str, revision: str, *, body: bytes, query: Any) -> None:
        """POST: which files are large."""
        if found := self._repo(repo_id, revision):
            there = found[0].commits[found[1]]
            answers = []
            for file in json.loads(body)["files"]:
                kind = "lfs" if file["path"].endswith(".parquet") else "regular"
                oid = _oid(*there[file["path"]]) if file["path"] in there else None
                answers.append({"path": file["path"], "uploadMode": kind, "shouldIgnore": False, "oid": oid})
            self._json({"files": answers})

    def batch(self, repo_id: str, *, body: bytes, query: Any) -> None:
        """POST: where large files go; those that are there need no upload."""
        objects = []
        for one in json.loads(body)["objects"]:
            here = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.stored:
                here["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}
            objects.append(here)
        self._json({"transfer": "basic", "objects": objects})

    def put(self, oid: str, *, body: bytes, query: Any) -> None:
        """PUT: a large file."""
        number, self.hub.puts = self.hub.puts, self.hub.puts + 1
        if not self.hub.before_put(number):
            self.close_connection = True
            return
        if hashlib.sha256(body).hexdigest() != oid:
            return self._error(422, "", "the content is not what its name says")
        self.hub.stored[oid] = body
        self._json({})

    def commit(self, repo_id: str, revision: str, *, body: bytes, query: Any) -> None:
        """POST: changes of files, one JSON per line."""
        found = self._repo(repo_id, revision)
        if not found:
            return
        repo, parent = found
        files, lines = dict(repo.commits[parent]), [json.loads(line) for line in body.splitlines()]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = ("regular", base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                files[value["path"]] = ("lfs", self.hub.stored[value["oid"]])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        name = repo.commit(revision, files, lines[0]["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.url}/datasets/{repo_id}/commit/{name}", "commitOid": name})

    def tree(self, repo_id: str, revision: str, below: str, *, body: bytes, query: Any) -> None:
        """GET: files and folders."""
        if found := self._repo(repo_id, revision):
            deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            entries, prefix = [], f"{below.strip('/')}/" if below.strip("/") else ""
            folders = set()
            for path, (kind, data) in sorted(found[0].commits[found[1]].items()):
                rest = path.removeprefix(prefix)
                if not path.startswith(prefix):
                    continue
                if "/" in rest:
                    folders.add(prefix + rest.split("/")[0])
                if "/" not in rest or deep:
                    entries.append(_entry(path, kind, data))
            if prefix and not entries and not folders:
                return self._error(404, "EntryNotFound", f"no folder {below}")
            self._json(
                [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in sorted(folders)] + entries
            )

    def paths(self, repo_id: str, revision: str, *, body: bytes, query: Any) -> None:
        """POST: facts of some paths."""
        if found := self._repo(repo_id, revision):
            files, answer = found[0].commits[found[1]], []
            asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            for path in asked if isinstance(asked, list) else [asked]:
                if path in files:
                    answer.append(_entry(path, *files[path]))
                elif any(name.startswith(f"{path}/") for name in files):
                    answer.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
            self._json(answer)

    def resolve(self, repo_id: str, revision: str, path: str, *, body: bytes, query: Any) -> None:
        """GET HEAD: a file's content."""
        found = self._repo(repo_id, revision)
        if not found:
            return
        file = found[0].commits[found[1]].get(path)
        if file is None:
            return self._error(404, "EntryNotFound", f"no file {path}")
        data = file[1]
        headers = {"ETag": f'"{_oid(*file)}"', "X-Repo-Commit": found[1], "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span:
            first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return self._send(data[first : last + 1], 206, headers)
        self._send(data, 200, headers)

    def validate(self, *, body: bytes, query: Any) -> None:
        """POST: whether a card's metadata is right, as far as is written down of the Hub's rules."""
        asked = json.loads(body)
        match = re.match(r"---\n(.*?)\n---\n", asked["content"], re.DOTALL)
        data = yaml.safe_load(match[1]) if match else None
        errors = [] if isinstance(data, dict) else [{"message": "there is no metadata"}]
        for name, kind in (("license", str), ("tags", list), ("configs", list), ("size_categories", list)):
            if not errors and asked["repoType"] == "dataset" and not isinstance(data.get(name), kind):
                errors.append({"message": f"{name} must be {kind.__name__}"})
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def branch(self, repo_id: str, name: str, *, body: bytes, query: Any) -> None:
        """POST: a new branch."""
        repo = self.hub.repos[repo_id]
        if name in repo.branches:
            return self._error(409, "", "Reference already exists")
        repo.branches[name] = repo.branches["main"]
        self._json({})

    def refs(self, repo_id: str, *, body: bytes, query: Any) -> None:
        """GET: branches and tags."""
        repo = self.hub.repos[repo_id]
        branches = [_ref("heads", name, at) for name, at in repo.branches.items() if not name.startswith("refs/")]
        tags = [_ref("tags", name, at) for name, at in repo.tags.items()]
        self._json({"branches": branches, "tags": tags, "converts": []})

    def tag(self, repo_id: str, revision: str, *, body: bytes, query: Any) -> None:
        """POST: a new tag."""
        if found := self._repo(repo_id, revision):
            name = json.loads(body)["tag"]
            if name in found[0].tags:
                return self._error(409, "", "Tag reference exists already")
            found[0].tags[name] = found[1]
            self._json({})

    def discussions(self, repo_id: str, *, body: bytes, query: Any) -> None:
        """POST: a new pull request."""
        repo, asked = self.hub.repos[repo_id], json.loads(body)
        repo.pulls.append(asked["title"])
        repo.branches[f"refs/pr/{len(repo.pulls)}"] = repo.branches["main"]
        self._json({"num": len(repo.pulls)})

    def discussion(self, repo_id: str, number: str, *, body: bytes, query: Any) -> None:
        """GET: a pull request."""
        facts = {"title": self.hub.repos[repo_id].pulls[int(number) - 1], "num": int(number), "status": "draft"}
        facts |= {
            "createdAt": "2026-01-01T00:00:00.000Z",
            "isPullRequest": True,
            "changes": {"base": "refs/heads/main"},
        }
        self._json({**facts, "repo": {"name": repo_id, "type": "dataset"}, "filesWithConflicts": False, "events": []})


def _oid(kind: str, data: bytes) -> str:
    if kind == "lfs":
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _ref(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def _entry(path: str, kind: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _oid("regular", data)}
    if kind == "lfs":
        entry["lfs"] = {"oid": _oid("lfs", data), "size": len(data), "pointerSize": 130}
    return entry


_ID = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/api/datasets/{_ID}/settings", _Handler.settings),
    (rf"/api/datasets/{_ID}/preupload/([^/]+)", _Handler.preupload),
    (rf"/api/datasets/{_ID}/commit/([^/]+)", _Handler.commit),
    (rf"/api/datasets/{_ID}/tree/([^/]+)(/.*)?", _Handler.tree),
    (rf"/api/datasets/{_ID}/paths-info/([^/]+)", _Handler.paths),
    (rf"/api/datasets/{_ID}/refs", _Handler.refs),
    (rf"/api/datasets/{_ID}/branch/([^/]+)", _Handler.branch),
    (rf"/api/datasets/{_ID}/tag/([^/]+)", _Handler.tag),
    (rf"/api/datasets/{_ID}/discussions", _Handler.discussions),
    (rf"/api/datasets/{_ID}/discussions/(\d+)", _Handler.discussion),
    (rf"/api/datasets/{_ID}(?:/revision/([^/]+))?", _Handler.info),
    (rf"/datasets/{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    (rf"/datasets/{_ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"/lfs/([0-9a-f]{64})", _Handler.put),
]
