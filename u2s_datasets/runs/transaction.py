"""What makes a change to a finished run atomic: files that change together, the plan of it, and carrying it out.

A `Transaction` is written whole into `private/next` first, with a plan of where each file goes; from then on the
change only ever goes forward. Whoever opens the folder to write next finishes it (`Output.__enter__`).
"""

import json
import shutil
from pathlib import Path

from u2s_datasets.errors import SetupError
from u2s_datasets.runs.files import PRIVATE_MODE, write_whole
from u2s_datasets.runs.layout import CHANGEABLE

PLAN = "plan.json"


class Transaction:
    """Files of a run that take their places together, or not at all, once `commit` decided it.

    Args:
        root: the run's folder, locked.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.stage = root, root / "private" / "next.part"
        self.stage.mkdir(mode=0o700)
        self.place: dict[str, str] = {}
        self.remove: list[str] = []

    def path(self, place: str) -> Path:
        """Where to write the file that will take this place."""
        name = staged_name(place)
        self.place[name] = place
        return self.stage / name

    def write(self, place: str, data: bytes, mode: int = PRIVATE_MODE) -> None:
        """The content of a file that will take this place."""
        self._store(self.path(place), data, mode)

    def decide(self) -> None:
        """Decide the change: from now on whoever opens the folder to write carries it out."""
        plan = json.dumps({"place": self.place, "remove": self.remove})
        self._store(self.stage / PLAN, plan.encode(), PRIVATE_MODE)
        self.stage.rename(self.root / "private" / "next")

    def commit(self) -> None:
        """Decide the change, then carry it out."""
        self.decide()
        roll_forward(self.root)

    def _store(self, path: Path, data: bytes, mode: int) -> None:
        with write_whole(path, self.root / "private" / "tmp", mode) as file:
            file.write(data)


def roll_forward(root: Path) -> None:
    """Finish a change that was decided and cut off; drop one that was not decided yet. Call with the folder locked.

    Raises:
        SetupError: the change was not written by a `Transaction`; nothing was touched.
    """
    shutil.rmtree(root / "private" / "next.part", ignore_errors=True)
    stage = root / "private" / "next"
    if stage.is_symlink() or (stage.exists() and not stage.is_dir()):
        raise _foreign_change(stage, "is not a folder")
    if not (stage / PLAN).exists():
        shutil.rmtree(stage, ignore_errors=True)
        return
    place_of, remove = _read_plan(stage)
    for name in remove:
        (root / name).unlink(missing_ok=True)
    for name, place in place_of.items():  # the manifest comes last: it vouches for all the others
        if (stage / name).exists():
            (root / place).parent.mkdir(mode=0o700, exist_ok=True)
            (stage / name).replace(root / place)
    (stage / PLAN).unlink()
    shutil.rmtree(stage)


def _read_plan(stage: Path) -> tuple[dict[str, str], list[str]]:
    """(staged file -> its place, what to remove) of a change that was decided. Raises as `roll_forward`."""
    try:
        plan = json.loads((stage / PLAN).read_text("utf-8"))
        place_of, remove = dict(plan["place"]), list(plan["remove"])
        foreign = [place for place in (*remove, *place_of.values()) if not CHANGEABLE.fullmatch(place)]
        foreign += [name for name, place in place_of.items() if name != staged_name(place)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _foreign_change(stage / PLAN, "is not a valid plan") from error
    foreign += [path.name for path in stage.iterdir() if path.is_symlink() or not path.is_file()]
    if foreign:
        raise _foreign_change(stage / PLAN, f"names {foreign[0]!r}, which no change of a run touches")
    return place_of, remove


def _foreign_change(path: Path, problem: str) -> SetupError:
    return SetupError(
        f"{str(path)!r} {problem}; if you trust the rest of the folder, remove private/next and repeat the same "
        "`u2s anonymize` command, which repairs what is half changed"
    )


def staged_name(place: str) -> str:
    """The name of a file until it takes its place."""
    return place.replace("/", "-")
