"""A run's folder on its way out: each public row beside its private one, and what does not fit is withheld."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.published_run import ABOUT
from tests.helpers.run_files import QUICK, private_rows
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.publish.run_split import RunSplit

PUBLIC = "data/part-00000.parquet"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Five pictures in two class folders, two with a red square, one broken: a run in two shards."""
    home = tmp_path_factory.mktemp("split")
    for i in range(5):
        path = home / "photos" / ("zoe" if i % 2 else "anna") / f"holiday_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(red=i in (1, 2), seed=i).save(path)
    (home / "photos/zoe/holiday_3.png").write_bytes(b"\x89PNG and no more")
    u2s.run(home / "photos", home / "safe", keep=["label"], shard_size=3, **QUICK)
    return home


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of that run; its source lies where it lay."""
    return Path(shutil.copytree(finished / "safe", tmp_path / "safe"))


def rewrite(path: Path, change: Any) -> None:
    """Change the rows of a shard, as somebody would who writes into the folder."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def reasons(run: Path, **options: Any) -> dict[str, str]:
    """Why a push of the folder would be refused."""
    return u2s.push_to_hub(run, "org/safe", dry_run=True, **ABOUT, **options).reasons


def test_every_row_of_the_source_is_a_candidate_beside_its_original(run):
    found = list(RunSplit(run).candidates())
    rows = private_rows(run)
    assert [one.status for one in found] == [row[c.STATUS] for row in rows]
    assert [bool(one.public) for one in found] == [row[c.STATUS] != c.WITHHELD for row in rows]
    assert [one.seed for one in found] == [row[c.SEED] for row in rows]
    for one, row in zip(found, rows, strict=True):
        assert one.flagged is row[c.PRIVACY_FLAG]
        assert Path(row[c.SOURCE]).stem in one.names
        if one.public:
            assert set(one.public) == {*c.PUBLIC, "label"}
            assert one.public[c.ROW_ID] == row[c.ROW_ID]
            number = int(Path(row[c.SOURCE]).stem.removeprefix("holiday_"))
            original = images.decode(one.original).pixels
            assert original.tobytes() == picture(red=number in (1, 2), seed=number).tobytes()
    assert reasons(run) == {}


def test_a_row_whose_halves_disagree_about_its_status_is_withheld(run):
    def lie(rows):
        (row,) = (row for row in rows if row[c.STATUS] == c.ANONYMIZED)
        row[c.STATUS] = c.SAFE

    rewrite(run / PUBLIC, lie)
    found = [one for one in RunSplit(run).candidates() if one.public]
    assert sorted(one.status for one in found) == [c.ANONYMIZED, c.SAFE, c.SAFE, c.WITHHELD]
    assert {"withheld", "changed"} <= set(reasons(run))


def test_a_public_row_that_no_private_one_stands_for_is_withheld_and_counts_as_private(run):
    rewrite(run / PUBLIC, lambda rows: rows[0].update({c.ROW_ID: "f" * 32}))
    found = list(RunSplit(run).candidates())
    (strange,) = (one for one in found if one.public and one.public[c.ROW_ID] == "f" * 32)
    assert (strange.status, strange.flagged, strange.original) == (c.WITHHELD, True, None)
    assert len(found) == 6 and sum(bool(one.public) for one in found) == 4
    assert {"withheld", "changed"} <= set(reasons(run))


def test_a_source_that_is_not_what_the_run_read_gives_no_originals(finished, run, tmp_path):
    source = Path(
        shutil.copytree(Path(json.loads((run / "private/manifest.json").read_text())["source"]), tmp_path / "in")
    )
    shutil.rmtree(run)
    u2s.run(source, run, keep=["label"], shard_size=3, **QUICK)
    assert all(one.original is not None for one in RunSplit(run).candidates())
    picture(seed=99).save(source / "anna/holiday_0.png")
    assert all(one.original is None for one in RunSplit(run).candidates())
    assert "originals" in reasons(run)
    shutil.rmtree(source)
    assert all(one.original is None for one in RunSplit(run).candidates())


def test_only_columns_that_somebody_named_leave(run):
    assert set(RunSplit(run).features) == {*c.PUBLIC, "label"}
    assert set(RunSplit(run, keep=[]).features) == set(c.PUBLIC)
    table = pq.read_table(run / PUBLIC)
    pq.write_table(table.append_column("path", pa.array(["/home/zoe"] * len(table))), run / PUBLIC)
    split = RunSplit(run, keep=[])
    assert {name for one in split.candidates() for name in one.public} == set(c.PUBLIC)
    assert "'path', which nobody named" in reasons(run)["column"]
    with pytest.raises(u2s.SetupError, match="keep='caption'"):
        RunSplit(run, keep=["caption"])


def test_a_score_leaves_with_two_digits_and_only_where_it_is_named(run):
    private = {row[c.ROW_ID]: row for row in private_rows(run)}
    for one in RunSplit(run, keep=[c.SSIM]).candidates():
        if one.public:
            exact = private[one.public[c.ROW_ID]][c.SSIM]
            assert one.public[c.SSIM] == float(f"{exact:.2g}") and "label" not in one.public
    assert sum(row[c.SSIM] not in (None, 1.0) for row in private.values()) == 2  # so some were rounded


def test_the_last_decision_of_a_review_counts(run):
    row = next(row[c.ROW_ID] for row in private_rows(run) if row[c.STATUS] == c.SAFE)
    entry = {"review_decision": "reject", "review_by": "ada", "review_at": "2026-11-20T16:00:00+00:00", "shard": 0}
    (run / "private/reviews.json").write_text(json.dumps({row: entry}))
    decisions = {one.public[c.ROW_ID]: one.decision for one in RunSplit(run).candidates() if one.public}
    assert decisions == {**dict.fromkeys(decisions), row: "reject"}
    (run / "private/reviews.json").write_text("{")
    with pytest.raises(u2s.SetupError, match=r"reviews\.json"):
        list(RunSplit(run).candidates())


@pytest.mark.parametrize("name", ["part-00077.parquet", "part-0.parquet", "photo.png", "part-00000.parquet.bak"])
def test_a_file_that_the_run_did_not_write_is_noticed(run, name):
    shutil.copy(run / PUBLIC, run / "data" / name)
    assert "a file that the run did not write" in reasons(run)["changed"]


@pytest.mark.parametrize("half", ["data", "private/rows"])
def test_a_file_that_is_gone_is_noticed(run, half):
    (run / half / "part-00001.parquet").unlink()
    assert "part-00001.parquet" in reasons(run)["changed"]


def test_what_is_not_a_finished_run_is_refused(run, tmp_path):
    for name in ("run.json", "private/manifest.json"):
        copy = Path(shutil.copytree(run, tmp_path / name.replace("/", "-")))
        (copy / name).write_text("{")
        with pytest.raises(u2s.SetupError):
            RunSplit(copy)
    with pytest.raises(u2s.SetupError):
        RunSplit(tmp_path / "nowhere")


def test_the_places_of_source_and_run_may_stand_nowhere(run, finished):
    assert set(RunSplit(run).secrets()) == {str(finished / "photos"), str(run.resolve())}
