"""Law 3, publish by allowlist: public columns alone, images encoded anew, nothing that points back."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image

import u2s_datasets as u2s
from tests.helpers.fakes import Broken, picture
from tests.helpers.html_page import words
from tests.helpers.published_run import REPO, published_rows, push
from tests.helpers.report_run import PRIVATE_WORDS, build, mixed, originals, write_pages
from tests.helpers.run_files import private_rows, public_rows
from tests.helpers.steps import RED, anonymize, stored
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import same
from u2s_datasets.images.metadata import metadata_in
from u2s_datasets.runs.identity import row_id


def test_nothing_published_points_back(demo, photos):
    originals = {p.read_bytes() for p in photos.rglob("*") if p.is_file()}
    secret = (demo / "private/secret").read_bytes()
    names = [p.name.encode() for p in photos.rglob("*.*")]
    for path in [*(demo / "data").iterdir(), demo / "report.html", demo / "run.json"]:
        data = path.read_bytes()
        assert not [n for n in [*names, str(photos).encode(), secret.strip(), b"Demo Camera"] if n in data]
    for row in public_rows(demo):
        stored = row[c.ANONYMIZED_IMAGE]
        assert stored["path"] is None
        assert images.metadata_in(stored["bytes"]) == []
        assert stored["bytes"] not in originals
        assert set(row) == {*c.PUBLIC, "label"}
    assert images.decode(public_rows(demo)[0][c.ANONYMIZED_IMAGE]).pixels.size


def test_row_ids_are_keyed_and_public_rows_are_ordered_by_them(demo):
    key = (demo / "private/secret").read_bytes().strip()
    for row in private_rows(demo):
        assert row[c.ROW_ID] == row_id(key, row[c.SOURCE])
        assert row[c.ROW_ID] != row_id(b"another secret key", row[c.SOURCE])
    for file in (demo / "data").iterdir():
        ids = pq.read_table(file)[c.ROW_ID].to_pylist()
        assert ids == sorted(ids)


def test_the_published_file_has_no_metadata_and_the_same_size(photos):
    batch = {"image": [str(photos / "people/astronaut.jpg")]}
    before = images.metadata_in((photos / "people/astronaut.jpg").read_bytes())
    assert "EXIF" in before
    answer = u2s.anonymize(batch)
    stored = answer[c.ANONYMIZED_IMAGE][0]
    assert stored.size == (512, 512)
    assert stored.format == "JPEG"
    assert images.metadata_in(stored._data) == []


def test_public_texts_hold_nothing_that_was_read(photos):
    batch = {"image": [str(photos / "papers/page.jpg")]}
    answer = u2s.anonymize(batch)
    read = " ".join(item["item"] for item in answer[c.PRIVACY_REVIEW][0])
    assert "segmentation" in answer[c.PRIVATE_CAPTION][0].lower()
    words = {w.lower() for w in read.split() if len(w) > 3} - {"photo", "with", "text", "this"}
    public = " ".join(answer[name][0] for name in (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION)).lower()
    assert words
    assert not [w for w in words if w in public.split()]


def test_words_of_a_review_stay_out_of_public_texts():
    review = [[c.review_item("Dr. Alice Smith, red car", "", "", (50, 30, 80, 60), 0.9)]]
    batch = {"image": [picture()], c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [0.9], c.PRIVACY_REVIEW: review}
    answer = u2s.Anonymize(inspect=RED)(batch)
    public = " ".join(str(answer[name][0]) for name in (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION))
    assert "Alice" not in public and "one region" in public


def test_provenance_names_no_path_and_no_key():
    editor = Broken("/home/alice/weights.safetensors")
    answer = anonymize([picture(red=True)], editor=editor, verify=False)
    assert "alice" not in answer[c.PROVENANCE][0]
    assert json.loads(anonymize([picture(red=True)])[c.PROVENANCE][0])["editor"]["method"] == "inpaint"


def test_a_path_backed_source_is_never_stored_as_a_path(tmp_path):
    path = tmp_path / "zoe.png"
    picture(red=True).save(path)
    ds = Dataset.from_dict({"image": [str(path)]}).cast_column("image", Image())
    ds = ds.map(u2s.Anonymize(inspect=RED, format="png"), batched=True)
    (value,) = stored(ds, c.ANONYMIZED_IMAGE)
    assert value["path"] is None
    assert hashlib.sha256(value["bytes"]).digest() != hashlib.sha256(path.read_bytes()).digest()


def test_the_public_page_holds_nothing_private(tmp_path: Path) -> None:
    rows = mixed()
    write_pages(build(tmp_path, rows), originals)
    page = words((tmp_path / "report.html").read_text())
    private = words((tmp_path / "private" / "report.html").read_text())
    home = [r[c.ROW_ID] for r in rows if r[c.STATUS] == c.WITHHELD]
    for word in (*PRIVATE_WORDS[:-1], *home):
        assert word in private and word not in page
    for word in (PRIVATE_WORDS[-1], "918273", "0.1234", "jane", "/home", "77.125", str(tmp_path)):
        assert word not in page
    assert "77.125" not in private and str(tmp_path) not in private
    for shown in (
        "21 rows = 9 + 9 + 3",
        "licence plates",
        "printed text",
        "text file (.txt)",
        c.REASON_CODES["residue"],
    ):
        assert shown in page
    for r in rows:
        if r[c.SSIM] not in (None, 1.0):
            assert f"{r[c.SSIM]:.4g}" in private and f"{r[c.SSIM]:.3g}" not in page


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
def test_200_photos_leave_without_an_original_a_flagged_pixel_or_metadata(photos200, hub):
    push(photos200 / "safe", max_shard_size="400KB")
    files = hub.files(REPO)
    shards = sorted(path for path in files if path.endswith(".parquet"))
    assert shards == [f"data/train-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]
    assert len(shards) > 2
    assert {*files} - {*shards} == {"README.md", "u2s.json", ".gitattributes"}

    rows = published_rows(hub)
    assert len(rows) == 200
    assert [row["row_id"] for row in rows] == sorted(row["row_id"] for row in rows)
    assert {*rows[0]} == {*c.PUBLIC, "label"}

    originals = {path.name: path.read_bytes() for path in (photos200 / "photos").rglob("*.jpg")}
    private = pq.read_table(photos200 / "safe/private/rows").to_pylist()
    flagged = [Path(row["source"]).name for row in private if row["privacy_flag"]]
    assert len(flagged) >= 20
    hidden = {same.digest(images.decode(originals[name]).pixels) for name in flagged}
    for row in rows:
        stored = row["anonymized_image"]
        assert stored["path"] is None
        assert metadata_in(stored["bytes"]) == []
        assert same.digest(images.decode(stored["bytes"]).pixels) not in hidden

    everything = b"".join(files.values())
    assert not [name for name, data in originals.items() if data in everything]
    for word in (b"Maria", b"IMG2024", b"Exif\0\0", b"ns.adobe.com", str(photos200).encode()):
        assert word not in everything
    seeds = [row["anonymization_seed"] for row in private if row["anonymization_seed"] is not None]
    assert len(seeds) == len(flagged)
    assert not [seed for seed in seeds if str(seed).encode() in everything]
