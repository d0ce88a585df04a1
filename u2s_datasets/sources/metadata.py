"""A folder's metadata.csv or metadata.jsonl: which row belongs to which file. No row is dropped, none is guessed."""

import logging
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError

log = logging.getLogger(__name__)

_MOST_NAMED = 5


def read_metadata(root: Path) -> tuple[str, Any]:
    """(name of the file, its table) of a folder's metadata.

    Raises:
        SetupError: there is none with a column `file_name`, there are two, or it cannot be read.
    """
    import pyarrow.csv
    import pyarrow.json

    # Names are texts: "0001" is no number.
    options = pyarrow.csv.ConvertOptions(column_types={"file_name": pyarrow.string()})
    readers: dict[str, Callable[[Path], Any]] = {
        "metadata.csv": lambda path: pyarrow.csv.read_csv(path, convert_options=options),
        "metadata.jsonl": pyarrow.json.read_json,
    }
    found = {}
    for name, reader in readers.items():
        if (root / name).is_file():
            try:
                table = reader(root / name)
            except (OSError, ValueError) as error:
                raise SetupError(
                    f"{str(root / name)!r} cannot be read: {error}; mend it or leave --keep out"
                ) from error
            if "file_name" in table.column_names:
                found[name] = table
    if len(found) == 2:
        raise SetupError(f"{str(root)!r} has {' and '.join(found)}, which may disagree; keep one of them")
    if not found:
        raise SetupError(
            f"--keep needs class folders for 'label', or a file of {' or '.join(readers)} with 'file_name'"
        )
    (name, table), *_ = found.items()
    if twice := {column for column in table.column_names if table.column_names.count(column) > 1}:
        raise SetupError(f"{str(root / name)!r} has the column {sorted(twice)[0]!r} twice; rename one of them")
    return name, table


def files_of_rows(name: str, written: Sequence[Any], files: Sequence[str], others: Iterable[str] = ()) -> list[str]:
    """The file of each row.

    A path is taken as it is, or with "/" for a backslash, without "." and empty steps, and with letters composed
    otherwise ("é" may be one character or two). Upper and lower case are not the same.

    Args:
        name: of the metadata file, for messages, which name rows by number: 1 is the first one below the header.
        written: `file_name` of every row.
        files: the folder's images, as paths below it.
        others: its other entries, which are counted as skipped; their rows have no image, and are passed over.

    Raises:
        SetupError: a row names no file of the folder, a path outside it, or the file of an earlier row.
    """
    known = {*files, *others}
    composed: dict[str, list[str]] = {}
    for path in known:
        composed.setdefault(unicodedata.normalize("NFC", path), []).append(path)
    folded = {path.casefold() for path in composed}
    found: list[str] = []
    wrong: dict[str, list[int]] = {}
    for number, value in enumerate(written, 1):
        as_it_is = isinstance(value, str) and value in known
        path, fault = (value, None) if as_it_is else _find(value, composed, folded)
        if fault is not None:
            wrong.setdefault(fault, []).append(number)
        found.append(path)
    _refuse_twice(found, wrong)
    if wrong:
        faults = "; ".join(f"{fault}: {_numbered(numbers)}" for fault, numbers in wrong.items())
        raise SetupError(f"{name!r} has rows that {faults}; correct their file_name, or take these rows out")
    if absent := len(set(files).difference(found)):
        log.warning("%s has no row for %d of %d images; their kept columns are empty", name, absent, len(files))
    return found


def _find(value: Any, composed: Mapping[str, Sequence[str]], folded: Set[str]) -> tuple[str, str | None]:
    """(the file that is meant, None), or ("", what is wrong with what is written)."""
    if not isinstance(value, str) or not value.strip():
        return "", "name no file"
    path = posixpath.normpath(unicodedata.normalize("NFC", value).replace("\\", "/"))
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        return "", "name a place outside the folder (paths are relative to it)"
    meant = composed.get(path, ())
    if len(meant) == 1:
        return meant[0], None
    if meant:
        return "", "name two files, which differ in how their letters are composed"
    if path.casefold() in folded:
        return "", "name a file in other letters: upper and lower case differ"
    return "", "name a file that is not there"


def _refuse_twice(found: Sequence[str], wrong: dict[str, list[int]]) -> None:
    """Add the rows that name the file of an earlier row: of two sets of values none is the file's."""
    first: dict[str, int] = {}
    for number, path in enumerate(found, 1):
        if path and first.setdefault(path, number) != number:
            wrong.setdefault("name the file of an earlier row", []).append(number)


def _numbered(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return ", ".join(map(str, numbers[:_MOST_NAMED])) + more
