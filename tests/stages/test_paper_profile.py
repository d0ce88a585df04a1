"""The profiles `paper` and `permissive` from the command line, with tiny models of the real classes, on real photos."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from tests.helpers.scripts import GONE
from u2s_datasets.cli.main import main
from u2s_datasets.parts.backends.scripted import Scripted

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install 'u2s_datasets[models]'")

torch.set_num_threads(1)
ASTRONAUT, CAT, COFFEE = "#8e6a60", "#946f57", "#9f5633"
PHOTOS = ["people/astronaut.jpg", "things/cat.jpg", "things/coffee.jpg", "things/rocket.jpg"]


def captions(item: str, category: str, private: str, public: str) -> str:
    review = f"ITEM: {item}\nCATEGORY: {category}\nREASON: it tells who this is"
    return f"PRIVACY_REVIEW\n{review}\n\nPRIVATE_CAPTION\n{private}\n\nPUBLIC_CAPTION\n{public}"


PUBLIC = {"astronaut": "A person stands in front of a model.", "cat": "An animal lies on a cloth."}
WOMAN = captions("a woman in a suit", "people", "A smiling woman in an orange suit.", PUBLIC["astronaut"])
PET = captions("a cat", "private belongings and behaviours", "A ginger cat on a cloth.", PUBLIC["cat"])
INSTRUCTION = "Give everybody short grey hair, a green coat and another face, and make the cloth blue."
MERGED = {"astronaut": "Somebody in a green coat stands there.", "cat": "A grey animal lies on a blue cloth."}
SCRIPT = Scripted(
    (
        *GONE,
        (f"(?s){ASTRONAUT}.*PRIVACY_REVIEW", WOMAN),
        (f"(?s){CAT}.*PRIVACY_REVIEW", PET),
        (f"(?s)({ASTRONAUT}|{CAT}).*assistant: PRIVACY_FLAG:", {"TRUE": 0.9, "FALSE": 0.1}),
        ("assistant: PRIVACY_FLAG:", {"TRUE": 0.0, "FALSE": 1.0}),
        ("(?s)model.*It is then edited like this", MERGED["astronaut"]),
        ("It is then edited like this", MERGED["cat"]),
        ("Say what the editor has to change", INSTRUCTION),
    )
)


@pytest.fixture(scope="module")
def four(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four real photos."""
    folder = tmp_path_factory.mktemp("four")
    for name in PHOTOS:
        (folder / Path(name).name).write_bytes((photos / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def models(four: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint per role: two language models taught what to answer, and two editors with random weights."""
    from tests.helpers.tiny_models import dit, edit, metrics, profile

    folder = tmp_path_factory.mktemp("models")
    seen, written = profile.lessons([four / Path(name).name for name in PHOTOS], SCRIPT)
    return {
        "inspect": profile.taught(folder / "inspect", seen, sees=True),
        "instruct": profile.taught(folder / "instruct", written, sees=False),
        "sd3": dit.sd3(folder / "sd3"),
        "klein": edit.flux2_klein(folder / "klein"),
        "clip": metrics.clip(folder / "clip"),
    }


def call(four: Path, out: Path, profile: str, models: dict[str, Path], edit: str, *more: str) -> list[str]:
    roles = {"inspect": models["inspect"], "instruct": models["instruct"], "edit": models[edit]}
    named = [word for role, folder in roles.items() for word in ("--model", f"{role}={folder}")]
    return [
        *("anonymize", str(four), "--out", str(out), "--profile", profile, "--backend", "transformers"),
        *("--dtype", "float32", *named, "--score", f"clip={models['clip']}", *more),
    ]


def published(out: Path) -> dict[str, dict]:
    """File name -> its row, private columns and image together."""
    rows = {
        row["row_id"]: row for row in load_dataset("parquet", data_files=str(out / "data/*.parquet"), split="train")
    }
    private = load_dataset("parquet", data_files=str(out / "private/rows/*.parquet"), split="train")
    return {Path(row["source"]).name: {**row, **rows.get(row["row_id"], {})} for row in private}


def check(four: Path, out: Path, editor: str) -> None:
    """The result of a whole run: who was flagged and by whom, what was written, what came out, what is said of it."""
    rows = published(out)
    assert {name: row["anonymization_status"] for name, row in rows.items()} == {
        "astronaut.jpg": "anonymized",
        "cat.jpg": "anonymized",  # by the model alone: no detector looks for pets
        "coffee.jpg": "safe",
        "rocket.jpg": "safe",
    }
    for kind in ("astronaut", "cat"):
        row = rows[f"{kind}.jpg"]
        written = (row["public_caption"], row["edit_instruction"], row["edit_caption"])
        assert written == (PUBLIC[kind], INSTRUCTION, MERGED[kind])
        provenance = json.loads(row["provenance"])
        assert provenance["editor"]["part"] == provenance["attempts"][0]["editor"] == editor
        assert provenance["verified"] is True  # the model looks at the pair again, detectors at the face's place
        with Image.open(four / f"{kind}.jpg") as original:
            before, after = np.asarray(original.convert("RGB")).astype(int), np.asarray(row["anonymized_image"])
        assert after.shape == before.shape
        assert np.abs(after - before).mean() > 10  # rewritten as a whole
    facts = json.loads((out / "run.json").read_text())
    assert facts["not_inspected"] == []
    assert {"torch", "diffusers", "transformers"} <= set(facts["versions"])
    assert "ginger" not in (out / "run.json").read_text() + (out / "report.html").read_text()


def test_paper(four, models, tmp_path, capsys):
    out = tmp_path / "safe"
    assert main(call(four, out, "paper", models, "sd3")) == 0
    assert "4 rows = 2 safe + 2 anonymized + 0 withheld" in capsys.readouterr().out
    check(four, out, "FlowEdit")
    facts = json.loads((out / "run.json").read_text())
    assert facts["rates"]["workers"] == max(1, torch.cuda.device_count())  # and not one per core
    assert str(models["inspect"]) not in (out / "run.json").read_text()


def test_permissive_and_again_and_with_other_weights(four, models, tmp_path, capsys):
    out = tmp_path / "safe"
    words = call(four, out, "permissive", models, "klein", "-q", "--num-proc", "1")
    assert main(words) == 0
    check(four, out, "InstructEdit")
    before = {path.name: path.read_bytes() for path in (out / "data").iterdir()}
    assert main(words) == 0
    assert {path.name: path.read_bytes() for path in (out / "data").iterdir()} == before
    config = models["klein"] / "transformer" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert main(words) == 2
    assert "other" in capsys.readouterr().err
