"""What `u2s bench edit` measures, on tiny random weights; and that its full ones are as large as the real ones."""

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")

import torch

from u2s_datasets.cli.bench import random_weights
from u2s_datasets.cli.main import main


@pytest.mark.parametrize("editor", sorted(random_weights.PIPELINES))
def test_batches_are_measured_beside_the_usual_order_of_calls(editor, capsys):
    words = ["bench", "edit", "--editor", editor, "--random-weights", "--batch", "1,2", "--size", "64", "--steps", "3"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["weights"] == "random, tiny"
    reference, *ours = facts["measured"]
    assert "texts encoded anew" in reference["order"]
    assert [m["batch"] for m in ours] == [1, 2]
    assert all(m["times_as_fast"] == m["images_per_second"] / reference["images_per_second"] > 0 for m in ours)


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_full_ones_are_as_large_as_the_real_ones():
    sd3 = random_weights.stable_diffusion_3("full", "meta", torch.float16)
    assert parameters(sd3.transformer) == pytest.approx(2.03e9, rel=0.03)
    assert parameters(sd3.text_encoder_3) == pytest.approx(4.76e9, rel=0.01)
    assert parameters(random_weights.stable_diffusion_15("full", "meta", torch.float16).unet) == 859_520_964


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--editor", "redact"], "'redact' runs no diffusion model"),
        (["--random-weights", "huge"], "size 'huge'"),
        (["--batch", "two"], "invalid --batch 'two'"),
        (["--batch", ""], "batch_sizes=[]"),
        (["--batch", "2,0"], "batch_sizes=[2, 0]"),
        (["--size", "0"], "sizes=[0]"),
        (["--size", "-5"], "sizes=[-5]"),
        (["--size", ""], "sizes=[]"),
        (["--dtype", "foo"], "unknown dtype 'foo'; expected one of"),
        (["--steps", "0"], "num_inference_steps=0"),
        (["--steps", "-3", "--editor", "freeprompt"], "num_inference_steps=-3"),
        (["--model", "org/none"], "run: hf download org/none"),
        (["--model", "org/none", "--random-weights", "tiny"], "give one of them"),
    ],
)
def test_wrong_words_are_named(words, message, capsys):
    assert main(["bench", "edit", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_the_smallest_picture_is_measured_too(capsys):
    words = ["--random-weights", "tiny", "--size", "1", "--batch", "1", "--steps", "1"]
    assert main(["bench", "edit", "--editor", "instruct_edit", *words]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["measured"][1]["images_per_second"] > 0
