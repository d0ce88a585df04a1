"""A digest of the code that shapes rows: it ties a run, and the caches of `map`, to the code that made them."""

import functools
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]  # the package's folder

SHAPES_ROWS = (
    "parts",
    "images",
    "privacy",
    "stages",
    "sources",
    "columns.py",
    "executor/pipeline.py",
)
"""Files and folders whose code, prompts or weights decide what is in a row. Code that drives, prints or publishes is
left out: a comment in a report must not make a finished run unresumable."""


def shaping_files() -> Iterator[Path]:
    """The files below `SHAPES_ROWS`."""
    for name in SHAPES_ROWS:
        path = ROOT / name
        yield from (p for p in (path.rglob("*") if path.is_dir() else (path,)) if p.suffix in (".py", ".txt", ".onnx"))


@functools.cache
def code_digest(module: str = __name__) -> str:
    """Digest of the code that shapes a part's results: this package's, and that of a third party's module.

    `datasets` does not notice edits in imported modules; without the digest it would serve stale results.

    Args:
        module: name of the module that defines the part.

    Returns:
        16 hex digits.
    """
    files = {path.relative_to(ROOT).as_posix(): path for path in shaping_files()}
    own = getattr(sys.modules.get(module), "__file__", None)
    if own and ROOT not in Path(own).resolve().parents:
        files[Path(own).name] = Path(own)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].read_bytes())
    return digest.hexdigest()[:16]
