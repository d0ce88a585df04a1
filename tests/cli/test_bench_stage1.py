"""What `u2s bench stage1` counts."""

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")

from u2s_datasets.cli.bench.random_weights import RandomQwen3VL, qwen3_vl
from u2s_datasets.cli.main import main


def test_a_flag_costs_one_pass_and_no_token(capsys):
    assert main(["bench", "stage1", "--random-weights", "tiny", "--batch", "1,3", "--rows", "5"]) == 0
    printed = capsys.readouterr().out
    facts = json.loads(printed.splitlines()[-1])
    counts = {(m["method"], m["batch"]): m for m in facts["measured"]}
    assert set(counts) == {(method, batch) for method in ("choose", "generate") for batch in (1, 3)}
    for batch, calls in ((1, 5), (3, 2)):
        weighed, written = counts["choose", batch], counts["generate", batch]
        assert (weighed["forward_passes_per_image"], weighed["generated_tokens_per_image"]) == (1, 0)
        assert weighed["calls_of_the_network"] == calls
        assert written["forward_passes_per_image"] == written["generated_tokens_per_image"] > 1
    assert "choose / generate at batch 3" in printed


def test_the_large_one_is_as_large_as_the_real_one():
    import torch

    network, _ = qwen3_vl("8b", "meta", torch.bfloat16)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(8.77e9, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dtype", "foo"], "dtype='foo': choose one of"),
        (["--batch", "8", "--rows", "2"], "rows=2 fill no batch of 8"),
        (["--batch", ""], "batches=[]"),
        (["--model", "org/none", "--random-weights", "tiny"], "give one of them"),
        (["--model", "org/none"], "run: hf download org/none"),
    ],
)
def test_wrong_words_are_named(words, message, capsys):
    assert main(["bench", "stage1", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_an_unknown_size_is_named(capsys):
    assert main(["bench", "stage1", "--random-weights", "70b"]) == 2
    assert "'70b'" in capsys.readouterr().err
    assert RandomQwen3VL("tiny").config()["part"] == "RandomQwen3VL"
