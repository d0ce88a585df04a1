"""What the diffusion editors can tell before the first row: values, devices, checkpoints, attention."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

import torch

import u2s_datasets as u2s
from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import checkpoints
from u2s_datasets.parts.weights import WEIGHTS

torch.set_num_threads(1)
NAN, INF = float("nan"), float("inf")
EDITORS = (u2s.FlowEdit, u2s.FreePrompt, u2s.InstructEdit, u2s.SafeInstructPix2Pix, u2s.OminiControl)
PIX2PIX = "StableDiffusionInstructPix2PixPipeline"
OWN = {
    u2s.FlowEdit: "StableDiffusion3Pipeline",
    u2s.FreePrompt: "StableDiffusionPipeline",
    u2s.InstructEdit: PIX2PIX,
    u2s.SafeInstructPix2Pix: PIX2PIX,
    u2s.OminiControl: "FluxPipeline",
}


def checkpoint(folder: Path, name: object) -> str:
    """As much of a checkpoint as `check` looks at."""
    (folder / "unet").mkdir(exist_ok=True)
    (folder / "unet" / "a.safetensors").touch()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return str(folder)


def made(kind, folder: Path, **options):
    lora = {"lora": str(folder / "unet" / "a.safetensors")} if kind is u2s.OminiControl else {}
    own = {} if "model" in options else {"model": checkpoint(folder, OWN[kind])}
    return kind(**own, **lora, **options)


@pytest.mark.parametrize("kind", EDITORS)
def test_the_own_kind_of_checkpoint_is_taken_and_another_is_refused(kind, tmp_path):
    made(kind, tmp_path).check()
    for other in ("AudioLDMPipeline", None):
        with pytest.raises(SetupError, match=f"AudioLDMPipeline.*{OWN[kind]}" if other else OWN[kind]):
            made(kind, tmp_path, model=checkpoint(tmp_path, other)).check()


@pytest.mark.parametrize("kind", EDITORS)
def test_a_checkpoint_without_a_sound_index_is_refused(kind, tmp_path):
    editor = made(kind, tmp_path)
    editor.check()
    for words in ("{", "[]"):
        (tmp_path / "model_index.json").write_text(words)
        with pytest.raises(SetupError, match=r"model_index\.json"):
            editor.check()
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(MissingWeights, match=r"has no model_index\.json"):
        editor.check()


@pytest.mark.parametrize("device", ["cuda:99", "cuda:x", "cuda:-1", "gpu", "", "cpu:1", 0])
@pytest.mark.parametrize("kind", EDITORS)
def test_a_device_that_is_not_here_is_said_before_the_first_row(kind, device, tmp_path):
    with pytest.raises(SetupError, match=f"device={device!r}[;:] .*leave device out$"):
        made(kind, tmp_path, device=device).check()


def test_a_backend_says_so_too(tmp_path):
    with pytest.raises(SetupError, match="device='cuda:99'"):
        u2s.TransformersBackend(str(tmp_path), device="cuda:99").check()
    assert (checkpoints.device("cpu"), checkpoints.device("cpu:0")) == ("cpu", "cpu")


@pytest.mark.parametrize("options", [{"num_inference_steps": "50"}, {"num_inference_steps": 2.5}, {"batch_size": "4"}])
@pytest.mark.parametrize("kind", EDITORS)
def test_what_is_no_whole_number_is_named(kind, options, tmp_path):
    with pytest.raises(SetupError, match=r"=.*; expected an integer (>= 1$|from 1 to )"):
        made(kind, tmp_path, **options).check()


@pytest.mark.parametrize("kind", EDITORS)
def test_an_empty_model_is_not_the_working_folder(kind, tmp_path, monkeypatch):
    made(kind, tmp_path).check()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match="model=''; expected a Hub id"):
        made(kind, tmp_path, model="").check()


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (u2s.InstructEdit, {"guidance_scale": NAN}, "guidance_scale=nan"),
        (u2s.InstructEdit, {"guidance_scale": 1.0}, "guidance_scale=1.0; expected a finite number > 1"),
        (u2s.InstructEdit, {"image_guidance_scale": 0.2}, "image_guidance_scale=0.2; expected a finite number >= 1"),
        (u2s.FreePrompt, {"guidance_scale": INF}, "guidance_scale=inf"),
        (u2s.FreePrompt, {"self_replace_ratio": "0.4"}, "self_replace_ratio='0.4'"),
        (u2s.SafeInstructPix2Pix, {"image_guidance_scale": INF}, "image_guidance_scale=inf"),
        (u2s.OminiControl, {"guidance_scale": NAN}, "guidance_scale=nan"),
        (u2s.FlowEdit, {"n_avg": True}, "n_avg=True"),
    ],
)
def test_what_is_no_number_in_range_is_named(kind, options, words, tmp_path):
    with pytest.raises(SetupError, match=words):
        made(kind, tmp_path, **options).check()


def test_an_attention_backend_that_no_layer_takes_is_refused_and_one_that_all_take_is_set(tmp_path):
    from tests.helpers.tiny_models import dit, unet

    sd = unet.stable_diffusion(tmp_path / "sd")
    sd3, flux = dit.sd3(tmp_path / "sd3"), dit.flux(tmp_path / "flux")
    options = {"dtype": "float32", "device": "cpu", "attention": "_native_math"}
    for editor in (u2s.FreePrompt(str(sd), **options), u2s.FlowEdit(str(sd3), **options)):
        with pytest.raises(
            SetupError, match=r"attention='_native_math': diffusers' .*Model takes no attention backend"
        ):
            editor.loaded  # noqa: B018
    model, _ = u2s.FlowEdit(str(flux), **options).loaded
    processors = model.pipeline.transformer.attn_processors.values()
    assert {processor._attention_backend.value for processor in processors} == {"_native_math"}
    model.pipeline.transformer.reset_attention_backend()  # it is the process's own too
    with pytest.raises(SetupError, match="attention='quick' cannot be used here"):
        u2s.FlowEdit(str(flux), **options | {"attention": "quick"}).loaded  # noqa: B018


def test_every_editor_takes_its_commits_from_one_list():
    for kind in EDITORS:
        for model in (kind.model, "black-forest-labs/FLUX.1-dev", "stabilityai/stable-diffusion-3.5-medium"):
            assert kind(model=model).revision == kind(model=model, revision=None).revision == WEIGHTS[model].revision
        assert kind(model="org/other").revision is None
        assert kind(revision="main").revision == kind("org/other", "main").revision == "main"
