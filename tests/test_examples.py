"""Every example runs as its first lines say, and the demo ends with a picture."""

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from PIL import Image

import u2s_datasets as u2s

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *words: object) -> str:
    call = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_folder_to_safe_dataset(photos, tmp_path):
    assert "9 photos = " in run("01_folder_to_safe_dataset.py", photos, tmp_path / "out")


@pytest.mark.slow
def test_map(photos):
    assert "anonymized Hide one face" in run("02_map.py", photos / "people")


def test_models(photos):
    printed = run("03_models.py", photos / "people")
    assert "public   edit_caption: An older person" in printed
    assert "public   anonymization_status: anonymized" in printed
    assert "private  private_caption: A smiling astronaut" in printed


@pytest.mark.slow
def test_demo(tmp_path):
    printed = run("demo.py", tmp_path / "demo")
    assert "9 rows = " in printed and "report.html" in printed
    with Image.open(tmp_path / "demo/before_after.jpg") as image:
        assert image.size[1] == 720
    about = {"license": "cc0-1.0", "source_dataset": "original", "source_license": "cc0-1.0"}
    plan = u2s.push_to_hub(tmp_path / "demo/safe", "org/demo", dry_run=True, **about)
    assert plan.reasons == {}
    card = DatasetCard(plan.card)
    assert card.data["dataset_info"]["splits"][0]["num_examples"] == 9
    assert "9 rows = 5 safe + 4 anonymized + 0 withheld" in card.text


@pytest.mark.parametrize(
    "words",
    [["01_folder_to_safe_dataset.py", "photos"], ["02_map.py"], ["ray_speed.py"], ["ray_speed.py", "many"]],
    ids=" ".join,
)
def test_wrong_words_give_the_usage(words):
    done = subprocess.run([sys.executable, str(EXAMPLES / words[0]), *words[1:]], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"usage: python examples/{words[0]} ") and done.stderr.count("\n") == 1
