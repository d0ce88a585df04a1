"""Law 3, publish by allowlist: public columns alone, images encoded anew, nothing that points back."""

import hashlib
import io
import json
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from huggingface_hub import DatasetCard, constants
from PIL import Image as Pil

import u2s_datasets as u2s
from tests.helpers.fakes import Broken, picture
from tests.helpers.hostile_images import camera_jpeg
from tests.helpers.html_page import words
from tests.helpers.published_run import ABOUT, REPO, anonymized, changed, published_rows, push, scene
from tests.helpers.report_run import PRIVATE_WORDS, build, mixed, originals, write_pages
from tests.helpers.run_files import private_rows, public_rows
from tests.helpers.slow import mostly_slow
from tests.helpers.steps import RED, anonymize, stored
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import content
from u2s_datasets.images.metadata import metadata_in
from u2s_datasets.privacy.private_words import find_private_words, terms_of_item
from u2s_datasets.publish.scan import PrivateIndex, scan_text
from u2s_datasets.publish.text_check import ABSOLUTE_PATH, says_name
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
    hidden = {content.digest(images.decode(originals[name]).pixels) for name in flagged}
    for row in rows:
        stored = row["anonymized_image"]
        assert stored["path"] is None
        assert metadata_in(stored["bytes"]) == []
        assert content.digest(images.decode(stored["bytes"]).pixels) not in hidden

    everything = b"".join(files.values())
    assert not [name for name, data in originals.items() if data in everything]
    for word in (b"Maria", b"IMG2024", b"Exif\0\0", b"ns.adobe.com", str(photos200).encode()):
        assert word not in everything
    seeds = [row["anonymization_seed"] for row in private if row["anonymization_seed"] is not None]
    assert len(seeds) == len(flagged)
    assert not [seed for seed in seeds if str(seed).encode() in everything]


# Nothing hides under what leaves


def _saved(image: Pil.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _deep(shown: np.ndarray, hidden: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel: its high bytes are one picture, its low bytes another."""
    rows = np.stack([shown, hidden], axis=-1).reshape(len(shown), -1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", shown.shape[1], shown.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    packed = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _under_alpha(original: Pil.Image, mode: str) -> Pil.Image:
    covered = original.convert("RGBA")
    covered.putalpha(0)
    return covered.convert(mode)


def _with_clear_colour(original: Pil.Image, mode: str) -> bytes:
    clear = {"P": bytes(256), "L": 0, "RGB": (0, 0, 0)}[mode]
    return _saved(original.convert(mode), "png", transparency=clear)


HIDING = {
    "RGBA PNG": lambda p: _saved(_under_alpha(p, "RGBA"), "png"),
    "LA PNG": lambda p: _saved(_under_alpha(p, "LA"), "png"),
    "P with tRNS": lambda p: _with_clear_colour(p, "P"),
    "L with tRNS": lambda p: _with_clear_colour(p, "L"),
    "RGB with tRNS": lambda p: _with_clear_colour(p, "RGB"),
    "lossy WebP with ALPH": lambda p: _saved(_under_alpha(p, "RGBA"), "webp", exact=True),
    "lossless WebP": lambda p: _saved(_under_alpha(p, "RGBA"), "webp", lossless=True, exact=True),
    "animated WebP": lambda p: _saved(scene(0, red=False), "webp", save_all=True, append_images=[p]),
    "animated PNG": lambda p: _saved(scene(0, red=False), "png", save_all=True, append_images=[p]),
    "GIF": lambda p: _saved(p, "gif", transparency=0),
    "CMYK JPEG": lambda p: _saved(p.convert("CMYK"), "jpeg"),
    "low bytes of 16 bits": lambda p: _deep(np.asarray(scene(0, red=False)), np.asarray(p)),
}


@pytest.fixture(scope="module")
def mapped() -> Dataset:
    """A dataset that went through the steps: eight rows, every second of them flagged."""
    return anonymized()


@pytest.mark.parametrize("kind", HIDING)
def test_no_picture_leaves_under_another(kind, mapped, hub):
    original = images.decode(mapped.cast_column("image", Image(decode=False))[1]["image"]["bytes"]).pixels
    hidden = changed(mapped, 1, anonymized_image={"bytes": HIDING[kind](original), "path": None})
    with pytest.raises(u2s.Refused) as caught:
        push(hidden)
    assert caught.value.reasons.keys() & {"alpha", "metadata", "unreadable"}
    assert hub.requests == []


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
def test_what_a_palette_or_a_file_s_end_can_hide_is_encoded_away(mapped, hub):
    """Two hundred shades of one colour show a flat picture, and their numbers are the original."""
    shades = Pil.fromarray(np.asarray(scene(1, red=True).convert("L")) // 2)
    flat = shades.convert("P")
    flat.frombytes(shades.tobytes())
    flat.putpalette([90, 120, 60] * 256)
    stored = changed(mapped, 1, anonymized_image={"bytes": _saved(flat, "png"), "path": None})
    push(stored)
    left = [Pil.open(io.BytesIO(row["anonymized_image"]["bytes"])) for row in published_rows(hub)]
    assert {image.mode for image in left} == {"RGB"}
    assert ((90, 90), (120, 120), (60, 60)) in [image.getextrema() for image in left]


@pytest.mark.parametrize(
    "foreign",
    [
        {"note": "Margaret Hollis"},
        {"revision": "1"},
        {"editor": {"part": "Redact", "remark": "call +44 20 7946 0018"}},
        {"versions": {"14 Oak Lane": "1"}},
        {"inspected": ["m.hollis@mail.example"]},
    ],
)
def test_no_foreign_text_leaves_in_a_provenance(foreign, mapped, hub):
    facts = json.loads(mapped[1][c.PROVENANCE])
    with pytest.raises(u2s.Refused, match="provenance is not what"):
        push(changed(mapped, 1, provenance=json.dumps(facts | foreign)))
    assert hub.requests == []


def test_a_row_id_of_the_data_s_own_is_never_published(mapped, hub):
    theirs = [hashlib.md5(f"Maria_{i:02d}.jpg".encode()).hexdigest() for i in range(8)]
    beside = {c.SOURCE: ["x"] * 8, c.REASON: [None] * 8, c.SEED + "_": [1] * 8}
    given = mapped.add_column(c.ROW_ID, theirs)
    for name, values in beside.items():
        given = given.add_column(name, values)
    plan = u2s.push_to_hub(given, REPO, dry_run=True, **ABOUT)
    assert not plan.reasons and not {row[c.ROW_ID] for row in plan.sample} & set(theirs)


# What the card says


MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![seen](https://evil.example/pixel)",
    "https://evil.example/path",
    "www.evil.example",
    "x\n---\nlicense: mit\n---\n# Heading",
    "`code` **bold** | cell |",
    "right\u202eto left, \u200bhidden, \U000e0041tag",
)


def _live(card: str) -> list[str]:
    """What of the markup above is left in a card as such."""
    body = card.split("\n---\n", 2)[1]
    anywhere = ("<script", "<img", "\n# Heading", "\u202e", "\U000e0041", "\nlicense: mit")
    rendered = ("](https://evil", "https://evil", "www.evil", "**bold**")
    return [mark for mark in anywhere if mark in card] + [mark for mark in rendered if mark in body]


@pytest.mark.parametrize("text", mostly_slow(MARKUP, MARKUP[0], MARKUP[6]))
def test_no_text_of_a_user_becomes_markup_in_the_card(text, mapped):
    about = {**ABOUT, "source_dataset": text, "source_license": text, "title": text, "contact": text, "note": text}
    plan = u2s.push_to_hub(mapped, REPO, dry_run=True, **about)
    assert plan.reasons or not _live(plan.card)
    for fact in ("license", "license_link", "task_categories"):
        bad = {**ABOUT, fact: [text] if fact == "task_categories" else text}
        plan = u2s.push_to_hub(mapped, REPO, dry_run=True, **bad)
        assert plan.reasons.get("facts") or not _live(plan.card)


@pytest.mark.parametrize("name", [MARKUP[0], MARKUP[1], MARKUP[6], MARKUP[8]])
def test_no_name_of_a_class_becomes_markup_in_the_head_of_the_card(name, mapped):
    named = mapped.cast_column("label", ClassLabel(names=[name, "cup"]))
    assert (
        "holds HTML, a line break"
        in u2s.push_to_hub(named, REPO, dry_run=True, keep=["label"], **ABOUT).reasons["kept"]
    )
    fair = mapped.cast_column("label", ClassLabel(names=["5 < 6 & *", "чашка"]))
    assert not u2s.push_to_hub(fair, REPO, dry_run=True, keep=["label"], allow=["label"], **ABOUT).reasons


def test_a_long_text_takes_no_long_time(mapped):
    """The time grows with the length and no faster; what is too long for a card is refused at once."""

    def seconds(check, length: int) -> float:
        began = time.process_time()
        check("a" * length)
        check("a." * (length // 2))
        check("It is. " * (length // 7))
        return time.process_time() - began

    checks = {
        "scan": lambda text: list(scan_text("card", text, PrivateIndex())),
        "path": ABSOLUTE_PATH.search,
        "name": lambda text: says_name(text, "holiday_12.jpg") or says_name("a word", text),
        "words": lambda text: find_private_words(text, terms_of_item("Maria Gonzalez")),
    }
    for name, check in checks.items():
        short, long = (min(seconds(check, length) for _ in range(2)) for length in (4_000, 32_000))
        assert long < 24 * short + 0.05, name  # 64 times as long if it were quadratic
    plan = u2s.push_to_hub(mapped, REPO, dry_run=True, title="a" * 10**6, **ABOUT)
    assert "title has 1,000,000 characters; expected at most 200" in plan.reasons["facts"]


# What others do meanwhile


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
@pytest.mark.parametrize("when", ["/api/datasets/org/photos-safe/refs", "/api/repos/create"])
def test_a_file_that_changed_after_the_scan_is_not_uploaded(when, mapped, hub, tmp_path):
    secret = images.encode(scene(1, red=True), "png")

    def exchange(method, path):
        for file in tmp_path.rglob("*.parquet") if path == when else ():
            file.write_bytes(secret)

    push(mapped)
    hub.refuse = exchange
    target = REPO if "refs" in when else "org/new"
    with pytest.raises(u2s.HubError, match="was changed after it was searched, and was not uploaded"):
        push(mapped, work=tmp_path, repo_id=target)
    assert secret not in b"".join(hub.stored.values()) and not [r for r in hub.requests if secret in r.body]
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
@pytest.mark.parametrize("commit", [0, 1])
@pytest.mark.parametrize("private", [True, False])
def test_a_repository_that_is_opened_meanwhile_is_said_to_be_public(commit, private, mapped, hub):
    seen = []

    def opened(method, path):
        if method == "POST" and "/commit/" in path:
            seen.append(path)
            hub.repos[REPO].private = len(seen) <= commit

    hub.refuse = opened
    with pytest.raises(u2s.HubError, match="is public: somebody opened it while this push was at work"):
        push(mapped, private=private)
    assert ("README.md" in hub.files(REPO)) is bool(commit)


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
def test_a_file_that_somebody_adds_meanwhile_is_not_opened_with_it(mapped, hub):
    def added(method, path):
        repo = hub.repos.get(REPO)
        if path.endswith("/preupload/main") and repo is not None and "raw" not in repo.branches:
            repo.commit("raw", {"photos/Maria.jpg": ("regular", b"photo")}, "raw photos")

    hub.refuse = added
    with pytest.raises(u2s.HubError, match="was changed by somebody while this push was at work, and stays private"):
        push(mapped, private=False)
    assert hub.repos[REPO].private


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
class TestARepositorySaysOfItself:
    """A repository's own `u2s.json` may come from anybody."""

    def planted(self, hub, mapped, files, **split):
        """The repository of a private push, in which somebody lists these files as a config of ours."""
        push(mapped)
        repo = hub.repos[REPO]
        known = json.loads(hub.files(REPO)["u2s.json"])
        listed = [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": 1}
            for path, data in files.items()
        ]
        known["configs"]["old"] = {"train": {**known["configs"]["default"]["train"], **split, "files": listed}}
        tree = {**repo.commits[repo.branches["main"]], "u2s.json": ("regular", json.dumps(known).encode())}
        tree |= {path: ("lfs", data) for path, data in files.items()}
        repo.commit("main", tree, "more")

    @pytest.mark.parametrize("name", ["originals.zip", "old/originals.zip", "data/train.zip", "old/../x.parquet"])
    def test_a_file_that_it_lists_is_foreign_all_the_same(self, name, mapped, hub):
        self.planted(hub, mapped, {name: b"PK\3\4 originals"})
        for private in (True, False):
            with pytest.raises(u2s.Refused, match="foreign_files: 1 files"):
                push(mapped, private=private)
        assert hub.repos[REPO].private

    def test_before_it_is_opened_its_other_configs_are_read_back(self, mapped, hub):
        other = images.encode(scene(3, red=False), "jpeg")
        row = {name: [value] for name, value in published_rows_of(mapped).items()}
        good = to_parquet(row)
        gps = camera_jpeg(scene(3, red=False))
        bad = to_parquet({**row, "anonymized_image": [{"bytes": gps, "path": None}]})
        raw = to_parquet({**row, "photo": [{"bytes": other, "path": None}]})
        for data in (bad, raw, b"PAR1 no table PAR1"):
            hub.repos.clear()
            self.planted(hub, mapped, {"old/train-00000-of-00001.parquet": data})
            with pytest.raises(u2s.Refused, match=r"foreign_files: old/train-00000-of-00001\.parquet"):
                push(mapped, private=False)
            assert hub.repos[REPO].private
        hub.repos.clear()
        self.planted(hub, mapped, {"old/train-00000-of-00001.parquet": good})
        assert not push(mapped, private=False).private
        configs = DatasetCard(hub.files(REPO)["README.md"].decode()).data["configs"]
        assert [one["config_name"] for one in configs] == ["default", "old"]

    def test_its_words_are_escaped_and_what_is_not_there_is_not_listed(self, mapped, hub):
        row = to_parquet({name: [value] for name, value in published_rows_of(mapped).items()})
        words = {"tables": [[text, [text], [[text]]] for text in MARKUP], "kept_emptied": dict.fromkeys(MARKUP, 1)}
        known = {"profile": MARKUP[0], "inspected": MARKUP, "not_inspected": MARKUP, "code": MARKUP[0], "prompts": None}
        how = {**known, "verified": True, "parts": [], "versions": dict.fromkeys(MARKUP, MARKUP[0])}
        self.planted(hub, mapped, {"old/train-00000-of-00001.parquet": row}, how=how, metrics=MARKUP[0], **words)
        push(mapped)
        card = hub.files(REPO)["README.md"].decode()
        assert "&lt;script&gt;" in card and not _live(card)
        repo = hub.repos[REPO]
        tree = dict(repo.commits[repo.branches["main"]])
        del tree["old/train-00000-of-00001.parquet"]
        repo.commit("main", tree, "less")
        push(mapped)
        assert "old" not in hub.files(REPO)["README.md"].decode().split("---")[1]

    @pytest.mark.parametrize("damage", ["[" * 100_000, "null", "7", '{"configs": 7}', "no json", "changelog"])
    def test_a_damaged_one_stops_the_push_in_one_line(self, damage, mapped, hub):
        push(mapped)
        repo = hub.repos[REPO]
        known = json.loads(hub.files(REPO)["u2s.json"])
        text = json.dumps({**known, "changelog": [7]}) if damage == "changelog" else damage
        tree = {**repo.commits[repo.branches["main"]], "u2s.json": ("regular", text.encode())}
        repo.commit("main", tree, "oops")
        with pytest.raises(u2s.HubError, match=r"u2s\.json in org/photos-safe is damaged"):
            push(mapped)


def published_rows_of(mapped: Dataset) -> dict:
    """A row as a push of ours writes it."""
    plain = mapped.cast_column("anonymized_image", Image(decode=False))[0]
    row = {name: plain[name] for name in c.PUBLIC if name in plain}
    return {**row, c.ROW_ID: "0123456789abcdef" * 2, "anonymized_image": {**row["anonymized_image"], "path": None}}


def to_parquet(columns: dict) -> bytes:
    out = io.BytesIO()
    types = Dataset.from_dict(columns).features
    types |= {name: Image(decode=False) for name in ("anonymized_image", "photo") if name in columns}
    Dataset.from_dict(columns, features=Features(types)).to_parquet(out)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
def test_a_push_says_to_which_host(mapped, hub, capsys, monkeypatch):
    plan = u2s.push_to_hub(mapped, REPO, dry_run=True, **ABOUT)
    assert plan.host == hub.url and f"to {hub.url}" in str(plan)
    made = push(mapped, progress=True)
    assert made.host == hub.url and f"go to {hub.url} as the dataset {REPO}" in capsys.readouterr().err
    monkeypatch.setattr(constants, "ENDPOINT", "https://ada:password@mirror.example")
    plan = u2s.push_to_hub(mapped, REPO, dry_run=True, **ABOUT)
    assert plan.host == "https://mirror.example" and "password" not in str(plan)
