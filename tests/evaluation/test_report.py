"""The report: counts that add up, numbers by batches, and a public page that knows nothing private."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.html_page import parsed, words
from tests.helpers.report_run import HOSTILE, NAMES, build, encoded, mixed, originals, photo, row, write_pages
from u2s_datasets import columns as c
from u2s_datasets.errors import RowError, SetupError, U2SError
from u2s_datasets.evaluation.report import private_page
from u2s_datasets.evaluation.report.report import Report, report
from u2s_datasets.evaluation.report.summary import summarize
from u2s_datasets.evaluation.report.svg import thumbnail
from u2s_datasets.parts.metrics.definitions import SPECS, Distribution


def test_counts_and_scores_of_a_folder(tmp_path: Path) -> None:
    made = report(build(tmp_path, mixed()))
    assert (made.rows, made.safe, made.anonymized, made.withheld) == (21, 9, 9, 3)
    assert made.reasons == {"residue": 3}
    assert made.detections == {"face": (12, 12)}
    ssim = next(s for s in made.scores if s.name == c.SSIM)
    values = [r[c.SSIM] for r in mixed() if r[c.SSIM] is not None]
    assert (ssim.n, ssim.missing, ssim.worst) == (18, 3, 1.0)
    assert ssim.mean == pytest.approx(np.mean(values)) and ssim.median == pytest.approx(np.median(values))
    text = str(made)
    assert "21 rows = 9 safe + 9 anonymized + 3 withheld" in text and "42.9%" in text
    assert "Not looked for\n  - licence plates\n  - tattoos\n" in text + "\n" and "face" in text


def test_the_specs_are_the_schema() -> None:
    assert tuple(SPECS) == c.SCORE
    assert {name: feature.dtype for name, feature in c.features(c.SCORE).items()} == {
        name: spec.dtype for name, spec in SPECS.items()
    }


def test_every_spec_names_columns_parts_and_a_direction() -> None:
    for spec in SPECS.values():
        assert spec.better in ("higher", "lower") and spec.low < spec.high and spec.bins > 0, spec.name
        assert {spec.detail_of, spec.noted_as} - {""} <= {*SPECS}, spec.name
        assert not spec.part or spec.part in u2s.Score.__dataclass_fields__, spec.name
        assert spec.part or not spec.package, spec.name


def test_nan_and_null_are_missing_and_worst_knows_the_direction() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            c.LPIPS: [0.5, None, math.nan, 0.25, math.inf],
            c.FACE_SIMILARITY: pa.array([0.1, 0.9, None, None, 0.2], pa.float32()),
        }
    )
    lpips, face = summarize([batch, batch]).scores
    assert (lpips.n, lpips.missing, lpips.mean, lpips.worst) == (4, 6, 0.375, 0.25)
    assert (face.n, face.missing, face.worst) == (6, 4, pytest.approx(0.9))


def test_an_all_null_column_without_type_is_missing() -> None:
    (score,) = summarize([pa.RecordBatch.from_pydict({c.SSIM: pa.nulls(3)})]).scores
    assert (score.n, score.missing, score.mean, score.median, score.worst) == (0, 3, None, None, None)


def test_public_bins_hide_few_rows_and_never_one_small_bin_alone() -> None:
    values = np.array([0.0] * 7 + [0.92] * 3 + [0.97] * 20)
    score = Distribution.of(c.SSIM, values, 30)
    assert sum(score.counts) == 30 and score.counts[0] == 7 and score.counts[18:] == (3, 20)
    assert [k for k in score.public_counts() if k is not None] == [7, 20]
    full = Distribution(c.RESIDUAL_FACES, 62, 0, 0.0, 0.0, 0.0, (10, 9, 6, 7, 5, 6, 6, 6, 3, 2 + 3, 5))
    assert full.public_counts().count(None) == 2 and full.public_counts()[4] is None


def test_edges_and_open_ends_of_bins() -> None:
    score = Distribution.of(c.SSIM, np.array([-3.0, 0.0, 0.049, 0.05, 0.15, 1.0, 7.0]), 7)
    assert (score.counts[0], score.counts[1], score.counts[3], score.counts[-1]) == (3, 1, 1, 2)


def test_few_rows_have_no_public_figures() -> None:
    batch = pa.RecordBatch.from_pydict({c.SSIM: [0.123456, 0.2, 0.3, 0.4]})
    made = Report(**vars(summarize([batch])))
    assert json.loads(made.to_json())["scores"][c.SSIM] == {"n": 4, "missing": 0}
    assert json.loads(made.to_json(private=True))["scores"][c.SSIM]["worst"] == 0.4
    assert "0.25" not in made.to_markdown() and "0.25" in made.to_markdown(private=True)


def test_only_one_batch_is_held() -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for _ in range(50):
            batch = pa.RecordBatch.from_pydict({c.STATUS: [c.SAFE] * 10, c.SSIM: [0.5] * 10})
            alive.append(weakref.ref(batch))
            yield batch
            most = max(most, sum(r() is not None for r in alive))

    assert summarize(batches()).rows == 500
    assert most <= 2  # the one in work, and the one just made


def test_no_image_is_read_for_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    read = pq.ParquetFile.iter_batches

    def spy(self: pq.ParquetFile, *args: Any, columns: list[str], **kwargs: Any) -> Any:
        asked.update(columns)
        return read(self, *args, columns=columns, **kwargs)

    build(tmp_path, mixed(7))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    report(tmp_path)
    assert c.STATUS in asked and c.ANONYMIZED_IMAGE not in asked


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    build(tmp_path, mixed())
    (tmp_path / "private" / "rows" / "part-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(U2SError, match=r"cannot read '.*part-00001\.parquet'"):
        report(tmp_path)


def test_a_mark_of_failure_is_no_detection() -> None:
    mark = c.review_item(c.ERROR, "truncated", "OCR-SECRET-4711", None, 1.0)
    face = c.review_item("face", "face", "found", (0, 0, 9, 9), 0.9)
    made = report(dataset([{c.PRIVACY_REVIEW: [face, face]}, {c.PRIVACY_REVIEW: [mark]}], c.PRIVACY_REVIEW))
    assert made.detections == {"face": (2, 1)}


def test_what_is_no_run_or_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"run\.json"):
        report(tmp_path)
    with pytest.raises(SetupError, match="not dict"):
        report({"a": 1})
    with pytest.raises(SetupError, match="no column of a step"):
        report(Dataset.from_dict({"a": [1]}))


def test_pages_are_well_formed_and_load_nothing(tmp_path: Path) -> None:
    write_pages(build(tmp_path, mixed()), originals)
    for path in (tmp_path / "report.html", tmp_path / "private" / "report.html"):
        page = path.read_text()
        parser = parsed(page)
        assert "script" not in parser.tags and "a" not in parser.tags
        assert parser.links and all(link.startswith("data:image/jpeg;base64,") for link in parser.links)
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
        assert "url(" not in page and "http:" not in page and "https:" not in page
    assert "&lt;script&gt;alert(1)" in page  # the private page, the last one


def test_pages_are_written_whole_and_the_private_one_is_for_its_owner(tmp_path: Path) -> None:
    write_pages(build(tmp_path, mixed(7)), originals)
    assert stat.S_IMODE((tmp_path / "private" / "report.html").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) & 0o600 == 0o600
    left = {p.name for p in tmp_path.iterdir()} | {p.name for p in (tmp_path / "private").iterdir()} - {"lock"}
    assert left == {"data", "private", "rows", "run.json", "report.html"}


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        write_pages(build(tmp_path / name, mixed()), originals, max_images=5)
        pages.append([(tmp_path / name / p).read_bytes() for p in ("report.html", "private/report.html")])
    assert pages[0] == pages[1]
    other = report(tmp_path / "a").to_html(max_images=5, seed=1)
    assert other.encode() != pages[0][0] and other.count("<image") == 5


def test_thumbnails_are_small_and_bare() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "SECRET-EXIF"
    photo("astronaut").resize((900, 600)).save(file, "JPEG", exif=exif, comment=b"SECRET-COMMENT")
    with Image.open(file) as image:
        uri = thumbnail(image, 320)
    data = base64.b64decode(uri.partition(",")[2])
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (320, 213) and not small.getexif() and "comment" not in small.info
    assert b"SECRET" not in data


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_thumbnails_of_every_mode_leave_the_image_alone(mode: str) -> None:
    image = photo("coffee").convert(mode)
    size = image.size
    assert thumbnail(image, 64).startswith("data:image/jpeg;base64,")
    assert (image.size, image.mode) == (size, mode)


def test_worst_rows_come_first(tmp_path: Path) -> None:
    twice = json.dumps({"attempts": [{}, {}]})
    rows = [
        row(0, c.SAFE, **{c.SOURCE: "fine"}),
        row(1, c.ANONYMIZED, **{c.SOURCE: "changed", c.SSIM: 0.3}),
        row(2, c.ANONYMIZED, **{c.SOURCE: "tried twice", c.SSIM: 0.99, c.PROVENANCE: twice}),
        row(3, c.ANONYMIZED, **{c.SOURCE: "face left", c.RESIDUAL_FACES: 1}),
        row(4, c.ANONYMIZED, **{c.SOURCE: "faces and text left", c.RESIDUAL_FACES: 1, c.RESIDUAL_TEXT: 2}),
        row(5, c.ANONYMIZED, **{c.SOURCE: "barely changed", c.SSIM: 0.98, c.PROVENANCE: "no json"}),
    ]
    page = report(build(tmp_path, rows)).to_html(private=True)
    order = re.findall(r"<bdi>(.*?)</bdi>", page)
    assert order == ["faces and text left", "face left", "tried twice", "changed", "barely changed", "fine"]


def test_long_lists_say_how_many_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_page, "MOST", 2)
    page = report(build(tmp_path, mixed())).to_html(private=True)
    assert "2 of 18, worst first. 16 more are left out here." in page
    assert "2 of 3, in the order of the source. 1 more are left out here." in page
    assert page.count("<article>") == 4


def test_missing_originals_leave_placeholders(tmp_path: Path) -> None:
    def gone(source: str) -> Image.Image | None:
        if "astronaut" in source:
            raise RowError("gone", "missing")
        if "coffee" in source:
            raise RuntimeError("a decoder's own error")
        return None if "chelsea" in source else originals(source)

    build(tmp_path, mixed(7))
    page = report(tmp_path).to_html(private=True, original=gone)
    assert page.count("original not available") == 3
    assert page.count("<image") == 6 + 4 and page.count('<rect class="box"') == 3
    assert report(tmp_path).to_html(private=True).count("original not available") == 7


def test_what_was_found_is_one_line_per_category(tmp_path: Path) -> None:
    faces = [c.review_item("face", "", "detected: faces", None, 0.15 + 0.09 * i) for i in range(8)]
    lines = [c.review_item("text", f"word {i}" if i < 15 else "2.50", "detected: text", None, 1.0) for i in range(18)]
    mark = c.review_item(c.ERROR, "truncated", "the file ends early", None, 1.0)
    rows = [row(0, c.ANONYMIZED, **{c.PRIVACY_REVIEW: faces + lines}), row(1, c.WITHHELD, **{c.PRIVACY_REVIEW: [mark]})]
    build(tmp_path, rows, inspected_criteria=["faces", "text"])
    page = report(tmp_path).to_html(private=True)
    parsed(page)
    assert "<dt>face</dt><dd>8 found, scores 0.15–0.78</dd>" in page
    assert '<dt>text</dt><dd>18 found, score 1.00<div class="quiet">word 0 · word 1 · ' in page
    assert "<summary>4 more</summary>word 12 · word 13 · word 14 · 2.50 ×3</details>" in page
    assert "not judged" in page and "the file ends early" in page and "detected:" not in page


def test_tables_have_no_worst_for_how_much_was_copied() -> None:
    batch = pa.RecordBatch.from_pydict({c.SSIM: [0.25, 1.0], c.LPIPS: [0.5, 0.0], c.RESIDUAL_TEXT: [0, 3]})
    text = str(Report(**vars(summarize([batch]))))
    cells = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith("  ")}
    assert (cells[c.SSIM], cells[c.LPIPS], cells[c.RESIDUAL_TEXT]) == ("–", "–", "3")
    assert "low (less copied)" in text


def test_hostile_boxes_are_not_drawn(tmp_path: Path) -> None:
    boxes = [None, [1.0, 2.0], [math.nan, 0, 5, 5], [5, 5, 1, 1], [0, 0, 9, 9]]
    review = [c.review_item("face", "x", "y", box, 0.5) for box in boxes]
    build(tmp_path, [row(0, c.ANONYMIZED, **{c.PRIVACY_REVIEW: review})])
    page = report(tmp_path).to_html(private=True, original=originals)
    assert page.count('<rect class="box"') == 2 and 'width="0.0" height="0.0"' in page
    parsed(page)


def test_an_empty_set(tmp_path: Path) -> None:
    write_pages(build(tmp_path, []))
    assert "The source held no images" in (tmp_path / "report.html").read_text()
    made = report(tmp_path)
    assert (made.rows, made.withheld) == (0, 0) and "0 rows = 0 safe" in str(made)
    assert json.loads(made.to_json())["rows"] == 0


def test_all_withheld(tmp_path: Path) -> None:
    rows = [row(i, c.WITHHELD, **{c.REASON: reason}) for i, reason in enumerate(("residue", "OCR-SECRET-4711", None))]
    write_pages(build(tmp_path, rows), originals)
    page = words((tmp_path / "report.html").read_text())
    assert "Nothing is published: all 3 images are withheld." in page and "<image" not in page
    assert report(tmp_path).reasons == {"unrecorded": 2, "residue": 1} and "4711" not in page


def test_an_unverified_run_says_so(tmp_path: Path) -> None:
    """By its rows, whatever its setting was."""
    rows = mixed(7)
    for i, provenance in enumerate(('{"verified": false}', "{}", None, "no JSON")):
        rows[i][c.PROVENANCE] = provenance
    made = report(build(tmp_path, rows))
    assert made.unverified == json.loads(made.to_json())["unverified"] == 4
    assert "Not verified: 4 of the published images" in str(made)
    for page in (made.to_html(), made.to_html(private=True)):
        assert "<b>Unverified:</b> 4 of the published images." in page and "1 withheld; 4 not verified" in page
    proven = report(build(tmp_path / "b", mixed(7))).to_html()
    assert "Unverified" not in proven and "anonymized and inspected again" in proven


def test_settings_that_could_name_a_place_stay_home(tmp_path: Path) -> None:
    settings = {"a": "~/x", "b": "C:\\jane", "parts": [{"weights": "/srv/jane"}], "secret": "jane", "keep": ["label"]}
    settings |= {"root": "jane", "d": repr(Path("/srv/jane")), "e": "../jane", "model": "org/name-v1.5"}
    page = report(build(tmp_path, mixed(7), configuration=settings)).to_html()
    page = words(page)
    assert "jane" not in page and "~/x" not in page and page.count("(not shown)") == 7
    assert "<td>label</td>" in page and "<td>org/name-v1.5</td>" in page


def test_terminal_text_cannot_move_the_cursor(tmp_path: Path) -> None:
    text = str(report(build(tmp_path, mixed(7), skipped={"a\x1b[2J\u202eb": 1})))
    assert "\x1b" not in text and "\u202e" not in text and "a\ufffd[2J\ufffdb" in text


def test_markdown_is_escaped(tmp_path: Path) -> None:
    text = report(build(tmp_path, mixed(7), skipped={"a|b<img>": 1})).to_markdown()
    assert "a\\|b\\<img\\>" in text and "**Scores**" in text
    assert "Found before editing" not in text and "worst" not in text


def dataset(rows: list[dict[str, Any]], *names: str) -> Dataset:
    features = c.features(names)
    return Dataset.from_list([{k: r.get(k) for k in names} for r in rows], features=features)


def test_a_dataset_with_few_columns() -> None:
    rows = mixed()
    rows[4][c.NOTE] = "encode_failed: NOTE-4711"
    made = report(dataset(rows, c.STATUS, c.NOTE))
    assert (made.safe, made.anonymized, made.withheld) == (9, 9, 3)
    assert made.reasons == {"unrecorded": 2, "encode_failed": 1} and made.scores == ()
    page = made.to_html()
    assert "NOTE-4711" not in page and "<image" not in page
    assert "original not available" in made.to_html(private=True)


def test_a_dataset_that_was_only_inspected() -> None:
    made = report(dataset(mixed(), c.PRIVACY_FLAG, c.PRIVACY_REVIEW))
    assert made.statuses is None and made.withheld is None and "21 rows, not anonymized yet" in str(made)
    assert made.detections == {"face": (12, 12)}
    parsed(made.to_html())
    parsed(made.to_html(private=True))


def test_a_dataset_shows_originals_only_if_asked(tmp_path: Path) -> None:
    rows = mixed(7)
    data = dataset(rows, c.STATUS, c.REASON, c.NOTE, c.PRIVACY_REVIEW, c.ANONYMIZED_IMAGE, c.PUBLIC_CAPTION, c.SSIM)
    pictures = [{"bytes": encoded(photo(name)), "path": None} for name in NAMES]
    pictures[1] = {"bytes": b"broken", "path": None}
    data = data.add_column("image", pictures).cast_column("image", ImageFeature())
    made = report(data)
    public = made.to_html(tmp_path / "public.html")
    private = made.to_html(tmp_path / "private.html", private=True)
    assert public.count("<image") == 6 and "4711" not in words(public)
    assert private.count("<image") == 6 + 6 and private.count("original not available") == 1
    assert (tmp_path / "public.html").read_text() == public
    assert stat.S_IMODE((tmp_path / "private.html").stat().st_mode) == 0o600


def test_a_selected_dataset_keeps_row_and_picture_together() -> None:
    rows = mixed(7)
    data = dataset(rows, c.STATUS, c.ANONYMIZED_IMAGE, c.PUBLIC_CAPTION).select([6, 4, 0])
    made = report(data.with_format("numpy"))
    assert (made.rows, made.safe, made.anonymized, made.withheld) == (3, 1, 1, 1)
    shown = [r[c.PUBLIC_CAPTION] for r in made.data.published(made.data.ids())]
    assert shown == ["a calm scene, brick", "a calm scene, astronaut"]


def test_in_a_notebook_it_is_a_table(tmp_path: Path) -> None:
    made = report(build(tmp_path, mixed(7), skipped={HOSTILE: 1}))
    page = made._repr_html_()
    parsed(page)
    assert "<td>anonymized</td><td>3</td><td>42.9%</td>" in page and "<script>" not in page


def test_features_of_the_shards_are_those_of_the_library(tmp_path: Path) -> None:
    build(tmp_path, mixed(7))
    schema = pq.read_schema(tmp_path / "data" / "part-00000.parquet")
    assert Features.from_arrow_schema(schema) == c.features(c.PUBLIC)
