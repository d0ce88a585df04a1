"""Nothing private is said at the default level: not by a model's answers, by what was read, or by a part's error."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Rewriter, picture
from tests.helpers.scripts import GONE
from u2s_datasets import columns as c
from u2s_datasets import images

MARK = "Zyxwvia"
ROOT = Path(__file__).parents[1]
RETRY = "That reply cannot be used"


@dataclass(frozen=True)
class Reading(RedSquares):
    """Reads the mark in every red square, and says it aloud when it fails on a picture 101 pixels wide."""

    def detect(self, images):
        if any(image.shape[1] == 101 for image in images):
            raise RuntimeError(f"cannot read {MARK}")
        return [
            [u2s.Detection("text", d.box, d.score, f"{MARK} 4711") for d in found] for found in super().detect(images)
        ]


@dataclass(frozen=True)
class Talkative(Rewriter):
    """Says the mark aloud when it fails on a picture 100 pixels wide."""

    def edit(self, edits):
        if any(edit.image.width == 100 for edit in edits):
            raise RuntimeError(f"no memory left for {MARK}")
        return super().edit(edits)


def captions(public: str) -> str:
    review = f"ITEM: name tag {MARK}\nCATEGORY: text\nREASON: names {MARK}"
    return f"PRIVACY_REVIEW\n{review}\n\nPRIVATE_CAPTION\n{MARK} sits.\n\nPUBLIC_CAPTION\n{public}"


def judged(width: int) -> str:
    return f"<image {width}x64 [^>]*> You decide"


def described(width: int) -> str:
    return f"<image {width}x64 [^>]*> You prepare"


SAYS = u2s.Scripted(
    (
        *GONE,
        (judged(103), f"I can see {MARK}, so TRUE or FALSE"),
        (judged(104), u2s.RowError(f"no answer about {MARK}")),
        ("You decide", "PRIVACY_FLAG: TRUE"),
        (described(97), captions(f"Then {MARK} sits.")),
        (described(98), f"I'm sorry, I can't describe {MARK}."),
        (described(99), u2s.RowError(f"the server choked on {MARK}")),
        (rf"{described(102)}[\s\S]*{RETRY}", captions("A person sits on a chair.")),
        (described(102), captions(f"Then {MARK} sits.")),
        (described(105), captions("A person sits by a lake.")),
        (described(106), captions("A person sits on a hill.")),
        ("You prepare", captions("A person sits at a desk.")),
        (r"lake[\s\S]*Say what", f"another hat for {MARK}"),
        (r"hill[\s\S]*Describe the", u2s.RowError(f"no caption of {MARK}")),
        ("Say what|Describe the", "A person with a round hat."),
    )
)
WIDTHS = range(96, 107)
FATES = {
    **dict.fromkeys((96, 97, 102, 105), ""),
    **dict.fromkeys((98, 103), "unparsable_answer"),
    **dict.fromkeys((99, 106), "error"),
    100: "edit_failed",
    101: "inspect_failed",
    104: "error",
}


def red(width: int):
    image = picture(red=True, seed=width).resize((width, 64))
    image.paste((255, 0, 0), (30, 20, 60, 40))
    return image


def whole() -> u2s.Anonymize:
    return u2s.Anonymize(
        inspect=u2s.Inspect(detectors=(Reading(),), backend=SAYS, method="generate"),
        caption=u2s.Caption(backend=SAYS),
        instruct=u2s.Instruct(backend=SAYS),
        editor=Talkative(),
        prior="private_caption",
        format="png",
    )


def rows() -> dict:
    return {"image": [red(width) for width in WIDTHS]}


def public_text(row: dict) -> str:
    return " ".join(str(row[name]) for name in c.PUBLIC if name in row and name != c.ANONYMIZED_IMAGE)


def through_map() -> None:
    """The whole of stage 1 on a dataset, and its reports, in a process that has set up no logging."""
    data = [{"bytes": images.encode(red(width), "png"), "path": None} for width in WIDTHS]
    ds = Dataset.from_dict({"image": data}).map(whole(), batched=True, load_from_cache_file=False)
    ds = ds.map(u2s.Score(inspect=None), batched=True, load_from_cache_file=False)
    report = u2s.report(ds)
    print(report.to_json(), report.to_html(), len(ds))


def test_every_way_to_fail_is_silent_and_stays_private(caplog, capfd):
    answer = whole()(rows())
    made = [dict(zip(answer, values, strict=True)) for values in zip(*answer.values(), strict=True)]
    for width, row in zip(WIDTHS, made, strict=True):
        note = row[c.NOTE] or ""
        assert note.split(":")[0] == FATES[width], (width, note)
        assert MARK.casefold() not in public_text(row).casefold(), width
    noted = [width for width, row in zip(WIDTHS, made, strict=True) if MARK in (row[c.NOTE] or "")]
    assert noted == [99, 100, 101, 104, 106]  # the words of a failure are kept, in the row
    assert all(MARK in row[c.PRIVATE_CAPTION] for row in made if not row[c.NOTE])
    replaced = [i["reason"] for row in made for i in row[c.PRIVACY_REVIEW] if i["category"] == c.LEAK]
    assert replaced == ["public_caption was replaced", "edit_instruction was replaced"]
    assert caplog.text == "" and capfd.readouterr() == ("", "")
    caplog.set_level(logging.DEBUG)
    whole()({"image": [red(99)]})
    assert MARK in caplog.text  # who asks for details gets them, and this test would see them


def started(*call: str, **more) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, *call], check=True, capture_output=True, text=True, env=environment, **more)


def test_a_map_prints_nothing_private():
    done = started("-c", f"import {__name__} as quiet; quiet.through_map()")
    assert str(len(WIDTHS)) in done.stdout and "edit_failed" in done.stdout
    assert MARK.casefold() not in (done.stdout + done.stderr).casefold()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_and_what_it_publishes_say_nothing_private(workers, tmp_path):
    (tmp_path / "photos").mkdir()
    for width in WIDTHS:
        red(width).save(tmp_path / "photos" / f"{width}.png")
    out = tmp_path / "out"
    parts = ["--detectors", f"{__name__}:Reading", "--editor", f"{__name__}:Talkative", "--num-proc", workers]
    done = started("-m", "u2s_datasets.cli.main", "anonymize", str(tmp_path / "photos"), "--out", str(out), *parts)
    assert "11 rows = 0 safe + 9 anonymized + 2 withheld" in done.stdout
    public = [path for path in out.rglob("*") if path.is_file() and "private" not in path.parts]
    tables = [pq.read_table(path) for path in public if path.suffix == ".parquet"]
    pages = [path.read_text(encoding="utf-8") for path in public if path.suffix != ".parquet"]
    assert {path.name for path in public} >= {"run.json", "report.html"} and tables
    said = [done.stdout, done.stderr, *pages, *(json.dumps(t.to_pylist(), default=str) for t in tables)]
    assert not [text for text in said if MARK.casefold() in text.casefold()]
    kept = [row for path in (out / "private/rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert sum(MARK in str(row) for row in kept) == len(WIDTHS)
