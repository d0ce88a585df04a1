"""What makes a change to a finished run atomic: the plan of a decided change, and carrying it out.

A `change.Change` is written whole into `private/next` first, with a plan of where each file goes; from then on the
change only ever goes forward. Whoever opens the folder to write next finishes it (`Output.__enter__`).
"""

import json
import shutil
from pathlib import Path

from u2s_datasets.errors import SetupError
from u2s_datasets.runs.layout import CHANGEABLE

PLAN = "plan.json"


def roll_forward(root: Path) -> None:
    """Finish a change that was decided and cut off; drop one that was not decided yet. Call with the folder locked.

    Raises:
        SetupError: the change was not written by `change.Change`; nothing was touched.
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
