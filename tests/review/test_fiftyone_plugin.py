"""The plugin's operators through FiftyOne's own executor, on a real database, with real detectors."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

import u2s_datasets as u2s
from tests.helpers.fiftyone_home import (
    HOME,
    IGNORED,
    DelegatedOperationService,
    ExecutionContext,
    build_plugin_contexts,
    fo,
    foo,
    fop,
)
from tests.helpers.run_files import public_rows
from u2s_datasets import columns as c
from u2s_datasets.cli.bench.sample_photos import write_samples
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import decide, unresolved
from u2s_datasets.review.fiftyone_app import actions, forms, launch, panel_data, steps
from u2s_datasets.review.fiftyone_app.actions import lent_secrets
from u2s_datasets.runs.decisions import APPROVE, PENDING, REEDIT, REJECT, read_decisions
from u2s_datasets.runs.manifest import locate_rows

pytestmark = IGNORED

ROOT = Path(__file__).parents[2]
LISTED = yaml.safe_load((ROOT / "fiftyone_plugin/fiftyone.yml").read_text())
OPERATORS = [*LISTED["operators"], *LISTED["panels"]]
F = fo.ViewField


@pytest.fixture(scope="module", autouse=True)
def plugin():
    launch.install_plugin()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The nine photos and a broken one through the detectors, once."""
    home = tmp_path_factory.mktemp("plugin")
    write_samples(home / "photos")
    (home / "photos/things/broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    u2s.run(home / "photos", home / "out", shard_size=4, num_proc=1)
    return home / "out"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.fixture
def dataset(run, tmp_path):
    made = u2s.to_fiftyone(run, f"reviewed-{tmp_path.name}", tmp_path / "media", persistent=False)
    yield made
    fo.delete_dataset(made.name)


def operator(name: str) -> foo.Operator:
    return foo.get_operator(f"@u2s/privacy/{name}")


def row_of(run: Path, source: str) -> str:
    return next(row for row, place in locate_rows(run).items() if place.source == source)


def only(dataset, *rows: str):
    return dataset.match(F(c.ROW_ID).is_in(rows))


def test_from_a_link_every_listed_operator_is_registered_without_errors():
    assert (Path(fo.config.plugins_dir) / "u2s_datasets").is_symlink()
    (context,) = [one for one in build_plugin_contexts() if one.name == "@u2s/privacy"]
    assert context.errors == []
    assert sorted(one.name for one in context.instances) == sorted(OPERATORS)
    assert fop.get_plugin("@u2s/privacy").secrets == ["HF_TOKEN", "OPENAI_API_KEY"]
    assert fop.get_plugin("@u2s/privacy").has_js


def test_an_installed_copy_registers_every_operator_too(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "from u2s_datasets.app import launch\n"
        "from fiftyone.plugins.context import build_plugin_contexts\n"
        "place = launch.install_plugin()\n"
        "(one,) = [o for o in build_plugin_contexts() if o.name == '@u2s/privacy']\n"
        "print(place.resolve()); print(one.errors); print(*sorted(i.name for i in one.instances))"
    )
    places = {"PYTHONPATH": str(tmp_path / "site"), "FIFTYONE_PLUGINS_DIR": str(tmp_path / "plugins")}
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env={**os.environ, **places}, cwd=tmp_path, capture_output=True, text=True, check=True)
    place, errors, names = done.stdout.splitlines()[-3:]
    assert Path(place) == tmp_path / "site/u2s_datasets/_fiftyone_plugin"
    assert errors == "[]" and names.split() == sorted(OPERATORS)


def test_every_option_of_every_step_is_in_its_form():
    for step in steps.STEPS:
        names = {field.name.split("__")[0] for field in forms.fields_of(step)}
        fields = set(vars(getattr(u2s.profile(), step)))
        assert names == {name for name in fields if not name.startswith("_")} - {"image_column", "boxes_column"}
    assert {"editor__method", "inspect__detectors", "attempts"} <= {f.name for f in forms.fields_of("anonymize")}
    chosen = [f.name for f in forms.fields_of("inspect", values={"backend": "openai"})]
    assert {"backend__model", "backend__base_url"} <= set(chosen)


def test_a_filled_in_form_is_the_step_it_says():
    values = {"editor": "blur", "editor__cells": 6, "attempts": 2, "inspect__detectors": ["faces"], "seed": 7}
    step = forms.build("anonymize", "cpu", values)
    assert (step.editor.method, step.editor.cells, step.attempts, step.seed) == ("blur", 6, 2, 7)
    assert [type(part).__name__ for part in step.inspect.detectors] == ["Faces"]
    assert forms.build("anonymize") == u2s.profile().anonymize
    with pytest.raises(u2s.SetupError, match="invalid attempts='many'; expected a value of type int"):
        forms.build("anonymize", values={"attempts": "many"})
    with pytest.raises(u2s.SetupError, match="fill in what it needs"):
        forms.build("inspect", values={"backend": "openai"})


def test_the_forms_of_all_operators_resolve(dataset):
    for name in LISTED["operators"]:
        context = ExecutionContext({"dataset_name": dataset.name, "params": {}}, operator_uri=f"@u2s/privacy/{name}")
        form = operator(name).resolve_input(context)
        assert form is None or form.to_json()["type"]["properties"]


def test_nothing_is_decided_by_default_and_many_rows_are_counted_first(run, dataset):
    context = ExecutionContext({"dataset_name": dataset.name, "params": {}}, operator_uri="@u2s/privacy/review")
    form = operator("review").resolve_input(context).to_json()["type"]["properties"]
    assert form["action"]["default"] is None and form["action"]["required"]
    assert "10 rows" in form["many"]["view"]["label"]
    with pytest.raises(Exception, match=r"(?i)unknown decision|validation"):
        operator("review")(dataset, reviewer="ada")
    assert read_decisions(run) == {}


def test_editing_again_in_the_app_works_as_the_run_did(finished, tmp_path):
    u2s.run(finished.parent / "photos", tmp_path / "out", num_proc=1, detectors=["faces"], format="webp")
    dataset = u2s.to_fiftyone(tmp_path / "out", "own settings", tmp_path / "media", persistent=False)
    row = row_of(tmp_path / "out", "people/astronaut.jpg")
    operator("review")(only(dataset, row), action="re-edit", reviewer="ada")
    edited = next(r for r in public_rows(tmp_path / "out") if r[c.ROW_ID] == row)
    assert edited[c.ANONYMIZED_IMAGE]["bytes"][8:12] == b"WEBP"
    assert json.loads(edited[c.PROVENANCE])["inspected"] == ["face"]
    fo.delete_dataset(dataset.name)


def test_decisions_reach_the_output_and_both_slices(run, dataset):
    operator("review")(dataset.load_saved_view("flagged"), action="approve", reviewer="ada")
    words = {row: entry["review_decision"] for row, entry in read_decisions(run).items()}
    flagged = {row for row, place in locate_rows(run).items() if place.status == c.ANONYMIZED}
    assert words == dict.fromkeys(flagged, "approve")
    assert dataset.select_group_slices().count_values(c.REVIEW_BY) == {"ada": 8, None: 11}


def test_a_rejected_row_is_withheld_in_the_app_and_can_be_taken_back(run, dataset):
    row = row_of(run, "things/cat.jpg")
    operator("review")(only(dataset, row), action="reject", reviewer="ada")
    assert only(dataset, row).first()[c.STATUS] == c.WITHHELD
    operator("review")(only(dataset, row), action="approve", reviewer="ada")
    assert only(dataset, row).first()[c.STATUS] == c.SAFE
    actions.decide(dataset, [row], REJECT, "ada")
    assert actions.mirror.mirror_changes(dataset) == 1  # as when the App is opened again: the image is gone
    actions.decide(dataset, [row], APPROVE, "ada")
    assert row in dataset.select_group_slices("anonymized").values(c.ROW_ID)


def test_boxes_drawn_in_the_app_are_hidden_and_the_new_image_is_shown(run, dataset):
    row = row_of(run, "things/coffee.jpg")
    sample = only(dataset, row).first()
    sample["drawn"] = fo.Detections(detections=[fo.Detection(label="cup", bounding_box=[0.25, 0.25, 0.5, 0.5])])
    sample.save()
    old = sample["anonymized_path"]
    operator("review")(only(dataset, row), action="re-edit", reviewer="ada", boxes_field="drawn", editor="solid")
    dataset.reload()
    sample = only(dataset, row).first()
    assert (sample[c.STATUS], sample[c.REVIEW_DECISION]) == (c.ANONYMIZED, "pending")
    assert sample["anonymized_path"] != old and not Path(old).exists()
    stored = next(r for r in public_rows(run) if r[c.ROW_ID] == row)[c.ANONYMIZED_IMAGE]["bytes"]
    assert Path(sample["anonymized_path"]).read_bytes() == stored
    edited = dataset.select_group_slices("anonymized").match(F(c.ROW_ID) == row).first()
    assert edited.filepath == sample["anonymized_path"] and unresolved(run) == [row]


def test_rows_that_were_sent_back_are_edited_by_a_delegated_operation(run, dataset):
    rows = [row_of(run, "people/astronaut.jpg"), row_of(run, "papers/page.jpg")]
    actions.decide(dataset, rows, REEDIT, "ada")
    review = operator("review")
    review(dataset, delegate=True, action="re-edit", sent_back=True, reviewer="ada", editor="solid", seed=3)
    assert set(actions.sent_back(dataset)) == set(rows)
    DelegatedOperationService().execute_queued_operations()
    (operation,) = DelegatedOperationService().list_operations(dataset_name=dataset.name)
    assert operation.run_state == "completed" and operation.status.progress == 1.0
    assert actions.sent_back(dataset) == [] and set(unresolved(run)) == set(rows)
    published = {row[c.ROW_ID]: json.loads(row[c.PROVENANCE]) for row in public_rows(run)}
    assert {published[row]["editor"]["method"] for row in rows} == {"solid"}


def test_a_withheld_image_leaves_the_app_and_comes_back_once_it_is_safe(run, dataset):
    row = row_of(run, "things/cat.jpg")
    actions.decide(dataset, [row], REJECT, "ada")
    u2s.apply_reviews(run)
    actions.mirror.mirror_rows(dataset, [row])
    edited = dataset.select_group_slices("anonymized")
    assert row not in edited.values(c.ROW_ID) and not only(dataset, row).first()["anonymized_path"]
    list(actions.edit_again(dataset, [row], "ada"))
    assert row in dataset.select_group_slices("anonymized").values(c.ROW_ID)
    assert Path(only(dataset, row).first()["anonymized_path"]).exists()


def test_an_audit_in_the_app(run, dataset):
    run_audit = operator("audit")
    assert run_audit(dataset, n=4, seed=1, reviewer="ada") == {"drawn": 4}
    drawn = audit.read_sample(run)["drawn"]
    assert panel_data.queue(dataset) == drawn
    assert set(dataset.load_saved_view("audit").values(c.ROW_ID)) == set(drawn)
    actions.decide(dataset, drawn[:3], APPROVE, "ada")
    with pytest.raises(Exception, match="1 of 4 drawn rows are not judged yet"):
        run_audit(dataset, "finish", reviewer="ada")
    actions.decide(dataset, drawn[3:], REJECT, "ada")
    result = run_audit(dataset, "finish", reviewer="ada", confidence=0.9)
    assert (result["n"], result["leaks"], result["reviewer"], result["seed"]) == (4, 1, "ada", 1)
    assert result == json.loads((run / "private/audit.json").read_text())
    assert drawn[3] not in {row[c.ROW_ID] for row in public_rows(run)}


def test_publishing_refuses_while_rows_are_unresolved(run, dataset):
    row = row_of(run, "things/cat.jpg")
    actions.decide(dataset, [row], PENDING, "ada")
    with pytest.raises(Exception, match="unresolved rows, whose review was asked for and not given: 1"):
        operator("publish")(dataset, "org/name")
    with pytest.raises(u2s.SetupError, match="unresolved"):
        actions.publish(dataset, "org/name")
    actions.decide(dataset, [row], APPROVE, "ada")
    assert not [reason for reason in actions.why_not_publish(dataset) if "unresolved" in reason]


def test_the_steps_work_on_any_images_and_go_on_where_they_were_cut(finished, tmp_path):
    photos = finished.parent / "photos"
    dataset = fo.Dataset.from_images_patt(str(photos / "*/*"), name="anything")
    operator("inspect")(dataset, detectors=["faces"])
    flagged = dataset.match(F(c.PRIVACY_FLAG) == True)  # noqa: E712
    assert {Path(path).name for path in flagged.values("filepath")} >= {"astronaut.jpg", "broken.jpg"}
    step = forms.build("anonymize", values={"inspect__detectors": ["faces"], "editor": "solid"})
    steps.BATCH, whole = 4, steps.BATCH
    try:
        cut = steps.run_step(dataset, step, media=tmp_path / "media")
        assert next(cut) == (4, 10)
        cut.close()
        assert len(dataset.exists(c.STATUS)) == 4
        calls = list(steps.run_step(dataset, step, media=tmp_path / "media", only_missing=True))
    finally:
        steps.BATCH = whole
    assert calls == [(4, 6), (6, 6)]
    assert dataset.count_values(c.STATUS) == {c.SAFE: 7, c.ANONYMIZED: 2, c.WITHHELD: 1}
    operator("score")(dataset, inspect__detectors=["faces"])
    assert dataset.count_values("residual_faces") == {0: 9, None: 1}
    assert "anonymized_path" in dataset.app_config.media_fields
    for path in dataset.exists("anonymized_path").values("anonymized_path"):
        assert Path(path).is_relative_to(tmp_path / "media")


def test_a_placeholder_is_never_taken_for_an_image(run, dataset):
    row = row_of(run, "things/broken.jpg")
    step = forms.build("anonymize", values={"inspect__detectors": ["faces"]})
    list(steps.run_step(only(dataset, row), step))
    assert only(dataset, row).first()[c.STATUS] == c.WITHHELD


def test_what_the_panel_shows_agrees_with_the_run(run, dataset):
    assert panel_data.counts(dataset)["status"] == {c.SAFE: 5, c.ANONYMIZED: 4, c.WITHHELD: 1}
    assert panel_data.counts(dataset)["criterion"]["face"] == 2
    for bars in panel_data.histograms(dataset):
        for number, count in enumerate(bars.counts):
            assert len(panel_data.bar_view(dataset, bars.name, number)) == count
    queue = panel_data.queue(dataset)
    risks = dict(zip(*dataset.values([c.ROW_ID, "residual_risk"]), strict=True))
    assert len(queue) == 9 and [risks[row] for row in queue] == sorted((risks[row] for row in queue), reverse=True)
    pair = panel_data.pair(dataset, row_of(run, "people/astronaut.jpg"))
    assert pair["found"].startswith("1 face") and "anonymized" in pair["anonymized"]


def test_the_panel_has_nothing_to_review_in_plain_images(finished, tmp_path):
    plain = fo.Dataset.from_images_dir(str(finished.parent / "photos/papers"), name="plain images")
    rows = u2s.to_fiftyone(Dataset.from_dict({"label": [1, 2]}), "plain rows", tmp_path, persistent=False)
    assert not panel_data.is_ready(plain) and not panel_data.is_ready(rows)
    with pytest.raises(u2s.SetupError, match="'plain rows' shows no run; import one with `u2s fiftyone DIR`"):
        actions.decide(rows, ["row-0000000"], APPROVE, "ada")


def test_secrets_are_lent_for_one_call_and_never_replace_what_is_set(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with lent_secrets({"OPENAI_API_KEY": "theirs", "HF_TOKEN": "token"}):
        assert (os.environ["OPENAI_API_KEY"], os.environ["HF_TOKEN"]) == ("mine", "token")
    assert "HF_TOKEN" not in os.environ and os.environ["OPENAI_API_KEY"] == "mine"


def test_nothing_is_left_at_home(dataset):
    assert str(HOME) in fo.constants.FIFTYONE_CONFIG_DIR
    assert fo.config.database_uri.startswith("mongodb://127.0.0.1:") and str(HOME) in fo.config.plugins_dir


def test_what_changed_without_the_app_is_shown_when_it_opens_again(run, dataset):
    assert actions.mirror.mirror_changes(dataset) == 0
    row = row_of(run, "people/astronaut.jpg")
    decide(run, {row: "reject"}, by="ada")
    u2s.apply_reviews(run)
    assert actions.mirror.mirror_changes(dataset) == 1
    assert only(dataset, row).first()[c.STATUS] == c.WITHHELD
    assert actions.mirror.mirror_changes(dataset) == 0
