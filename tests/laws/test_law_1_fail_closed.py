"""Law 1, fail closed: what cannot be read, judged or edited is withheld with its reason, and the other rows go on."""

import numpy as np
import pytest
from datasets import Dataset

import u2s_datasets as u2s
from tests.helpers.container import container, run_inside
from tests.helpers.fakes import Broken, ByPixels, Careless, RedSquares, Rewriter, Touchy, picture, some_pictures
from tests.helpers.hostile_images import write_hostile
from tests.helpers.run_files import private_rows, public_rows
from tests.helpers.scripts import Odd
from tests.helpers.steps import RED, anonymize
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.errors import MissingWeights
from u2s_datasets.stages import anonymize as anonymize_module
from u2s_datasets.stages.inspect import Inspect

PRIVATE, SAFE = picture(red=True), picture()


def test_hostile_files_are_processed_right_or_withheld_with_their_reason(tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    expected = write_hostile(folder)
    (folder / "notes.txt").write_text("no image")
    (folder / "video.mp4").write_bytes(b"\0\0\0 ftypisom")
    facts = u2s.run(folder, tmp_path / "out", detectors=["faces"], shard_size=10)
    by_source = {row[c.SOURCE]: row for row in private_rows(tmp_path / "out")}
    assert set(by_source) == set(expected)
    assert facts["rows"] == len(expected) == facts["safe"] + facts["anonymized"] + facts["withheld"]
    assert facts["skipped"] == {".mp4 file": 1, ".txt file": 1}
    for name, code in expected.items():
        row = by_source[name]
        assert (row[c.REASON] or "ok") == code, (name, row[c.NOTE])
        assert (row[c.STATUS] == c.WITHHELD) == (code != "ok")
    published = {row[c.ROW_ID] for row in public_rows(tmp_path / "out")}
    assert published == {r[c.ROW_ID] for r in by_source.values() if r[c.STATUS] != c.WITHHELD}
    for row in public_rows(tmp_path / "out"):
        assert images.metadata_in(row[c.ANONYMIZED_IMAGE]["bytes"]) == []


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("same", "edit_failed"),
        ("raises", "edit_failed"),
        ("fewer", "edit_failed"),
        ("size", "edit_failed"),
        ("array", "edit_failed"),
        ("elsewhere", "residue"),
    ],
)
def test_a_failed_edit_never_yields_the_original(how, code):
    answer = anonymize([picture(red=True), picture(red=True, seed=1), picture()], editor=Broken(how))
    assert answer[c.STATUS] == [c.WITHHELD, c.WITHHELD, c.SAFE]
    assert answer[c.ANONYMIZED_IMAGE][:2] == [None, None]
    assert all(note.startswith(code) for note in answer[c.NOTE][:2])


def test_an_exception_in_one_row_stays_in_its_row():
    inspect = Inspect(detectors=(Touchy(),))
    answer = anonymize([picture(), picture(corner=(0, 255, 0)), picture(red=True)], inspect=inspect)
    assert answer[c.STATUS] == [c.SAFE, c.WITHHELD, c.ANONYMIZED]
    assert answer[c.NOTE][1] == "inspect_failed: RuntimeError: green is too much for me"
    assert answer[c.PRIVACY_FLAG][1] is True


def test_an_unreadable_row_is_flagged_withheld_and_counted():
    answer = anonymize([{"bytes": b"no image", "path": None}, picture(), None])
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE, c.WITHHELD]
    assert answer[c.PRIVACY_FLAG] == [True, False, True]
    assert answer[c.PUBLIC_CAPTION][0] is None


def test_a_failure_travels_from_inspect_to_anonymize():
    batch = {"image": [b"no image", picture()]}
    batch |= RED(batch)
    answer = u2s.Anonymize(inspect=RED)(batch)
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert c.PRIVACY_FLAG not in answer  # it was there already


def test_flagged_without_a_region_is_withheld_by_redaction():
    answer = u2s.Anonymize(inspect=RED)({"image": [picture()], c.PRIVACY_FLAG: [True]})
    assert answer[c.STATUS] == [c.WITHHELD]
    assert answer[c.NOTE][0].startswith("nothing_to_edit")


@pytest.mark.parametrize("how", ["none", "nan"])
def test_no_answer_is_not_nothing_found(how):
    inspect = Inspect(detectors=(Careless(answer=how),))
    answer = anonymize([picture(red=True), picture()], inspect=inspect)
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert answer[c.NOTE][0].startswith("inspect_failed")


@pytest.mark.parametrize("how", ["raises", "fewer", "more", "none", "nan", "absent"])
@pytest.mark.parametrize("method", ["choose", "generate"])
def test_no_answer_is_flagged_and_marked(how, method):
    inspect = u2s.Inspect(detectors=(), backend=Odd(how), method=method)
    answer = inspect({"image": [SAFE, SAFE]})
    assert answer[c.PRIVACY_FLAG] == [True, True]
    assert [items[0]["category"] for items in answer[c.PRIVACY_REVIEW]] == [c.ERROR] * 2
    assert u2s.Anonymize(inspect=inspect)({"image": [SAFE, SAFE]})[c.STATUS] == [c.WITHHELD] * 2


@pytest.mark.parametrize("how", ["raises", "fewer", "more", "none"])
def test_no_caption_is_withheld(how):
    inspect = u2s.Inspect(detectors=(RedSquares(),))
    answer = u2s.Anonymize(inspect=inspect, caption=u2s.Caption(backend=Odd(how)))({"image": [PRIVATE, SAFE]})
    assert answer[c.STATUS] == [c.WITHHELD, c.SAFE]
    assert answer[c.NOTE][0].split(":")[0] in ("no_answer", "unparsable_answer")


def test_a_row_that_kills_its_worker_is_withheld_and_the_others_are_done(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(12):
        picture(red=i % 2 == 0, corner=(0, 0, 255) if i in (3, 7) else None, seed=i).save(folder / f"{i:02d}.png")
    facts = u2s.run(folder, tmp_path / "out", detectors=["tests.helpers.fakes:Touchy"], num_proc=2)
    assert facts["reasons"] == {"worker_died": 2}
    assert (facts["safe"], facts["anonymized"], facts["withheld"]) == (4, 6, 2)
    dead = [row[c.SOURCE] for row in private_rows(tmp_path / "out") if row[c.STATUS] == c.WITHHELD]
    assert dead == ["03.png", "07.png"]


def hungry_run(tmp_path, detector, workers):
    """Eight pictures for which the detector takes much memory, in a group of 1,000 MiB, by the command line."""
    folder = some_pictures(tmp_path / "in", blue=range(8), number=8)  # two chunks
    call = ["-m", "u2s_datasets.cli.main", "anonymize", str(folder), "--out", str(tmp_path / "out"), "-q"]
    with container(1000 * 2**20) as group:
        return run_inside(group, *call, "--detectors", f"tests.helpers.fakes:{detector}", "--num-proc", str(workers))


def test_a_death_for_want_of_memory_is_no_verdict_and_fewer_workers_do_the_rows(tmp_path):
    done = hungry_run(tmp_path, "Hungry", workers=2)
    assert done.returncode == 0, done.stderr
    assert "going on with num_proc=1" in done.stderr and "=1.0 GiB" in done.stderr
    assert [row[c.STATUS] for row in private_rows(tmp_path / "out")] == [c.SAFE] * 8


def test_a_run_that_lacks_memory_for_one_worker_stops_and_blames_no_row(tmp_path):
    done = hungry_run(tmp_path, "Starving", workers=2)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("u2s: one worker alone runs out of memory (") and "--num-proc 1" in last
    assert private_rows(tmp_path / "out") == [] and not (tmp_path / "out/run.json").exists()


@pytest.mark.parametrize("texts", [["a grey cat", "two dogs"], ["gone.png"], ["", "x\0y", "/etc/hostname", None]])
@pytest.mark.parametrize("saved", [False, True])
def test_a_column_of_plain_text_is_no_column_of_images(tmp_path, capsys, texts, saved):
    table = Dataset.from_dict({"caption": texts, "image": [images.encode(picture(), "png")] * len(texts)})
    source = tmp_path / "in"
    table.save_to_disk(source) if saved else table.to_parquet(source / "a.parquet")
    capsys.readouterr()  # `datasets` writes with progress bars
    call = ["anonymize", str(source), "--out", str(tmp_path / "out"), "--image-column", "caption", "-q"]
    assert main(call) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("u2s: the column 'caption' of ") and "--image-column" in printed
    assert len(printed.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values",
    [
        [np.zeros((8, 8, 3), np.int64)] * 2,
        [np.zeros((8, 8, 3), np.float32)],
        np.zeros((2, 8, 8, 3), np.int64),
        np.zeros((8, 8), np.uint8),
        [[picture()], [picture(), picture()]],
        [{"caption": "x"}],
        [3, 4],
        ["a grey cat", None, "two dogs"],
    ],
)
def test_a_batch_that_can_hold_no_image_is_a_fault_of_the_call(values):
    with pytest.raises(u2s.SetupError, match=r"^column 'image' holds .*, not images; expected .*; (call|make|name) "):
        u2s.Anonymize(inspect=RED)({"image": values})


@pytest.mark.parametrize(
    "bad", [np.zeros((8, 8, 3), np.int64), [picture()], {"caption": "x"}, 3, "a grey cat", "", None]
)
def test_one_value_that_is_no_image_among_others_is_its_rows_own_fault(bad):
    assert anonymize([bad, picture()])[c.STATUS] == [c.WITHHELD, c.SAFE]


@pytest.mark.parametrize(
    "bad", [["a grey cat"], ["gone.png", "lost.png"], ["", ""], [None], [{"bytes": None, "path": None}]]
)
def test_images_that_are_absent_are_rows_that_are_withheld(bad):
    assert anonymize(bad)[c.STATUS] == [c.WITHHELD] * len(bad)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_loaded_stops_the_run_before_the_first_row(tmp_path, workers):
    folder = some_pictures(tmp_path / "in", blue=())
    with pytest.raises(MissingWeights, match=r"^zebra\.onnx is missing; run: get zebra$"):
        u2s.run(folder, tmp_path / "out", detectors=["tests.helpers.fakes:BrokenEngine"], num_proc=workers)
    assert private_rows(tmp_path / "out") == []
    assert not (tmp_path / "out/run.json").exists()


def test_a_picture_that_cannot_be_compared_with_others_fails_its_own_row(monkeypatch):
    """Whether an output is another row's is asked behind the rows' boundary, too."""
    asked = anonymize_module.Originals.shows_another

    def breaks(self, original, output):
        if tuple(original[0, 0]) == (0, 255, 0):
            raise ValueError("no such comparison")
        return asked(self, original, output)

    monkeypatch.setattr(anonymize_module.Originals, "shows_another", breaks)
    answer = anonymize(
        [picture(red=True), picture(red=True, corner=(0, 255, 0))], editor=Rewriter(), identity=ByPixels()
    )
    assert answer[c.STATUS] == [c.ANONYMIZED, c.WITHHELD]
    assert answer[c.NOTE][1] == "inspect_failed: ValueError: no such comparison"
