"""A change to a finished run: carried out whole, or not at all, and never on files that are not the run's."""

import json
from pathlib import Path

import pytest

import u2s_datasets as u2s
from u2s_datasets.runs.transaction import roll_forward

SHARD = "data/part-00000.parquet"


def folder(tmp_path: Path) -> Path:
    """A run's folder with a file for each place that the changes below touch, and a photo beside it."""
    root = tmp_path / "out"
    for name in (SHARD, "private/rows/part-00000.parquet", "private/manifest.json", "private/secret", "run.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"old {name}")
    (tmp_path / "photo.png").write_text("precious")
    return root


def stage(root: Path, plan: object, *staged: str, decided: bool = True) -> None:
    """A change with this plan, as it lies there once it was decided, or before."""
    place = root / "private" / ("next" if decided else "next.part")
    place.mkdir()
    for name in staged:
        (place / name).write_text(f"new {name}")
    (place / "plan.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))


def contents(tmp_path: Path) -> dict[str, str]:
    return {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}


def test_a_decided_change_takes_its_places(tmp_path):
    root = folder(tmp_path)
    place = {"data-part-00000.parquet": SHARD, "private-manifest.json": "private/manifest.json"}
    stage(root, {"remove": ["run.json", "report.html"], "place": place}, *place)
    before = contents(root)
    roll_forward(root)
    after = contents(root)
    assert after[SHARD] == "new data-part-00000.parquet"
    assert after["private/manifest.json"] == "new private-manifest.json"
    assert {name for name in before if "next" not in name} - set(after) == {"run.json"}
    assert not (root / "private/next").exists()
    roll_forward(root)
    assert contents(root) == after


def test_a_change_that_was_cut_off_goes_on(tmp_path):
    """Killed after the first file took its place: that one is there no more, and the others still follow."""
    root = folder(tmp_path)
    place = {"data-part-00000.parquet": SHARD, "private-manifest.json": "private/manifest.json"}
    stage(root, {"remove": ["run.json"], "place": place}, "private-manifest.json")
    (root / "run.json").unlink()
    (root / SHARD).write_text("new already")
    roll_forward(root)
    assert (root / SHARD).read_text() == "new already"
    assert (root / "private/manifest.json").read_text() == "new private-manifest.json"


def test_a_change_that_was_not_decided_is_dropped(tmp_path):
    root = folder(tmp_path)
    before = contents(tmp_path)
    stage(root, {"remove": ["run.json"], "place": {}}, "data-part-00000.parquet", decided=False)
    roll_forward(root)
    assert contents(tmp_path) == before
    (root / "private/next").mkdir()  # without a plan nothing was decided either
    (root / "private/next/data-part-00000.parquet").write_text("half")
    roll_forward(root)
    assert contents(tmp_path) == before


FOREIGN = (
    "../photo.png",
    "data/../../photo.png",
    "data/part-00000.parquet/../../../photo.png",
    "{tmp_path}/photo.png",
    "private/secret",
    "private/lock",
    "private/next/plan.json",
    "private/rows/../secret",
    "data/part-0.parquet",
    "data/part-٠٠٠٠٠.parquet",
    "data/part-00000.parquet\n",
    "DATA/part-00000.parquet",
    "data//part-00000.parquet",
    "./run.json",
    "",
)


@pytest.mark.parametrize("place", FOREIGN)
@pytest.mark.parametrize("key", ["remove", "place"])
def test_a_plan_may_name_files_of_a_run_alone(tmp_path, key, place):
    root = folder(tmp_path)
    place = place.format(tmp_path=tmp_path)
    name = place.replace("/", "-") or "x"
    plan = {"remove": ["run.json"], "place": {}}
    plan[key] = [*plan["remove"], place] if key == "remove" else {name: place}
    stage(root, plan)
    before = contents(tmp_path)
    with pytest.raises(u2s.SetupError, match=r"remove private/next"):
        roll_forward(root)
    assert contents(tmp_path) == before  # nor was run.json removed, which the plan names first


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "[]",
        "null",
        "{",
        {"remove": []},
        {"place": {}},
        {"remove": [7], "place": {}},
        {"remove": [["run.json"]], "place": {}},
        {"remove": None, "place": {}},
        {"remove": [], "place": ["run.json"]},
        {"remove": [], "place": {"run.json": None}},
        {"remove": [], "place": {"data-part-00001.parquet": SHARD}},  # another file in the shard's place
        {"remove": [], "place": {"../../run.json": "run.json"}},
    ],
    ids=str,
)
def test_what_is_not_a_plan_is_refused_before_anything_is_touched(tmp_path, plan):
    root = folder(tmp_path)
    stage(root, plan, "data-part-00001.parquet")
    before = contents(tmp_path)
    with pytest.raises(u2s.SetupError, match=r"plan\.json"):
        roll_forward(root)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_nothing_but_files_may_be_staged(tmp_path, kind):
    root = folder(tmp_path)
    stage(root, {"remove": [], "place": {"data-part-00000.parquet": SHARD}})
    staged = root / "private/next/data-part-00000.parquet"
    if kind == "link":
        staged.symlink_to(tmp_path / "photo.png")
    else:
        staged.mkdir()
    with pytest.raises(u2s.SetupError, match="data-part-00000"):
        roll_forward(root)
    assert (root / SHARD).read_text() == f"old {SHARD}"
