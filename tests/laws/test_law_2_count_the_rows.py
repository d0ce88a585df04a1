"""Law 2, count the rows: in = safe + anonymized + withheld, in every report, card and line; no row disappears."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Image

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.published_run import ABOUT
from tests.helpers.report_run import build, mixed
from tests.helpers.run_files import private_rows, public_rows
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.errors import U2SError
from u2s_datasets.evaluation.report.report import report
from u2s_datasets.sources.open import open_source


def test_anonymize_then_report_then_dry_run(photos, tmp_path, capsys):
    out = tmp_path / "safe"
    assert main(["anonymize", str(photos / "people"), "--out", str(out), "--detectors", "faces", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 rows = 0 safe + 2 anonymized + 0 withheld" in printed
    assert str(out / "report.html") in printed
    assert main(["report", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert main(["anonymize", str(photos), "--out", str(tmp_path / "no"), "--dry-run", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 9
    assert not (tmp_path / "no").exists()


def test_every_report_card_and_line_counts_the_same_rows(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for i in range(5):
        picture(red=i < 2, seed=i).save(photos / f"{i}.png")
    (photos / "broken.png").write_bytes(b"\x89PNG and no more")
    call = ["anonymize", str(photos), "--out", str(out), "--detectors", "tests.helpers.fakes:RedSquares"]
    assert main([*call, "--num-proc", "1", "--shard-size", "4"]) == 0
    assert "6 rows = 3 safe + 2 anonymized + 1 withheld" in capsys.readouterr().out
    run = json.loads((out / "run.json").read_text())
    assert [run[name] for name in ("rows", *c.STATUSES)] == [6, 3, 2, 1]
    assert (len(private_rows(out)), len(public_rows(out))) == (6, 5)
    made = u2s.report(out)
    assert (made.rows, made.safe, made.anonymized, made.withheld) == (6, 3, 2, 1)
    for page in (out / "report.html", out / "private/report.html"):
        assert "6 rows = 3 + 2 + 1" in page.read_text()
    plan = u2s.push_to_hub(out, "org/photos-safe", dry_run=True, **ABOUT)
    assert "6 rows = 3 safe + 2 anonymized + 1 withheld" in plan.card


def test_a_folder_counts_every_file_as_a_row_or_by_kind(tmp_path):
    picture().save(tmp_path / "a.PNG")
    (tmp_path / "deep/er").mkdir(parents=True)
    picture().save(tmp_path / "deep/er/without_suffix", "JPEG")
    (tmp_path / "broken.jpg").write_bytes(b"")
    (tmp_path / "raw.NEF").write_bytes(b"II*\0")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.PNG")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = open_source(str(tmp_path))
    assert [item.source for item in source.read(0, 9)] == ["a.PNG", "broken.jpg", "deep/er/without_suffix", "raw.NEF"]
    assert source.skipped == {".txt file": 1, "hidden file": 1, "special file": 1, "symbolic link": 1}
    assert source.original("a.PNG").size == (96, 64)
    assert source.original("../outside.png") is None


def test_undecodable_file_names(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture().save(tmp_path / "ok.png")
    os.rename(tmp_path / "ok.png", name)  # noqa: PTH104  a name that is no text
    facts = u2s.run(tmp_path, tmp_path.parent / "out", detectors=["tests.helpers.fakes:RedSquares"], num_proc=1)
    assert facts["safe"] == 1


def test_linked_folders_are_counted_and_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    picture().save(tmp_path / "other/b.png")
    for kind in ("images", "tables"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "linked").symlink_to(tmp_path / "other")
    picture().save(tmp_path / "images/a.png")
    stored = {"bytes": images.encode(picture(), "png"), "path": None}
    table = Dataset.from_dict({"image": [stored] * 2}, features=Features({"image": Image()}))
    table.to_parquet(tmp_path / "tables/a.parquet")
    for kind, rows in (("images", 1), ("tables", 2)):
        source = open_source(str(tmp_path / kind))
        assert len(source) == rows and source.skipped == {"symbolic link": 1}


def test_a_tar_takes_what_a_folder_takes_and_counts_what_it_does_not(tmp_path):
    jpeg = images.encode(picture(), "jpeg")
    files = dict.fromkeys(("1.jpg", "2.img", "3.image", "4", "5.JPG.bak", "deep/6", "._7.jpg", ".8"), jpeg)
    files |= {
        "1.json": b"{}",
        "1.txt": b"a cat",
        "1.cls": b"3",
        "notes": b"text",
        "9": b"",
        "a.mp4": b"\0\0\0 ftypisom",
    }
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in files.items():
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_bytes(data)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    packed, loose = open_source(str(tmp_path / "0.tar")), open_source(str(tmp_path / "folder"))
    taken = ["._7.jpg", "1.jpg", "2.img", "3.image", "4", "5.JPG.bak", "deep/6"]
    assert [item.source for item in loose.read(0, 99)] == taken
    assert sorted(item.source.removeprefix("0.tar/") for item in packed.read(0, 99)) == taken
    counted = {".cls file": 1, ".json file": 1, ".mp4 file": 1, ".txt file": 1}
    assert packed.skipped == loose.skipped == counted | {"file without a suffix": 2, "hidden file": 1}
    assert all(images.decode(item.image).format == "JPEG" for item in packed.read(0, 99))


def _empty(kind: str, path: Path) -> Path:
    """A source of this kind without rows."""
    if kind == "folder":
        path.mkdir()
    elif kind == "tar":
        tarfile.open(path.with_suffix(".tar"), "w").close()
        return path.with_suffix(".tar")
    elif kind == "parquet":
        Dataset.from_dict({"image": []}, features=Features({"image": Image()})).to_parquet(path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")
    elif kind == "bytes":
        path.with_suffix(".parquet").write_bytes(b"")
        return path.with_suffix(".parquet")
    else:
        data = Dataset.from_dict({"image": []}, features=Features({"image": Image()}))
        (DatasetDict({"train": data}) if kind == "dict" else data).save_to_disk(path)
        if kind == "broken":
            (path / "state.json").write_text("{}")
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet", "bytes", "saved", "dict", "broken"])
def test_a_source_without_rows_is_one_line_and_nothing_is_written(tmp_path, kind, capsys):
    source = _empty(kind, tmp_path / "in")
    capsys.readouterr()  # `datasets` writes with progress bars
    assert main(["anonymize", str(source), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("u2s: ") and len(printed.splitlines()) == 1
    assert ("cannot be read" in printed) == (kind in ("bytes", "broken"))
    assert not (tmp_path / "out").exists()


def test_a_split_without_rows_keeps_no_other_from_being_read(tmp_path):
    full = Dataset.from_dict({"image": [{"bytes": images.encode(picture(), "png"), "path": None}]})
    full = full.cast_column("image", Image())
    DatasetDict({"train": full, "test": full.select([])}).save_to_disk(tmp_path / "in")
    assert len(open_source(str(tmp_path / "in"), split="train")) == 1
    with pytest.raises(u2s.SetupError, match="holds no row"):
        open_source(str(tmp_path / "in"), split="test")
    full.save_to_disk(tmp_path / "plain")
    with pytest.raises(u2s.SetupError, match="split='test'"):
        open_source(str(tmp_path / "plain"), split="test")


@pytest.mark.parametrize("damage", ["header", "cut", "joined"])
def test_a_damaged_tar_is_refused_and_loses_no_rows_in_silence(tmp_path, damage):
    path = tmp_path / "00000.tar"
    data = images.encode(picture(), "png")
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "b.png", "c.png"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert len(open_source(str(path))) == 3
    whole = path.read_bytes()
    second = 512 + -(-len(data) // 512) * 512  # where b.png's header begins
    damaged = {
        "header": whole[:second] + b"\xff" * 512 + whole[second + 512 :],
        "cut": whole[:second],
        "joined": whole + whole,
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(u2s.SetupError, match=r"is damaged, cut off or several tars in one: .* behind byte [\d,]+"):
        open_source(str(path))


@pytest.mark.parametrize("said", [{"rows": 22}, {"safe": 8, "anonymized": 10}, {"withheld": None}])
def test_a_run_that_does_not_add_up_has_no_report(tmp_path: Path, said: dict[str, Any]) -> None:
    build(tmp_path, mixed(), **said)
    with pytest.raises(U2SError, match=r"21 rows in, but 9 safe \+ 9 anonymized \+ 3 withheld"):
        report(tmp_path)


def test_a_lost_shard_has_no_report(tmp_path: Path) -> None:
    build(tmp_path, mixed())
    (tmp_path / "data" / "part-00001.parquet").unlink()
    with pytest.raises(U2SError, match="data/ holds"):
        report(tmp_path)


def test_a_row_without_a_status_does_not_disappear() -> None:
    data = Dataset.from_dict({c.STATUS: [c.SAFE, None, c.WITHHELD]})
    with pytest.raises(U2SError, match=r"3 rows in, but 1 safe \+ 0 anonymized \+ 1 withheld"):
        report(data)
