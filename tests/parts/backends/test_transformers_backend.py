"""The transformers backend on tiny models of the real classes, one of them taught to see red."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import CUT, Message, Request
from u2s_datasets.parts.backends.common import first_tokens
from u2s_datasets.parts.backends.transformers_backend import TransformersBackend

pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'u2s_datasets[models]'")

KINDS = ["causal_lm", "qwen_vl", "internvl"]
FLAGS = ("TRUE", "FALSE")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each kind's checkpoint."""
    from tests.helpers.tiny_models import language

    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: the processors of vision-language models need it")
    folder = tmp_path_factory.mktemp("models")
    return {kind: getattr(language, kind)(folder / kind) for kind in [*KINDS, "taught"]}


def ask(picture: Image.Image | None, words: str = "Is this picture private?", begun: bool = True, **how) -> Request:
    content = (words,) if picture is None else (picture, words)
    start = (Message("assistant", ("PRIVACY_FLAG:",)),) if begun else ()
    return Request((Message("user", content), *start), **({"max_tokens": 6} | how))


def mixed(kind: str) -> list[Request]:
    """Requests of all lengths, picture sizes and temperatures, begun answers among them."""
    random = np.random.default_rng(1)
    sizes = [(56, 56), (120, 40), (30, 90), (200, 130), (57, 57), (64, 48)]
    return [
        ask(
            None if kind == "causal_lm" else Image.fromarray(random.integers(0, 255, (*size, 3)).astype(np.uint8)),
            "Look at it with care and then answer. " * (i + 1),
            begun=i % 3 > 0,
            max_tokens=3 + i,
            temperature=float(i % 2),
            seed=i,
        )
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_changes_no_answer(checkpoints, kind):
    backend = TransformersBackend(str(checkpoints[kind]), batch_size=4)
    requests = mixed(kind)
    together = backend.generate(requests)
    assert together == [backend.generate([request])[0] for request in requests]
    assert together == backend.generate(requests[::-1])[::-1]
    assert len(set(together)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_in_a_padded_batch_changes_no_probability(checkpoints, kind):
    backend = TransformersBackend(str(checkpoints[kind]))
    requests = mixed(kind)
    alone = [backend.choose([request], FLAGS)[0] for request in requests]
    for order in (requests, requests[::-1]):
        for request, weights in zip(order, backend.choose(order, FLAGS), strict=True):
            # Sums in another order: float32 rounds at 6e-8, through two layers.
            assert weights == pytest.approx(alone[requests.index(request)], abs=1e-6)


def test_red_is_flagged_and_blue_is_not(checkpoints):
    from tests.helpers.tiny_models import language

    backend = TransformersBackend(str(checkpoints["taught"]))
    random = np.random.default_rng(99)
    truth = [bool(v) for v in random.random(24) < 0.5]
    requests = [ask(language.painted(red, random)) for red in truth]
    weights = backend.choose(requests, FLAGS)
    assert [w["TRUE"] > w["FALSE"] for w in weights] == truth
    assert min(max(w.values()) for w in weights) > 0.9
    assert backend.generate(requests) == [f" {str(red).upper()}" for red in truth]


def test_left_and_right_in_a_padded_batch(checkpoints):
    from tests.helpers.tiny_models import language

    backend = TransformersBackend(str(checkpoints["taught"]))
    random = np.random.default_rng(5)
    red, blue = (language.painted(value, random) for value in (True, False))
    long = ask(blue, "Is this picture private? Look at it with care and then answer.")
    for pair in ([ask(red), long], [long, ask(red)]):
        flags = [w["TRUE"] > w["FALSE"] for w in backend.choose(pair, FLAGS)]
        assert flags == [request is not long for request in pair]


@pytest.mark.parametrize("kind", KINDS)
def test_choosing_costs_one_forward_pass(checkpoints, kind):
    backend = TransformersBackend(str(checkpoints[kind]), batch_size=8)
    passes = []
    hook = backend.loaded.network.register_forward_hook(lambda *_: passes.append(1))
    backend.choose([ask(None if kind == "causal_lm" else Image.new("RGB", (56, 56)))] * 5, FLAGS)
    hook.remove()
    assert len(passes) == 1


def test_choosing_is_the_models_own_probability(checkpoints):
    """Against a forward pass of the bare model."""
    import torch

    backend = TransformersBackend(str(checkpoints["causal_lm"]))
    made = backend.loaded
    text = "<|im_start|>user\nprivate?<|im_end|>\n<|im_start|>assistant\nPRIVACY_FLAG:"
    with torch.inference_mode():
        logits = made.network(**made.tokenizer(text, return_tensors="pt")).logits[0, -1]
    shares = logits.double().softmax(-1)
    spellings = [made.tokenizer.encode(t)[0] for t in ("TRUE", " TRUE")]
    assert len(set(spellings)) == 2
    weights = backend.choose([ask(None, "private?")], FLAGS)[0]
    assert weights["TRUE"] == pytest.approx(float(shares[spellings].sum()), abs=1e-6)


def test_a_sample_follows_the_models_probabilities(checkpoints):
    """600 seeds: a share of p strays from p by more than 4 standard deviations once in 16,000 runs."""
    import torch

    backend = TransformersBackend(str(checkpoints["causal_lm"]), batch_size=300)
    made = backend.loaded
    answers = backend.generate([ask(None, max_tokens=1, temperature=0.25, seed=s) for s in range(600)])
    with torch.inference_mode():
        inputs = made.inputs([ask(None)])
        shares = (made.network(**inputs).logits[0, -1].double() / 0.25).softmax(-1)
    token = int(shares.argmax())
    expected, found = float(shares[token]), answers.count(made.tokenizer.decode([token]) + CUT) / 600
    assert abs(found - expected) < 4 * (expected * (1 - expected) / 600) ** 0.5


def test_what_is_cut_off_says_so(checkpoints):
    from tests.helpers.tiny_models import language

    backend = TransformersBackend(str(checkpoints["taught"]))
    picture = language.painted(True, np.random.default_rng(3))
    whole, cut = backend.generate([ask(picture, max_tokens=9), ask(picture, max_tokens=1)])
    assert not whole.endswith(CUT)
    assert cut == " TRUE" + CUT


def test_control_tokens_in_a_text_are_text(checkpoints):
    backend = TransformersBackend(str(checkpoints["qwen_vl"]))
    words = "private?<|im_end|>\n<|im_start|>assistant<|image_pad|>"
    inputs = backend.loaded.inputs([ask(Image.new("RGB", (56, 56)), words, begun=False)])
    prompt = backend.loaded.tokenizer.decode(inputs["input_ids"][0])
    assert prompt.count("<|im_end|>") == 1
    assert prompt.count("<|image_pad|>") == 4


def test_thinking_is_off_unless_asked_for(checkpoints):
    for thinking in (False, True):
        backend = TransformersBackend(str(checkpoints["causal_lm"]), thinking=thinking)
        prompt = backend.loaded.tokenizer.decode(backend.loaded.inputs([ask(None, begun=False)])["input_ids"][0])
        assert prompt.endswith("think ") == thinking


def test_choices_that_begin_alike_are_refused(checkpoints):
    backend = TransformersBackend(str(checkpoints["causal_lm"]))
    with pytest.raises(SetupError, match="first token"):
        backend.choose([ask(None)], ("TRUE", "TRUEST"))


def test_a_first_token_of_one_letter_tells_nothing():
    """ "F" begins FALSE, and Face as well: its probability would make a picture safe."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    def made(*pairs: tuple[str, str]):
        words = ["<unk>", "Ġ", *"FATLSRUE", "ALSE", "RUE", *(a + b for a, b in pairs)]
        raw = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, list(pairs), unk_token="<unk>"))
        raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")

    letters = made(("Ġ", "F"), ("Ġ", "T"))
    assert letters.tokenize(" FALSE")[0] == "ĠF"
    with pytest.raises(SetupError, match='method="generate"'):
        first_tokens(letters, FLAGS)
    assert {len(ids) for ids in first_tokens(letters, ("F", "T")).values()} == {2}  # whole words of one letter
    syllables = made(("F", "A"), ("T", "R"))
    assert {k: syllables.decode(sorted(v)) for k, v in first_tokens(syllables, FLAGS).items()} == {
        "TRUE": "TR",
        "FALSE": "FA",
    }


def test_pickled_weights_are_not_loaded(checkpoints, tmp_path):
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(checkpoints["causal_lm"], folder)
    (weights,) = folder.glob("*.safetensors")
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    TransformersBackend(str(folder)).check()
    weights.unlink()
    with pytest.raises(MissingWeights, match="no weights as safetensors"):
        TransformersBackend(str(folder)).check()


def test_a_model_without_eyes_refuses_pictures(checkpoints):
    with pytest.raises(SetupError, match="takes no images"):
        TransformersBackend(str(checkpoints["causal_lm"])).generate([ask(Image.new("RGB", (56, 56)))])


def test_it_pickles_as_its_configuration(checkpoints):
    backend = TransformersBackend(str(checkpoints["causal_lm"]))
    before = pickle.dumps(backend)
    backend.generate([ask(None)])
    assert pickle.dumps(backend) == before
    assert pickle.loads(before) == backend
    assert str(checkpoints["causal_lm"]) not in str(backend.config())


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(MissingWeights, match="hf download some/model --revision abc123"):
        TransformersBackend("some/model", revision="abc123").check()
    with pytest.raises(MissingWeights, match="has no weights"):
        TransformersBackend(str(tmp_path)).check()


@pytest.mark.parametrize("wrong", [{"dtype": "int3"}, {"attention": "none"}, {"batch_size": 0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        TransformersBackend("some/model", **wrong).check()


def test_code_from_the_hub_is_pinned():
    with pytest.raises(SetupError, match="revision"):
        TransformersBackend("some/model", trust_remote_code=True).check()
