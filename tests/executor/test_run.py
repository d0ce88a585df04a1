"""The whole job on a folder: counts, layout, resuming after kills, and what must never be in the output."""

import json
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, load_dataset

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import QUICK, private_rows, public_rows
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.report.report import rewrite_reports


def test_counts_and_layout(demo):
    facts = json.loads((demo / "run.json").read_text())
    assert facts["rows"] == 9 == facts["safe"] + facts["anonymized"] + facts["withheld"]
    assert facts["withheld"] == 0
    assert facts["inspected_criteria"] and facts["not_inspected"]
    assert {p.name for p in demo.iterdir()} == {"data", "private", "run.json", "report.html"}
    assert stat.S_IMODE((demo / "private").stat().st_mode) == 0o700
    assert {p.name for p in (demo / "private").iterdir()} == {"rows", "secret", "lock", "manifest.json", "report.html"}
    assert len(private_rows(demo)) == 9
    assert stat.S_IMODE((demo / "private/secret").stat().st_mode) == 0o600


def test_the_output_opens_as_a_dataset_with_images_and_labels(demo, tmp_path):
    ds = load_dataset("parquet", data_files=str(demo / "data/*.parquet"), split="train", cache_dir=str(tmp_path))
    assert isinstance(ds.features[c.ANONYMIZED_IMAGE], Image)
    assert ds.features["label"] == ClassLabel(names=["papers", "people", "things"])
    assert ds.column_names == [*c.PUBLIC, "label"]
    assert {image.mode for image in ds[c.ANONYMIZED_IMAGE]} == {"RGB"}


def test_a_finished_run_is_not_done_again_and_another_call_refuses(red_folder, tmp_path):
    first = u2s.run(red_folder, tmp_path / "out", **QUICK)
    again = u2s.run(red_folder, tmp_path / "out", **QUICK)
    assert again["rates"]["rows"] == 0
    assert {k: v for k, v in again.items() if k != "rates"} == {k: v for k, v in first.items() if k != "rates"}
    with pytest.raises(u2s.SetupError, match=r"another configuration \(seed 0 -> 5\); repeat that call"):
        u2s.run(red_folder, tmp_path / "out", **QUICK, seed=5)
    with pytest.raises(u2s.SetupError, match="another source and"):
        other = tmp_path / "one"
        other.mkdir()
        picture().save(other / "a.png")
        u2s.run(other, tmp_path / "out", **QUICK)


def test_parquet_and_saved_datasets(tmp_path):
    values = [{"bytes": images.encode(picture(red=i == 1), "png"), "path": "/home/zoe/secret.png"} for i in range(3)]
    data = {"photo": values, "objects": [[1.0, 2.0]] * 3}
    ds = Dataset.from_dict(data, features=Features({"photo": Image(), "objects": Features({"o": ds_list()})["o"]}))
    ds.to_parquet(tmp_path / "rows.parquet")
    ds.save_to_disk(tmp_path / "saved")
    for name, src in (("a", "rows.parquet"), ("b", "saved")):
        facts = u2s.run(tmp_path / src, tmp_path / name, keep=["objects"], allow=["objects"], **QUICK)
        assert (facts["safe"], facts["anonymized"]) == (2, 1)
        rows = public_rows(tmp_path / name)
        assert [row["objects"] for row in rows] == [[1.0, 2.0]] * 3
        assert b"zoe" not in (tmp_path / name / "data/part-00000.parquet").read_bytes()
        assert (tmp_path / name / "private/report.html").read_text().count("data:image") >= 2


def ds_list():
    from datasets import List

    return List(datasets_value("float32"))


def datasets_value(kind):
    from datasets import Value

    return Value(kind)


def test_run_json_holds_no_seed_and_no_path(red_folder, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    u2s.run(red_folder, tmp_path / "out", seed=918273645, secret=tmp_path / "key", limit=3, **QUICK)
    text = (tmp_path / "out/run.json").read_text()
    assert "918273645" not in text and '"seed"' not in text
    assert str(tmp_path) not in text and str(red_folder) not in text
    assert "918273645" in (tmp_path / "out/private/manifest.json").read_text()


def test_a_run_is_resumed_from_another_working_folder(red_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(red_folder)
    first = u2s.run(".", tmp_path / "out", limit=5, **QUICK)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(red_folder)
    for src in (red_folder, "link", f"../{tmp_path.name}/link"):
        again = u2s.run(src, "out", limit=5, **QUICK)
        assert again["rates"]["rows"] == 0 and again["configuration"] == first["configuration"]


def test_reports_are_written_again_without_asking_the_hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda name, **_: pytest.fail(f"asked the Hub for {name!r}"))
    (tmp_path / "fam/alice").mkdir(parents=True)
    picture(red=True).save(tmp_path / "fam/alice/a.png")
    Dataset.from_dict({"image": [{"bytes": images.encode(picture(), "png"), "path": None}]}).cast_column(
        "image", Image()
    ).save_to_disk(tmp_path / "fam/saved")
    page = Path("private/report.html")
    for name in ("alice", "saved"):
        monkeypatch.chdir(tmp_path)
        out = tmp_path / f"out_{name}"
        u2s.run(f"fam/{name}", out, **QUICK)
        before = (out / page).read_bytes()
        monkeypatch.chdir("/")
        rewrite_reports(out)
        assert (out / page).read_bytes() == before
        (tmp_path / "fam" / name).rename(tmp_path / "fam/elsewhere")
        rewrite_reports(out)
        assert (out / page).read_bytes() != before and b"original not available" in (out / page).read_bytes()
        (tmp_path / "fam/elsewhere").rename(tmp_path / "fam" / name)


def test_a_kept_text_does_not_name_its_own_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("zoe_birthday", "12", "brick"):
        picture().save(folder / f"{name}.png")
    lines = (
        "file_name,origin,scene",
        "zoe_birthday.png,zoe_birthday,garden",
        "12.png,12 chairs,no",
        "brick.png,x,wall",
    )
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    facts = u2s.run(folder, tmp_path / "a", keep=["origin", "scene"], allow=["origin", "scene"], **QUICK)
    assert facts["kept_texts_withheld"] == 1 and facts["kept_emptied"] == {"origin": 1}
    rows = {(row["origin"], row["scene"]) for row in public_rows(tmp_path / "a")}
    assert rows == {(None, "garden"), ("12 chairs", "no"), ("x", "wall")}

    value = {"bytes": images.encode(picture(), "png"), "path": "C:\\photos\\zoe.png"}
    features = Features({"image": Image(), "scene": datasets_value("string")})
    ds = Dataset.from_dict({"image": [value] * 2, "scene": ["Zoe in a garden", "a garden"]}, features=features)
    ds.to_parquet(tmp_path / "rows.parquet")
    u2s.run(tmp_path / "rows.parquet", tmp_path / "b", keep=["scene"], allow=["scene"], **QUICK)
    assert {row["scene"] for row in public_rows(tmp_path / "b")} == {None, "a garden"}


def test_strings_that_are_no_paths_are_rows_that_are_withheld(tmp_path):
    picture().save(tmp_path / "here.png")
    texts = ["A" * 5000, "a\0b", "/" + "b/" * 4000, "", "here.png"]
    pq.write_table(pa.table({"image": texts}), tmp_path / "rows.parquet")
    facts = u2s.run(tmp_path / "rows.parquet", tmp_path / "out", **QUICK)
    assert (facts["rows"], facts["withheld"], facts["safe"]) == (5, 4, 1)


def test_dry_run_writes_nothing(red_folder, tmp_path):
    facts = u2s.run(red_folder, tmp_path / "out", dry_run=True, limit=7, **QUICK)
    assert facts["rows"] == 7
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("src", "options", "words"),
    [
        ("nowhere", {}, "'nowhere'.*ORG/NAME"),
        (".", {"profile_name": "best"}, "unknown profile 'best'; expected one of: cpu"),
        (".", {"editor": "magic"}, "unknown editor 'magic'; expected one of: redact"),
        (".", {"detectors": ["ears"]}, "unknown detector 'ears'; expected one of: faces, text"),
        (".", {"format": "gif"}, "'gif'"),
        (".", {"limit": 0}, "limit=0; expected an integer >= 1"),
        (".", {"limit": "3"}, "limit='3'; expected an integer >= 1"),
        (".", {"limit": 2.5}, "limit=2.5; expected an integer >= 1"),
        (".", {"seed": "x"}, "seed='x'; expected an integer"),
        (".", {"profile_name": ["cpu"]}, r"unknown profile \['cpu'\]; expected one of: cpu"),
        (".", {"detectors": "face"}, "unknown detector 'face'; expected one of: faces, text"),
        (".", {"detectors": u2s.Faces()}, "detectors=.*; expected a list of names"),
        (".", {"editor": u2s.Redact}, "unknown editor <class .*Redact'>; expected one of: redact"),
        (".", {"keep": "caption"}, "metadata.csv"),
        (".", {"keep": 7}, "keep=7; expected a list of names"),
        (".", {"allow": "label"}, "allow='label' is not a kept column"),
        (".", {"num_proc": -1}, "num_proc=-1"),
        (".", {"keep": ["caption"]}, "metadata.csv"),
        (".", {"allow": ["label"]}, "allow='label' is not a kept column"),
        (".", {"secret": "missing"}, "cannot read the secret 'missing'"),
    ],
)
def test_bad_calls_name_the_value_and_the_remedy_before_any_work(
    red_folder, tmp_path, src, options, words, monkeypatch
):
    monkeypatch.chdir(red_folder)
    with pytest.raises(u2s.SetupError, match=words):
        u2s.run(src, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("data/*"))


def test_a_table_without_rows_is_refused_as_an_empty_folder_is(tmp_path):
    empty = Dataset.from_dict({"image": []}, features=Features({"image": Image()}))
    source = tmp_path / "empty.parquet"
    empty.to_parquet(source)
    with pytest.raises(u2s.SetupError, match=r"empty.parquet' holds no row; give a source with images"):
        u2s.run(source, tmp_path / "out", **QUICK)


def test_one_name_is_one_name(red_folder, tmp_path):
    facts = u2s.run(
        red_folder, tmp_path / "out", detectors="tests.helpers.fakes:RedSquares", keep="label", dry_run=True
    )
    assert facts["configuration"]["kept_columns"] == ["label"]
