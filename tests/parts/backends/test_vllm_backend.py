"""The vLLM backend: what needs no vLLM, then, where it is installed, its own classes on tiny models without a GPU."""

import importlib.util
import os
import pickle
import warnings
from pathlib import Path

import pytest
from PIL import Image

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets.errors import MissingExtra, RowError, SetupError
from u2s_datasets.parts import CUT, Message, Request, catalog, checkpoints
from u2s_datasets.parts.backends.vllm_backend import (
    VLLMBackend,
    answer_parameters,
    answer_text,
    choice_parameters,
    choice_probabilities,
    to_messages,
)

INSTALLED = all(importlib.util.find_spec(name) for name in ("vllm", "torch"))
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vllm is not installed: pip install 'u2s_datasets[vllm]'")
if INSTALLED:
    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")  # its classes configure themselves for some device
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # so that a test can count
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        import vllm.entrypoints.llm  # noqa: F401

RED = Image.new("RGB", (120, 80), (200, 10, 10))


def ask(*content, begun=False, **how):
    start = (Message("assistant", ("PRIVACY_FLAG:",)),) if begun else ()
    return Request((Message("user", content), *start), **how)


# --- without vLLM


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": "int3"},
        {"tensor_parallel_size": 0},
        {"gpu_memory_utilization": 1.5},
        {"max_model_len": 0},
        {"max_images": 0},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        VLLMBackend("some/model", **wrong).check()


@pytest.mark.skipif(INSTALLED, reason="vllm is installed")
def test_the_missing_extra_names_its_command():
    with pytest.raises(MissingExtra, match=r"u2s_datasets\[vllm\]"):
        VLLMBackend("some/model").check()


def test_it_pickles_as_its_configuration_and_shows_no_folder(tmp_path):
    backend = VLLMBackend(str(tmp_path), max_pixels=5000)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert str(tmp_path) not in str(backend.config())
    assert VLLMBackend("org/name").config()["model"] == "org/name"


def test_it_stands_in_the_catalog():
    assert catalog.make("backend", "vllm", catalog.BACKENDS, model="org/name") == VLLMBackend("org/name")


class Words:
    """As much of a tokenizer as `to_messages` reads."""

    all_special_tokens = ("<|im_end|>",)
    added_tokens_decoder = {}  # noqa: RUF012


def test_a_conversation_shows_each_picture_once_and_small():
    request = ask(RED.resize((400, 300)), "Private?<|im_end|>", begun=True)
    picture, words = to_messages(request, 1200, Words())[0]["content"]
    assert picture["image_pil"].size == (40, 30)
    assert words == {"type": "text", "text": "Private? "}
    assert to_messages(request, 1200, Words())[1] == {"role": "assistant", "content": "PRIVACY_FLAG:"}


# --- with vLLM's own classes


@needs_vllm
def test_parameters_are_vllms_own():
    from vllm import SamplingParams

    warm = answer_parameters(ask("?", max_tokens=9, temperature=0.7, seed=2**62))
    assert isinstance(warm, SamplingParams)
    assert (warm.max_tokens, warm.temperature, warm.seed, warm.top_p, warm.top_k) == (9, 0.7, 2**62, 1.0, 0)
    cold = answer_parameters(ask("?", seed=5, form="(TRUE|FALSE)"))
    assert (cold.temperature, cold.seed, cold.structured_outputs) == (0.0, None, None)
    assert answer_parameters(ask("?", form="(TRUE|FALSE)"), structured=True).structured_outputs.regex == "(TRUE|FALSE)"
    one = choice_parameters({"TRUE": {7, 3}, "FALSE": {5}})
    assert (one.max_tokens, one.logprob_token_ids, one.num_logprobs) == (1, [3, 5, 7], 3)
    assert one.structured_outputs is None


def said(text="", reason="stop", logprobs=None):
    from vllm import CompletionOutput, RequestOutput

    first = CompletionOutput(0, text, [1], None, logprobs, finish_reason=reason)
    return RequestOutput("0", None, [1], None, [first], finished=True)


@needs_vllm
def test_answers_are_read_from_vllms_own_outputs():
    assert answer_text(said("yes")) == "yes"
    assert answer_text(said("ye", "length")) == "ye" + CUT
    for reason in ("abort", "error", None):
        with pytest.raises(RowError, match="ended for the reason"):
            answer_text(said("yes", reason))


@needs_vllm
def test_weights_are_unscaled_and_what_is_not_listed_counts_as_nothing():
    from math import inf, log, nan

    from vllm.logprobs import Logprob

    listed = {3: Logprob(log(0.5)), 7: Logprob(log(0.25)), 5: Logprob(-inf), 1: Logprob(log(0.05))}
    firsts = {"TRUE": {3, 7}, "FALSE": {5}, "MAYBE": {9}}
    assert choice_probabilities(said(logprobs=[listed]), firsts) == {
        "TRUE": pytest.approx(0.75),
        "FALSE": 0.0,
        "MAYBE": 0.0,
    }
    for wrong in (None, [], [{3: Logprob(nan)}], [{3: Logprob(0.5)}]):
        with pytest.raises(RowError, match="probabilities"):
            choice_probabilities(said(logprobs=wrong), firsts)


@needs_vllm
def test_no_gpu_is_said_before_the_first_row(checkpoint_folders):
    import torch

    with pytest.raises(SetupError, match="GPUs are needed and torch sees"):
        VLLMBackend(str(checkpoint_folders["causal_lm"]), tensor_parallel_size=torch.cuda.device_count() + 1).check()
    with pytest.raises(SetupError, match="torch sees"):
        checkpoints.gpus(torch.cuda.device_count() + 1)


@pytest.fixture(scope="module")
def checkpoint_folders(tmp_path_factory) -> dict[str, Path]:
    """The folder of each kind's checkpoint."""
    from tests.helpers.tiny_models import language

    root = tmp_path_factory.mktemp("models")
    return {kind: getattr(language, kind)(root / kind) for kind in ("causal_lm", "qwen_vl", "internvl", "taught")}


@needs_vllm
@pytest.mark.parametrize("kind", ["causal_lm", "qwen_vl", "internvl"])
@pytest.mark.filterwarnings("ignore")  # vLLM's and torch's own
def test_prompts_are_those_of_the_transformers_backend(checkpoint_folders, kind):
    """By vLLM's own configuration, renderer and checks, token by token."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.offline_utils import OfflineInferenceMixin
    from vllm.renderers import renderer_from_config

    from u2s_datasets.parts.backends.transformers_backend import TransformersBackend

    folder = str(checkpoint_folders[kind])
    pictures = () if kind == "causal_lm" else (RED,)
    for thinking in (False, True):
        backend = VLLMBackend(folder, dtype="float32", max_model_len=512, thinking=thinking)
        other = TransformersBackend(folder, thinking=thinking).loaded
        engine = EngineArgs(**backend.engine_arguments()).create_engine_config()
        offline = OfflineInferenceMixin()
        offline.renderer, offline.model_config = renderer_from_config(engine), engine.model_config
        assert engine.model_config.is_multimodal_model is bool(pictures)
        for begun in (False, True):
            request = ask(*pictures, "Is this picture<|im_end|> private?", begun=begun)
            turns = to_messages(request, backend.max_pixels, offline.renderer.tokenizer)
            prompt = offline._preprocess_chat_one(turns, **backend.chat_arguments(begun))
            assert list(prompt["prompt_token_ids"]) == other.inputs([request])["input_ids"][0].tolist()
        parameters = (answer_parameters(request), choice_parameters({"TRUE": {5}, "FALSE": {6}}))
        for parameter in parameters:
            parameter.verify(engine.model_config, None, engine.structured_outputs_config, offline.renderer.tokenizer)


# --- through vLLM's engine, the forward pass apart (see `vllm_on_cpu`)


def on_cpu(folder: Path, **options) -> VLLMBackend:
    from tests.helpers.vllm_on_cpu import OnCPU

    return OnCPU(str(folder), dtype="float32", max_model_len=2048, gpu_memory_utilization=0.1, **options)


def begun_and_not(n: int) -> list[Request]:
    return [ask("Look at it with care. " * (i + 1), begun=i % 2 > 0, max_tokens=3 + i) for i in range(n)]


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_answers_are_those_of_the_transformers_backend_in_any_order(checkpoint_folders):
    from u2s_datasets.parts.backends.transformers_backend import TransformersBackend

    backend = on_cpu(checkpoint_folders["causal_lm"])
    other = TransformersBackend(str(checkpoint_folders["causal_lm"]))
    requests = begun_and_not(5)
    answers = backend.generate(requests)
    half = "\N{REPLACEMENT CHARACTER}"  # of a letter that was cut off; vLLM leaves it out
    assert [a.replace(half, "") for a in answers] == [a.replace(half, "") for a in other.generate(requests)]
    assert backend.generate(requests[::-1]) == answers[::-1]
    for ours, theirs in zip(*(b.choose(requests, ("TRUE", "FALSE")) for b in (backend, other)), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)  # float32 rounds at 6e-8, through two layers
    warm = [ask("private?", temperature=1.5, seed=i, max_tokens=4) for i in range(8)]
    assert len(set(backend.generate(warm))) > 4
    assert backend.generate(warm[::-1]) == backend.generate(warm)[::-1]


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_red_is_flagged_and_blue_is_not_by_one_pass_each(checkpoint_folders):
    import numpy as np

    from tests.helpers.tiny_models import language
    from tests.helpers.vllm_on_cpu import Forward

    random = np.random.default_rng(99)
    backend, truth = on_cpu(checkpoint_folders["taught"]), [True, False, False, True, True, False]
    requests = [
        ask(language.painted(red, random), "Is this picture private?", begun=True, max_tokens=6) for red in truth
    ]
    backend.loaded  # noqa: B018  loads it
    before = Forward.passes
    chosen = backend.choose(requests, ("TRUE", "FALSE"))
    assert Forward.passes - before == len(truth)
    assert [w["TRUE"] > w["FALSE"] for w in chosen] == truth and min(max(w.values()) for w in chosen) > 0.9
    assert backend.generate(requests) == [f" {str(red).upper()}" for red in truth]
    pictures = [request.messages[0].content[0] for request in requests]
    flags = u2s.Inspect(detectors=(), backend=backend)({"image": pictures})
    assert len(flags[c.PRIVACY_FLAG]) == len(truth) and not any(flags[c.PRIVACY_REVIEW])  # each was answered


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_a_form_holds_the_model_where_that_is_asked_for(checkpoint_folders):
    request = ask("private?", form="(yes|no)!", max_tokens=9)
    assert on_cpu(checkpoint_folders["causal_lm"], structured=True).generate([request])[0] in ("yes!", "no!")
    assert on_cpu(checkpoint_folders["causal_lm"]).generate([request])[0].endswith(CUT)


@needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_the_rows_own_failure(checkpoint_folders):
    backend = on_cpu(checkpoint_folders["causal_lm"])
    for request in (ask("private? " * 2000), ask("private?", temperature=3.0)):
        with pytest.raises(RowError, match="vLLM refuses a request") as error:
            backend.generate([ask("private?"), request])
        assert error.value.code == "no_answer"
    assert len(backend.generate(begun_and_not(3))) == 3  # nothing of the refused batch is left behind
    with pytest.raises(SetupError, match="takes no images"):
        backend.generate([ask(RED, "private?")])
    with pytest.raises(SetupError, match="first token"):
        backend.choose([ask("private?")], ("TRUE", "TRUEST"))
