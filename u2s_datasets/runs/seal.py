"""What ties a run's facts, reviews, audits and scores to its rows: digests in the private manifest, under one hash.

    manifest["bound"] = {"files": {"run.json": digest, …}, "sha256": digest of all the rest of the manifest}

The rest of the manifest holds the digests of the shards, so that the one hash covers whatever a push reads of a run. A
digest is of a JSON file's content and of any other file's bytes. `rates` in `run.json` tells the clock alone and is
not bound. A manifest of an earlier version has no such entry, and nobody adds one to it afterwards: its files may have
been changed before.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.runs.files import AGAIN, ANEW, json_bytes, sha256
from u2s_datasets.runs.layout import AUDITS, EVALUATION, REVIEWS

KEY = "bound"
BOUND = ("run.json", REVIEWS, *AUDITS, *(name for name in EVALUATION if not name.endswith(".md")))
"""The files that a push reads beside the shards."""

_MANIFEST = "private/manifest.json"
_DAMAGED = "damaged"
_REMEDIES = {
    _MANIFEST: ANEW,
    REVIEWS: "restore a copy of it, or ask for every review again with u2s.review_again(DIR, by='…')",
    **dict.fromkeys(AUDITS, "restore a copy of it, or ask for every review again with u2s.review_again(DIR, by='…')"),
    **dict.fromkeys(EVALUATION, "remove it, or run `u2s eval` again"),
}


def content_digest(name: str, content: Any) -> str:
    """The digest of what a JSON file says, however it is written."""
    if name == "run.json" and isinstance(content, dict):
        content = {key: value for key, value in content.items() if key != "rates"}
    return hashlib.sha256(json_bytes(content)).hexdigest()


def file_digest(root: Path, name: str) -> str:
    """The digest of a file of a run; "" if there is none."""
    path = root / name
    if path.suffix != ".json" or not path.is_file():
        return sha256(path)
    try:
        return content_digest(name, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, RecursionError):
        return _DAMAGED


def sealed(manifest: Mapping[str, Any], files: Mapping[str, str] | None) -> dict[str, Any]:
    """A manifest that binds these files: name -> digest; as it is for None."""
    rest = {key: value for key, value in manifest.items() if key != KEY}
    if files is None:
        return rest
    bound = {"files": {name: digest for name, digest in sorted(files.items()) if digest}}
    whole = hashlib.sha256(json_bytes({**rest, KEY: bound})).hexdigest()
    return {**rest, KEY: {**bound, "sha256": whole}}


def bound_files(manifest: Mapping[str, Any]) -> dict[str, str] | None:
    """Name -> digest of the files that a manifest binds; None for one of an earlier version, which binds none.

    Raises:
        SetupError: the entry is damaged.
    """
    if KEY not in manifest:
        return None
    try:
        return {str(name): str(digest) for name, digest in dict(manifest[KEY]["files"]).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise SetupError(f"{_MANIFEST} binds its files by a damaged entry; {ANEW}") from error


def changed_files(root: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The bound files that are missing, changed or added, the manifest itself among them; [] of an earlier version."""
    files = bound_files(manifest)
    if files is None:
        return []
    digests = {name: file_digest(root, name) for name in BOUND}
    found = [
        name
        for name, digest in digests.items()
        if digest != files.get(name, "") and (digest or name not in EVALUATION)  # without scores it says "not measured"
    ]
    return found if sealed(manifest, files) == dict(manifest) else [*found, _MANIFEST]


def check_sealed(root: Path, manifest: Mapping[str, Any], but: Collection[str] = ()) -> None:
    """Raise `SetupError` for a bound file that is missing or was changed, naming it and the remedy.

    Args:
        root: the run's folder.
        manifest: its manifest.
        but: files that may be anything.
    """
    if wrong := [name for name in changed_files(root, manifest) if name not in but]:
        raise SetupError(f"{str(root / wrong[0])!r} {describe_change(root, wrong[0])}")


def describe_change(root: Path, name: str) -> str:
    """What is wrong with a file that `changed_files` names, and the remedy."""
    changed = "is of other rows" if name in EVALUATION else "was changed by hand"
    what = f"is not what was written or {changed}" if (root / name).exists() else "is missing"
    return f"{what}; {_REMEDIES.get(name, AGAIN)}"
