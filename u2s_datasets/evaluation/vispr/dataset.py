"""VISPR as it lies on the disk: a list of annotation files per split, one JSON per image.

    ROOT/test2017.txt                             annotations/test2017/2017_10000580.json, one path to a line
    ROOT/annotations/test2017/2017_….json         {"id": …, "image_path": "images/test2017/….jpg", "labels": […]}
    ROOT/images/test2017/2017_….jpg

All paths are relative to ROOT; of one that leads out of it the name alone counts. Without the list its folder of
annotations is read; annotations and images are also found in `ROOT/test2017` and images in `ROOT/images`, which is
where the archives may have been unpacked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import vispr_attributes as vispr

SPLITS = ("train", "val", "test")
_YEAR = "2017"


@dataclass(frozen=True)
class Example:
    """One image of a split.

    Args:
        name: its path in the annotation, relative to the dataset's root.
        path: where it lies, or would lie.
        labels: the ids of its attributes, or `a0_safe`.
        key: the name with the file's size and time of change; the name alone where there is no file.
    """

    name: str
    path: Path
    labels: frozenset[str]
    key: str

    @property
    def unsafe(self) -> bool:
        """Whether it is private, by the paper's rule: it is not labelled safe."""
        return vispr.SAFE not in self.labels

    def has(self, ids: Sequence[str]) -> bool:
        """Whether it has one of these attributes."""
        return not self.labels.isdisjoint(ids)


def read_split(root: str | Path, split: str, limit: int | None = None) -> list[Example]:
    """The images of a split, in its order.

    Args:
        root: the dataset's folder.
        split: "train", "val" or "test".
        limit: at most so many, the first ones.

    Raises:
        SetupError: there is no such split, an annotation is missing or cannot be read, or not one image is there.
            An image that is missing among others is a row that fails, and no reason to stop.
    """
    folder = Path(root).expanduser()
    year = split if split.endswith(_YEAR) else split + _YEAR
    if year.removesuffix(_YEAR) not in SPLITS:
        raise SetupError(f"unknown split {split!r}; use one of: {', '.join(SPLITS)}")
    if not folder.is_dir():
        raise SetupError(f"root={str(root)!r} is no folder; give the one that holds {year}.txt and images/")
    names = _annotations(folder, year)[:limit]
    examples = [_example(folder, year, name) for name in names]
    if all(example.key == example.name for example in examples):
        raise SetupError(
            f"root={str(root)!r} has the annotations of {year} and none of its {len(examples)} images, such as "
            f"{examples[0].name!r}; unpack the images there, or give the folder to which that path is relative"
        )
    return examples


def _annotations(root: Path, year: str) -> list[str]:
    listed = root / f"{year}.txt"
    if listed.is_file():
        names = [line.strip() for line in _text(listed, f"{year}.txt").splitlines() if line.strip()]
    else:
        folder = root / "annotations" / year
        names = sorted(f"annotations/{year}/{p.name}" for p in folder.glob("*.json"))
    if not names:
        raise SetupError(
            f"root={str(root)!r} is not VISPR's: {year}.txt is {'empty' if listed.is_file() else 'not there'}, nor is "
            f"there an annotation in annotations/{year}/; give the folder that holds {year}.txt and images/"
        )
    return names


def _example(root: Path, year: str, name: str) -> Example:
    text = _text(_place(root, name, (f"annotations/{year}", year)), name)
    try:
        facts = json.loads(text)
        image, labels = facts["image_path"], facts["labels"]
        if not (isinstance(image, str) and isinstance(labels, list) and all(isinstance(v, str) for v in labels)):
            raise TypeError("image_path is no text, or labels is no list of texts")
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"the annotation {name!r} is not VISPR's ({error}); get it again") from error
    path = _place(root, image, (f"images/{year}", "images", year))
    return Example(image, path, frozenset(labels), _key(image, path))


def _key(name: str, path: Path) -> str:
    if not path.is_file():
        return name
    facts = path.stat()
    return f"{name} {facts.st_size} {facts.st_mtime_ns}"


def _place(root: Path, name: str, others: Sequence[str]) -> Path:
    """Where this file lies: where it is said to, or by its name alone in one of the folders; always below the root.

    The last of these where it lies in none of them.
    """
    said = PurePosixPath(name)
    places = [root / folder / said.name for folder in others]
    if not (said.is_absolute() or ".." in said.parts):
        places.insert(0, root / said)
    return next((place for place in places if place.is_file()), places[-1])


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8 text"
        raise SetupError(f"{name!r} of the dataset cannot be read: {why}; unpack all of its annotations") from error
