"""A folder's metadata: every row finds its file, or an error names the rows."""

import json
import logging
import unicodedata

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets.sources.open import open_source

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "a/Café.png") for form in ("NFC", "NFD"))


def folder(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(root / name)
    return root


def kinds(root, rows, keep="kind"):
    """The kept value of every file, with metadata of these (file_name, kind)."""
    lines = [json.dumps({"file_name": name, "kind": kind}) for name, kind in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = open_source(str(root), keep=[keep])
    return [item.kept["kind"] for item in source.read(0, len(source))]


@pytest.mark.parametrize(
    "written",
    ["a/x.png", "./a/x.png", "a\\x.png", ".\\a\\x.png", "a//x.png", "a/./x.png", "a/b/../x.png", "./././a/x.png"],
)
def test_a_path_may_be_written_in_several_ways(tmp_path, written):
    assert kinds(folder(tmp_path, "a/x.png", "z.png"), [(written, "one"), ("z.png", "two")]) == ["one", "two"]


@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
def test_letters_may_be_composed_otherwise(tmp_path, written, stored):
    assert kinds(folder(tmp_path, stored), [(written, "one")]) == ["one"]


def test_a_name_that_holds_a_backslash_is_itself_first(tmp_path):
    root = folder(tmp_path, "a\\x.png", "a/x.png")
    assert kinds(root, [("a\\x.png", "flat"), ("a/x.png", "deep")]) == ["deep", "flat"]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("a/gone.png", "name a file that is not there"),
        ("A/X.png", "name a file in other letters"),
        ("../a/x.png", "name a place outside the folder"),
        ("a/../../x.png", "name a place outside the folder"),
        ("/a/x.png", "name a place outside the folder"),
        ("C:\\a\\x.png", "name a place outside the folder"),
        ("", "name no file"),
        (None, "name no file"),
        ("./a/x.png", "name the file of an earlier row"),
    ],
)
def test_rows_that_find_no_file_of_their_own_are_named(tmp_path, written, fault):
    root = folder(tmp_path / "in", "a/x.png", "a/y.png")
    folder(tmp_path, "x.png")
    with pytest.raises(
        u2s.SetupError, match=rf"^'metadata.jsonl' has rows that {fault}.*: 2; correct their file_name"
    ) as told:
        kinds(root, [("a/x.png", "one"), (written, "two"), ("a/y.png", "three")])
    assert "gone" not in str(told.value)


def test_two_files_that_differ_in_composition_alone_are_not_mixed_up(tmp_path):
    root = folder(tmp_path, COMPOSED, DECOMPOSED)
    assert sorted(kinds(root, [(COMPOSED, "one"), (DECOMPOSED, "two")])) == ["one", "two"]
    with pytest.raises(u2s.SetupError, match="name two files"):
        kinds(root, [(f"./{COMPOSED}", "one")])


def test_many_wrong_rows_are_counted(tmp_path):
    rows = [("x.png", "one"), *((f"{i}.png", "gone") for i in range(9)), ("../x.png", "out")]
    with pytest.raises(u2s.SetupError, match=r"not there: 2, 3, 4, 5, 6 and 4 more; name a place .*: 11; correct"):
        kinds(folder(tmp_path, "x.png"), rows)


def test_a_row_of_a_file_that_is_skipped_is_passed_over(tmp_path):
    root = folder(tmp_path / "in", "x.png")
    folder(tmp_path, "other.png")
    (root / "link.png").symlink_to(tmp_path / "other.png")
    assert kinds(root, [("link.png", "two"), ("x.png", "one")]) == ["one"]


def test_images_without_a_row_are_counted_aloud(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert kinds(folder(tmp_path, "x.png", "y.png"), [("y.png", "two")]) == [None, "two"]
    assert "metadata.jsonl has no row for 1 of 2 images" in caplog.text and "x.png" not in caplog.text


def test_names_that_look_like_numbers_are_names(tmp_path):
    for name in ("0001", "0002"):
        picture().save(tmp_path / name, "PNG")
    (tmp_path / "metadata.csv").write_text("file_name,kind\n0001,one\n0002,two\n")
    source = open_source(str(tmp_path), keep=["kind"])
    assert [item.kept["kind"] for item in source.read(0, 2)] == ["one", "two"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"metadata.csv": "file_name,kind\nx.png,a\n", "metadata.jsonl": '{"file_name": "x.png", "kind": "b"}'},
            "keep one",
        ),
        ({"metadata.csv": "file_name,kind,kind\nx.png,a,b\n"}, "has the column 'kind' twice"),
        (
            {"metadata.jsonl": '{"file_name": "x.png", "kind": 1}\n{"file_name": "y.png", "kind": "b"}'},
            "cannot be read",
        ),
        ({"metadata.jsonl": '{"file_name": ["x.png"], "kind": "a"}'}, "rows that name no file: 1"),
        ({"metadata.csv": ""}, "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_trusted_is_refused(tmp_path, files, words):
    root = folder(tmp_path, "x.png", "y.png")
    for name, content in files.items():
        (root / name).write_text(content)
    with pytest.raises(u2s.SetupError, match=words):
        open_source(str(root), keep=["kind"])
