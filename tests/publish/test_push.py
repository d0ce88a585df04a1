"""Publishing through the real client to a Hub on loopback, read back as a stranger would."""

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from huggingface_hub import DatasetCard, constants

import u2s_datasets as u2s
from tests.helpers.fake_hub import TOKEN
from tests.helpers.fakes import picture
from tests.helpers.published_run import (
    ABOUT,
    ANONYMIZE,
    FEATURES,
    REPO,
    anonymized,
    changed,
    memory,
    published_rows,
    push,
    source_rows,
    write_phone_photos,
)
from tests.helpers.slow import mostly_slow
from u2s_datasets import columns, images
from u2s_datasets.cli.main import main
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import decide
from u2s_datasets.runs.writer import Output

# The client's own way to send large files without Xet.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="session")
def data():
    return anonymized()


def environment(hub, tmp_path):
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **own, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def as_a_stranger(hub, tmp_path, program):
    """What a program prints in a process that has only `datasets`."""
    call = [sys.executable, "-W", "error", "-c", f"import json\nfrom datasets import load_dataset\n{program}"]
    done = subprocess.run(call, env=environment(hub, tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What leaves


def test_files_are_as_the_viewer_likes_them(photos200, hub):
    push(photos200 / "safe")
    with pq.ParquetFile(memory(hub.files(REPO)["data/train-00000-of-00001.parquet"])) as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [100, 100]
        group = file.metadata.row_group(0)
        column = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert all(one.has_offset_index for one in column.values())
        assert column["anonymized_image.bytes"].compression == "UNCOMPRESSED"
        assert {*file.metadata.metadata} == {b"huggingface", b"ARROW:schema"}


def test_a_stranger_loads_images_labels_and_splits_with_no_code_of_ours(photos200, hub, tmp_path):
    made = push(photos200 / "safe", tag="v1", split="test")
    assert made.private and hub.repos[REPO].private
    answer = as_a_stranger(
        hub,
        tmp_path,
        f"d = load_dataset({REPO!r}, revision='v1')\nt = d['test']\nr = t[0]\n"
        "print(json.dumps([list(d), t.features['label'].names, t.num_rows, r['anonymized_image'].size, "
        "sorted(set(t['label'])), t.info.splits['test'].num_examples]))",
    )
    assert answer == [["test"], ["indoors", "outdoors"], 200, [160, 160], [0, 1], 200]


def test_labels_and_boxes_arrive_with_their_features(data, hub, tmp_path):
    splits = DatasetDict({"train": data.select(range(6)), "test": data.select([6, 7])})
    push(splits, keep=["label", "objects", "caption"], allow=["caption"])
    answer = as_a_stranger(
        hub,
        tmp_path,
        f"d = load_dataset({REPO!r})\nf = d['train'].features\n"
        "print(json.dumps([{k: len(v) for k, v in d.items()}, repr(f['objects']), repr(f['label']), "
        "sorted(d['train'][0]['objects'].items()), sorted(d['test']['caption'])]))",
    )
    assert answer[0] == {"train": 6, "test": 2}
    assert answer[1:3] == [repr(FEATURES["objects"]), repr(FEATURES["label"])]
    assert answer[3][0] == ["bbox", [[1.5, 2.0, 30.0, 40.0]]]
    assert answer[4] == ["a cup on a table"] * 2


def test_variants_are_configs_and_an_other_one_may_come_later(data, hub, tmp_path):
    push({"solid": data, "half": data.select(range(4))}, secret=key(tmp_path))
    push(data.select(range(2)), config_name="small", note="a small one")
    card = DatasetCard(hub.files(REPO)["README.md"].decode())
    assert [c["config_name"] for c in card.data["configs"]] == ["solid", "half", "small"]
    assert "a small one" in card.text and card.text.count("\n- 2") == 2
    answer = as_a_stranger(
        hub,
        tmp_path,
        f"print(json.dumps([load_dataset({REPO!r}, n)['train'].num_rows for n in ('solid', 'half', 'small')]))",
    )
    assert answer == [8, 4, 2]
    ids = {
        name: {row["row_id"] for row in pq.read_table(memory(data)).to_pylist()}
        for name, data in hub.files(REPO).items()
        if name.endswith(".parquet")
    }
    solid, half = (ids[f"{name}/train-00000-of-00001.parquet"] for name in ("solid", "half"))
    assert half < solid  # the rows of two variants belong together


def test_two_splits_share_no_row_id(data, hub, tmp_path):
    push(DatasetDict({"train": data, "test": data}), secret=key(tmp_path))
    ids = [row["row_id"] for row in published_rows(hub)]
    assert len(set(ids)) == len(ids) == 16


def key(tmp_path):
    path = tmp_path / "key"
    path.write_text("a key of the row ids, long enough")
    return path


def test_a_stream_is_published_as_the_dataset_is(data, hub, tmp_path):
    push(data, keep=["label"], secret=key(tmp_path))
    first = hub.files(REPO)["data/train-00000-of-00001.parquet"]
    push(data.to_iterable_dataset(), keep=["label"], secret=key(tmp_path), repo_id="org/stream")
    assert hub.files("org/stream")["data/train-00000-of-00001.parquet"] == first


def test_without_a_key_row_ids_are_new_every_time(data, hub):
    push(data)
    first = {row["row_id"] for row in published_rows(hub)}
    push(data, repo_id="org/again")
    assert not first & {row["row_id"] for row in published_rows(hub, "org/again")}


def test_a_source_s_own_ids_do_not_leave_whatever_stands_beside_them(data, hub, tmp_path):
    theirs = [hashlib.md5(f"Maria_{i:02d}.jpg".encode()).hexdigest() for i in range(8)]
    given = data.add_column("row_id", theirs)
    push(given, secret=key(tmp_path))
    ids = {row["row_id"] for row in published_rows(hub)}
    assert len(ids) == 8 and not ids & set(theirs)
    push(given.select([5, 2]), secret=key(tmp_path), repo_id="org/part")
    assert {row["row_id"] for row in published_rows(hub, "org/part")} < ids  # an id goes with its row

    like_a_run = given.add_column("source", ["x"] * 8).add_column("reason_code", [None] * 8)
    push(like_a_run, repo_id="org/run")  # columns of these names prove nothing
    assert not {row["row_id"] for row in published_rows(hub, "org/run")} & set(theirs)


# What is stopped


GPS = source_rows(1)[0]["image"]["bytes"]


def encoded(data, row=1):
    return data.cast_column("anonymized_image", Image(decode=False))[row]["anonymized_image"]["bytes"]


def original(data, row=1):
    return data.cast_column("image", Image(decode=False))[row]["image"]["bytes"]


POISONS = {
    "metadata": lambda d: changed(d, 0, anonymized_image={"bytes": GPS, "path": None}),
    "text": lambda d: changed(
        d,
        1,
        private_caption="Maria Gonzalez opens her letter",
        public_caption="A kitchen. Maria Gonzalez opens her letter, smiling.",
    ),
    "file_name": lambda d: changed(d, 0, anonymized_image={"bytes": encoded(d, 0), "path": "Maria_00.jpg"}),
    "original": lambda d: changed(d, 1, anonymized_image={"bytes": original(d), "path": "/home/maria/Maria_01.png"}),
    "withheld": lambda d: changed(d, 1, anonymization_status="withheld"),
    "status": lambda d: changed(d, 1, anonymization_status="good enough"),
    "unreadable": lambda d: changed(d, 1, anonymized_image={"bytes": b"no image", "path": None}),
    "row_id": lambda d: d.add_column("row_id", ["0" * 32] * len(d)),
    "untouched": lambda d: changed(d, 1, anonymized_image={"bytes": almost(original(d)), "path": None}),
    "unverified": lambda d: changed(d, 1, provenance=None),
    "originals": lambda d: d.remove_columns("image"),
    "empty": lambda d: d.select([]),
}


def almost(data):
    """The original compressed anew: other bytes and pixels, the same picture."""
    return images.encode(images.decode(data).pixels, "jpeg")


@pytest.mark.parametrize("code", POISONS)
def test_a_poisoned_dataset_is_stopped_and_nothing_reaches_the_hub(code, data, hub):
    with pytest.raises(u2s.Refused) as caught:
        push(POISONS[code](data))
    assert code in caught.value.reasons
    assert hub.requests == []


@pytest.mark.parametrize("stored", mostly_slow(["image", "bytes"], "bytes"))
@pytest.mark.parametrize("source", mostly_slow(["first", "last"], "last"))
def test_an_original_is_found_whichever_column_it_came_from(source, stored, data, hub):
    """Of two image columns nothing says which one was anonymized."""
    photos = [original(data, i) for i in range(8)]
    covers = [images.encode(picture((64, 48)), "png")] * 8
    rest = data.remove_columns(["image", "anonymized_image"])
    columns_ = [("a", photos), ("b", covers)] if source == "first" else [("a", covers), ("b", photos)]
    feature = Image() if stored == "image" else Value("binary")
    for name, values in columns_:
        if name == "a" or stored == "image":
            values = [{"bytes": value, "path": None} for value in values]
        rest = rest.add_column(name, values).cast_column(name, Image() if name == "a" else feature)
    untouched = [{"bytes": images.encode(images.decode(photo).pixels, "png"), "path": None} for photo in photos]
    for column, code in ((untouched, "original"), ([{"bytes": almost(p), "path": None} for p in photos], "untouched")):
        bad = rest.add_column("anonymized_image", column).cast_column("anonymized_image", Image())
        with pytest.raises(u2s.Refused) as caught:
            push(bad)
        assert code in caught.value.reasons
    good = [{"bytes": encoded(data, i), "path": None} for i in range(8)]
    push(rest.add_column("anonymized_image", good).cast_column("anonymized_image", Image()))


RUN_POISONS = {
    "metadata": {"anonymized_image": {"bytes": GPS, "path": None}},
    "file_name": {"anonymized_image": {"bytes": GPS, "path": "Maria_Gonzalez_IMG20240001.jpg"}},
    "text": {"public_caption": "This is Maria Gonzalez IMG20240001 in her kitchen."},
    "withheld": {"anonymization_status": "withheld"},
    "column": {"path": "/home/maria/Maria_Gonzalez_IMG20240001.jpg"},
}


@pytest.fixture(scope="session")
def small_run(photos200, tmp_path_factory):
    """A run of nine of the photos."""
    folder = tmp_path_factory.mktemp("small")
    write_phone_photos(folder / "photos", 9)
    u2s.run(folder / "photos", folder / "safe", detectors=["faces"], keep=["label"], num_proc=1)
    return folder / "safe"


@pytest.mark.parametrize("code", RUN_POISONS)
def test_a_poisoned_run_is_stopped_and_nothing_reaches_the_hub(code, small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    poison(folder, **RUN_POISONS[code])
    with pytest.raises(u2s.Refused) as caught:
        push(folder)
    assert code in caught.value.reasons
    assert "changed" in caught.value.reasons  # the manifest knows every file's digest
    assert hub.requests == []


def test_a_folder_that_is_being_written_is_left_alone(small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    with Output(folder), pytest.raises(u2s.SetupError, match="a run is writing into"):
        push(folder)
    push(folder)


def test_rows_that_nobody_ran_and_rows_that_are_gone_are_noticed(small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    poison(folder, row_id="f" * 32)
    with pytest.raises(u2s.Refused) as caught:
        push(folder)
    assert {"withheld", "changed"} <= set(caught.value.reasons)
    table = pq.read_table(folder / "data/part-00000.parquet")
    pq.write_table(table.slice(2), folder / "data/part-00000.parquet")
    with pytest.raises(u2s.Refused) as caught:
        push(folder)
    assert {"counts", "changed"} <= set(caught.value.reasons)
    assert hub.requests == []


@pytest.mark.parametrize("how", ["rewritten", "gone"])
def test_a_private_half_that_is_not_the_run_s_is_noticed(how, small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    path = folder / "private/rows/part-00000.parquet"
    rows = pq.read_table(path)
    if how == "rewritten":  # with nothing flagged and nothing said, nothing would be looked for
        pq.write_table(rows.set_column(rows.column_names.index("privacy_flag"), "privacy_flag", [[False] * 9]), path)
    else:
        path.unlink()
    with pytest.raises(u2s.Refused) as caught:
        push(folder)
    assert "private/rows/part-00000.parquet was changed" in caught.value.reasons["changed"]
    assert "run the same `u2s anonymize` again" in caught.value.reasons["changed"]
    assert hub.requests == []


def test_rows_that_a_review_rewrote_are_the_run_s(small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    flagged = [row for row in pq.read_table(folder / "data").to_pylist() if row["privacy_flag"]]
    # Two flagged photos have the same generic caption: the one that stays home does not stop the other.
    captions = [row["public_caption"] for row in flagged]
    twice = next(row for row in flagged if captions.count(row["public_caption"]) > 1)
    decide(folder, {twice["row_id"]: "reject"}, by="ada")
    u2s.apply_reviews(folder)
    push(folder)
    assert len(published_rows(hub)) == 8


def copied(run, tmp_path):
    import shutil

    return Path(shutil.copytree(run, tmp_path / "safe"))


def poison(folder, **values):
    """Put values into one public row of a run, as somebody would who writes into its folder."""
    import pyarrow as pa

    path = folder / "data/part-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    names = [*table.column_names, *(name for name in values if name not in table.column_names)]
    rows = [{**row, **(values if i == 1 else {})} for i, row in enumerate(rows)]
    types = {field.name: field.type for field in table.schema}
    arrays = [pa.array([row.get(n) for row in rows], type=types.get(n, pa.string())) for n in names]
    pq.write_table(pa.table(arrays, names=names), path)


def test_every_reason_is_listed_at_once(data, hub):
    bad = changed(data, 0, anonymized_image={"bytes": GPS, "path": "Maria_00.jpg"})
    bad = changed(bad, 2, public_caption="Write to maria@example.org.")
    with pytest.raises(u2s.Refused) as caught:
        u2s.push_to_hub(bad, REPO, max_leak_rate=0.01, quality={"vlm_score": 60}, keep=["caption"])
    assert {"facts", "metadata", "file_name", "text", "audit", "quality"} <= set(caught.value.reasons)
    message = str(caught.value)
    assert all(option in message for option in ("--license", "--source-dataset", "--source-license", "allow 'audit'"))
    assert "Maria" not in message  # the reasons may stand in anybody's log
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user_id", [f"u{i}" for i in range(8)]),
        ("score", [7_000_001 + i for i in range(8)]),
        ("remark", [f"2024-05-0{i + 1}" for i in range(8)]),
        ("place", [[48.85837 + i, 2.29448] for i in range(8)]),
        ("when", [1_700_000_000.0 + i for i in range(8)]),
    ],
)
def test_columns_that_look_like_identifiers_dates_or_coordinates_are_stopped(name, values, data, hub):
    more = data.add_column(name, values)
    if name == "remark":
        push(more, keep=[name], allow=[name])  # a text that leaks is emptied, the row goes on
        assert {row[name] for row in published_rows(hub)} == {None}
        return
    with pytest.raises(u2s.Refused) as caught:
        push(more, keep=[name])
    assert set(caught.value.reasons) == {"kept"}
    assert hub.requests == []
    if name == "score":
        push(more, keep=[name], allow=[name])
        assert "`score` looks identifying and was let through" in hub.files(REPO)["README.md"].decode()


def test_columns_that_nobody_named_stay_home(data, hub):
    named = data.add_column("path", ["/home/maria/Maria_01.jpg"] * 8)
    with pytest.raises(u2s.Refused, match="keep='path' may identify"):
        push(named, keep=["path"])
    assert hub.requests == []
    push(data.add_column("path", ["/home/maria/Maria_01.jpg"] * 8))
    assert {*published_rows(hub)[0]} == set(columns.PUBLIC)
    assert b"maria" not in b"".join(hub.files(REPO).values()).lower()


def test_reviews_asked_for_and_not_given_stop_it_and_rejected_rows_stay_home(small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    ids = [row["row_id"] for row in pq.read_table(folder / "data").to_pylist()]
    decide(folder, {ids[0]: "pending", ids[1]: "reject"}, by="ada")
    with pytest.raises(u2s.Refused, match="unresolved: a review was asked for and not given"):
        push(folder)
    assert hub.requests == []
    decide(folder, {ids[0]: "approve"}, by="ada")
    push(folder)
    assert {row["row_id"] for row in published_rows(hub)} == {*ids} - {ids[1]}
    assert "| rejected | 1 | a reviewer rejected the result |" in hub.files(REPO)["README.md"].decode()


def test_an_exception_is_named_and_the_card_says_so(data, hub):
    unverified = POISONS["unverified"](data)
    with pytest.raises(u2s.Refused, match="unverified"):
        push(unverified)
    push(unverified, allow=["unverified"])
    card = hub.files(REPO)["README.md"].decode()
    assert "not inspected again (1 times)" in card and "some of them were **not** inspected again" in card
    with pytest.raises(u2s.SetupError, match="unknown exception allow='withheld'"):
        push(data, allow=["withheld"])


def test_rows_below_the_quality_gate_stay_home(data, hub):
    scored = data.add_column("ssim", [0.1 * i for i in range(8)])
    push(scored, quality={"ssim": 0.4})
    statuses = [row["anonymization_status"] for row in published_rows(hub)]
    assert statuses.count("safe") == 4 and statuses.count("anonymized") == 2  # those of 0.1 and 0.3
    assert "2 did not pass the quality gate (ssim at most 0.4)" in hub.files(REPO)["README.md"].decode()


def test_rows_whose_score_is_no_number_stay_home(data, hub):
    nan = float("nan")
    push(data.add_column("ssim", [nan, nan, nan, 0.3] + [0.2] * 4), quality={"ssim": 0.4}, keep=["ssim"])
    assert [row["ssim"] for row in published_rows(hub) if row["anonymization_status"] == "anonymized"].count(None) == 0
    assert "1 did not pass the quality gate (ssim at most 0.4)" in hub.files(REPO)["README.md"].decode()
    with pytest.raises(u2s.Refused, match="quality: ssim was measured on no row"):
        push(data.add_column("ssim", [nan] * 8), quality={"ssim": 0.4})


def test_a_score_that_the_user_keeps_is_rounded(data, small_run, hub):
    push(data.add_column("ssim", [0.123456 * i for i in range(8)]), keep=["ssim"])
    assert sorted(row["ssim"] for row in published_rows(hub)) == [0.0, 0.12, 0.25, 0.37, 0.49, 0.62, 0.74, 0.86]
    assert "| ssim | float64 | likeness of the pixels" in hub.files(REPO)["README.md"].decode()
    push(small_run, repo_id="org/run", keep=["label", "residual_faces"])
    assert {row["residual_faces"] for row in published_rows(hub, "org/run")} == {0.0}


def test_an_audit_that_was_asked_for_must_be_there_and_tight(small_run, hub, tmp_path):
    folder = copied(small_run, tmp_path)
    with pytest.raises(u2s.Refused, match=r"audit: an audit with a bound of 30\.00% or less was asked for and is miss"):
        push(folder, max_leak_rate=0.3)
    decide(folder, dict.fromkeys(audit.draw(folder, 9, seed=5, by="ada"), "approve"), by="ada")
    audit.finish(folder, "M. Curator")
    with pytest.raises(u2s.Refused, match=r"audit: the audit's bound is 28\.31%, above 20\.00%"):
        push(folder, max_leak_rate=0.2)
    push(folder, max_leak_rate=0.3)
    card = hub.files(REPO)["README.md"].decode()
    assert "at most 28.31% of the images leak" in card and "Curator" not in card


def test_a_repository_with_files_that_nobody_inspected_is_left_alone(data, hub):
    push(data, repo_id="org/other")
    repo = hub.repos[REPO] = hub.repos.pop("org/other")
    repo.commit("main", {"data/train-00000-of-00001.parquet": ("lfs", GPS)}, "raw photos")
    before = len(hub.requests)
    with pytest.raises(u2s.Refused, match="foreign_files: 1 files"):
        push(data)
    assert [r for r in hub.requests[before:] if r.method != "GET"] == []
    push(data, allow=["foreign_files"])
    assert "held files that this program did not write (1 times)" in hub.files(REPO)["README.md"].decode()


def test_before_it_is_opened_every_branch_is_looked_at(data, hub):
    push(data)
    hub.repos[REPO].commit("raw", {"photos/Maria.jpg": ("regular", GPS)}, "raw photos")
    push(data)
    with pytest.raises(u2s.Refused, match="foreign_files: 1 files"):
        push(data, private=False)
    assert hub.repos[REPO].private


def test_facts_that_somebody_damaged_are_not_built_upon(data, hub):
    push(data)
    hub.repos[REPO].commit("main", {"u2s.json": ("regular", b'{"configs": {"default": []}}')}, "oops")
    with pytest.raises(u2s.HubError, match=r"u2s\.json in org/photos-safe is damaged"):
        push(data)


@pytest.mark.slow
def test_a_set_larger_than_memory_is_spooled_and_comes_out_the_same(photos200, hub, monkeypatch):
    from u2s_datasets.publish import build

    configs = {"one": photos200 / "safe", "two": photos200 / "safe"}
    push(configs)
    monkeypatch.setattr(build, "_SPOOLED", 100_000)
    push(configs, repo_id="org/spooled")
    name = "two/train-00000-of-00001.parquet"
    assert hub.files("org/spooled")[name] == hub.files(REPO)[name]
    assert len(published_rows(hub, "org/spooled")) == 400


# The upload


@pytest.mark.slow
def test_a_cut_upload_goes_on_where_it_left_off(photos200, hub, tmp_path):
    program = (
        "import sys, u2s_datasets as u2s\n"
        f"u2s.push_to_hub(sys.argv[1], {REPO!r}, max_shard_size='400KB', **{ABOUT!r})\n"
    )
    env = {**environment(hub, tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-c", program, str(photos200 / "safe")]
    process = subprocess.Popen(call, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def cut(number):
        if number == 2:
            process.kill()
        return number < 2

    hub.before_put = cut
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert {*hub.files(REPO)} == {".gitattributes"}
    sent = set(hub.stored)
    assert len(sent) == 2

    hub.before_put = lambda number: True
    before = len(hub.requests)
    push(photos200 / "safe", max_shard_size="400KB")
    again = [r.path for r in hub.requests[before:] if r.method == "PUT" and r.path.startswith("/lfs/")]
    assert again and not {path.removeprefix("/lfs/") for path in again} & sent
    assert len(published_rows(hub)) == 200
    assert "README.md" in hub.files(REPO)


def test_the_card_comes_last_and_only_after_the_files_were_compared(data, hub):
    push(data)
    assert hub.repos[REPO].messages == ["initial commit", "Data, made with u2s_datasets", "Card"]
    order = [(r.method, r.path.split("/")[4:][1:] or r.path) for r in hub.requests]
    commits = [i for i, r in enumerate(hub.requests) if r.method == "POST" and "/commit/" in r.path]
    trees = [i for i, r in enumerate(hub.requests) if r.method == "GET" and "/tree/" in r.path]
    assert commits[0] < min(i for i in trees if i > commits[0]) < commits[1] < max(trees), order


def test_what_the_hub_holds_must_be_what_was_checked(data, hub):
    def tampered(method, path):
        if method == "POST" and "/commit/" in path:
            hub.stored.update(dict.fromkeys(hub.stored, b"something else"))

    hub.refuse = tampered
    with pytest.raises(u2s.HubError, match="does not hold what was checked here"):
        push(data, private=False)
    assert "README.md" not in hub.files(REPO)
    assert hub.repos[REPO].private


REFUSALS = {
    401: "hf auth login",
    403: "write access to this repository's owner",
    404: "check ORG/NAME and the token",
    409: "run the same again",
    500: "the Hub failed on its side",
}


@pytest.mark.parametrize(
    ("where", "status"),
    [("/api/repos/create", 401), ("/api/repos/create", 500)]
    + [("/api/datasets/org/photos-safe/commit/main", status) for status in REFUSALS],
)
def test_refusals_say_what_to_do_and_never_the_token(where, status, data, hub, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    hub.refuse = lambda method, path: status if path == where else None
    with pytest.raises(u2s.HubError) as caught:
        push(data, token=TOKEN)
    assert caught.value.status == status
    assert REFUSALS[status] in str(caught.value)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in told and TOKEN not in repr(caught.value)


def test_a_file_that_is_refused_says_what_to_do(data, hub):
    hub.refuse = lambda method, path: 403 if path.startswith("/lfs/") else None
    with pytest.raises(u2s.HubError, match="uploading failed with 403: the token may not write there") as caught:
        push(data)
    assert caught.value.status == 403
    assert {*hub.files(REPO)} == {".gitattributes"}


def test_an_unknown_token_and_an_absent_hub_are_told_apart(data, hub, monkeypatch):
    with pytest.raises(u2s.HubError, match="does not know this token") as caught:
        push(data, token="hf_wrong")
    assert caught.value.status == 401 and "hf_wrong" not in str(caught.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(u2s.HubError, match="could not be reached") as caught:
        push(data)
    assert caught.value.status is None


def test_a_new_version_replaces_the_files_and_the_changelog_grows(photos200, small_run, hub):
    push(photos200 / "safe", max_shard_size="400KB", tag="v1")
    push(small_run, tag="v2", note="fewer photos")
    assert {p for p in hub.files(REPO) if p.endswith(".parquet")} == {"data/train-00000-of-00001.parquet"}
    assert len([p for p in hub.files(REPO, "v1") if p.endswith(".parquet")]) > 2
    card = hub.files(REPO)["README.md"].decode()
    assert re.search(r"- \S+ v2, default/train, 9 rows: fewer photos\n- \S+ v1, default/train, 200 rows", card)
    with pytest.raises(u2s.HubError, match="has the tag 'v1' already"):
        push(small_run, tag="v1")
    push(small_run, revision="next", tag="v3")
    assert hub.repos[REPO].branches["main"] == hub.repos[REPO].tags["v2"]


def test_a_branch_and_a_pull_request_leave_the_main_branch_alone(data, hub):
    push(data, revision="draft")
    assert {*hub.files(REPO)} == {".gitattributes"}
    assert "README.md" in hub.files(REPO, "draft")
    made = push(data, create_pr=True)
    assert made.pull_request and made.revision == "refs/pr/1"
    assert "README.md" in hub.files(REPO, "refs/pr/1")
    assert {*hub.files(REPO)} == {".gitattributes"}


def test_it_becomes_public_only_where_that_is_said_and_at_the_very_end(data, hub):
    made = push(data, private=False, gated="manual")
    assert not made.private and not hub.repos[REPO].private and hub.repos[REPO].gated == "manual"
    assert json.loads(next(r.body for r in hub.requests if r.path == "/api/repos/create"))["visibility"] == "private"
    assert hub.requests[-1].method == "PUT" and json.loads(hub.requests[-1].body)["visibility"] == "public"
    assert "extra_gated_prompt" in DatasetCard(hub.files(REPO)["README.md"].decode()).data
    with pytest.raises(u2s.Refused, match="is public; push into a private repository"):
        push(data)


def test_the_command(small_run, hub, capsys):
    about = ["--license", "cc0-1.0", "--source-dataset", "ORG/raw", "--source-license", "cc-by-4.0", "-q"]
    assert main(["push", str(small_run), REPO, "--dry-run", *about]) == 0
    printed = capsys.readouterr().out
    assert "data/train-00000-of-00001.parquet" in printed and "nothing stands against it" in printed
    assert hub.requests == []
    assert main(["push", str(small_run), REPO, "--dry-run", "-q"]) == 1
    assert "stopped by facts" in capsys.readouterr().out
    assert main(["push", str(small_run), REPO, "-q"]) == 1
    assert "not published, nothing was uploaded" in capsys.readouterr().err
    assert main(["push", f"faces={small_run}", REPO, "--tag", "v1", *about]) == 0
    assert "private dataset org/photos-safe: 3 files" in capsys.readouterr().out
    card = DatasetCard.load(REPO, repo_type="dataset")
    card.validate(repo_type="dataset")
    assert card.data["source_datasets"] == ["extended|ORG/raw"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo_id": "noslash"}, "write it ORG/NAME"),
        ({"split": "Maria 2024-05-01"}, "cannot stand in public paths"),
        ({"config_name": "../private"}, "cannot stand in public paths"),
        ({"max_shard_size": "much"}, "expected a size such as 500MB"),
        ({"keep": ["nothing"]}, "unknown column keep='nothing'"),
        ({"quality": {"beauty": 1}}, "unknown score quality='beauty'"),
        ({"create_pr": True, "revision": "draft"}, "exclude each other"),
    ],
)
def test_a_call_to_mend_says_how(options, message, data, hub):
    with pytest.raises(u2s.SetupError, match=re.escape(message)):
        push(data, **options)
    assert hub.requests == []


def test_a_mapped_stream_is_edited_once_and_published(hub, tmp_path):
    rows = Dataset.from_list(source_rows(4), features=FEATURES).to_iterable_dataset()
    made = columns.features([*columns.INSPECT, *columns.CAPTION, *columns.INSTRUCT, *columns.ANONYMIZE])
    calls = []

    def step(batch):
        calls.append(len(batch["image"]))
        return ANONYMIZE(batch)

    stream = rows.cast_column("image", Image(decode=False))
    push(stream.map(step, batched=True, batch_size=2, features=Features({**FEATURES, **made})))
    assert calls == [2, 2]
    assert [row["anonymized_image"]["path"] for row in published_rows(hub)] == [None] * 4
    assert "4 rows = 2 safe + 2 anonymized + 0 withheld" in hub.files(REPO)["README.md"].decode()
