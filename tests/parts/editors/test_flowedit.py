"""FlowEdit on tiny SD3 and FLUX pipelines, beside the public implementation's recorded outputs.

`golden/flowedit.npz` holds what FlowEditSD3 and FlowEditFLUX of github.com/fallenshock/FlowEdit (commit 457f402) gave
for `CASES` on the pipelines of `tiny_models.dit`, in float32 on the CPU with torch 2.13 and diffusers 0.42.1, after
two repairs: an undefined name in its SD3 branch for n_min above 0, and the VAE's scale, which diffusers has halved
since.
"""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import u2s_datasets as u2s
from u2s_datasets import columns
from u2s_datasets.errors import EditFailed, MissingWeights, PartlyFailed, SetupError
from u2s_datasets.parts import Edit
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors.diffusion import pixels_of
from u2s_datasets.parts.editors.flowedit import FlowEdit

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

WOMAN = "a photo of a woman with long red hair wearing a blue uniform"
OTHER = "a photo of a different person, short black hair, green coat"
QUICK = {"dtype": "float32", "num_inference_steps": 5, "n_max": 3}


def numbers(steps: int, n_avg: int, n_min: int, n_max: int, source: float, target: float, **more) -> dict:
    scales = {"source_guidance_scale": source, "target_guidance_scale": target}
    return {"num_inference_steps": steps, "n_avg": n_avg, "n_min": n_min, "n_max": n_max} | scales | more


CASES = {
    "sd3": ("sd3", WOMAN, OTHER, 42, numbers(12, 1, 0, 8, 3.5, 13.5)),
    "sd3_50_steps": ("sd3", OTHER, "red hair", 7, numbers(50, 1, 0, 33, 3.5, 13.5, negative_prompt="blue")),
    "sd3_sampled": ("sd3", "", OTHER, 2**40 + 1, numbers(12, 2, 3, 8, 3.5, 7.5)),
    "flux": ("flux", WOMAN, OTHER, 42, numbers(28, 1, 0, 24, 1.5, 5.5)),
    "flux_sampled": ("flux", OTHER, WOMAN, 3, numbers(12, 2, 3, 9, 1.5, 5.5)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of each kind of checkpoint."""
    from tests.helpers.tiny_models import dit as tiny

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    return {kind: str(getattr(tiny, kind)(root / kind)) for kind in ("sd3", "flux")}


def photo(width: int, height: int) -> Image.Image:
    """The astronaut's head."""
    return Image.fromarray(data.astronaut()).crop((150, 0, 350, 150)).resize((width, height))


def order(width: int = 64, height: int = 48, seed: int = 1, **how) -> Edit:
    return Edit(photo(width, height), **({"source_prompt": WOMAN, "target_prompt": OTHER, "seed": seed} | how))


def prepared(*orders: Edit) -> list[batches.Prepared]:
    return [batches.prepare(one, 16, 10**6) for one in orders]


@pytest.mark.parametrize("name", CASES)
def test_the_public_implementation_gives_the_same(models, name):
    kind, source, target, seed, options = CASES[name]
    recorded = np.load(Path(__file__).parents[2] / "golden" / "flowedit.npz")
    editor = FlowEdit(models[kind], dtype="float32", **options)
    one = order(source_prompt=source, target_prompt=target, seed=seed)
    with torch.no_grad():
        latents = editor.latents(prepared(one))
    # Latents are of order 1 to 10; nudging the input by 1e-6 changes them by 1e-5.
    assert np.abs(latents.numpy() - recorded[f"{name}_latents"]).max() < 1e-4
    image = np.asarray(editor.edit([one])[0]).astype(int)
    assert np.abs(image - recorded[f"{name}_image"]).max() <= 1


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_a_mixed_batch_equals_single_calls_in_any_order(models, kind):
    sizes = [(64, 48), (50, 70), (64, 48), (90, 33), (50, 70)]
    orders = [order(*size, seed=i, source_prompt=WOMAN * (i % 2), strength=i % 3) for i, size in enumerate(sizes)]
    editor = FlowEdit(models[kind], **QUICK)
    together = [np.asarray(image) for image in editor.edit(orders)]
    backwards = [np.asarray(image) for image in editor.edit(orders[::-1])][::-1]
    alone = [np.asarray(FlowEdit(models[kind], **QUICK).edit([one])[0]) for one in orders]
    for a, b, c, size in zip(together, backwards, alone, sizes, strict=True):
        assert a.shape == (size[1], size[0], 3)
        assert np.array_equal(a, b) and np.array_equal(a, c)


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_three_at_once_are_three_single_ones(models, kind):
    editor = FlowEdit(models[kind], n_avg=2, n_min=1, **QUICK)
    orders = prepared(order(seed=1), order(seed=2, target_prompt="a cat"), order(seed=3, strength=1))
    together = editor.run(orders)
    for i, one in enumerate(orders):
        assert (together[i] - editor.run([one])[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("kind", "rows"), [("sd3", 4), ("flux", 2)])
def test_one_pass_for_all_rows_of_a_draw(models, kind, rows):
    seen = []
    editor = FlowEdit(models[kind], n_avg=2, n_min=1, **QUICK)
    transformer = editor.loaded[0].pipeline.transformer
    transformer.register_forward_pre_hook(
        lambda _, __, given: seen.append(len(given["hidden_states"])), with_kwargs=True
    )
    editor.run(prepared(order(seed=1), order(seed=2), order(seed=3)))
    assert seen == [3 * rows] * 4 + [3 * rows // 2]  # two steps of two draws, then one of the target alone


@pytest.mark.parametrize(("kind", "texts"), [("sd3", 3), ("flux", 2)])
def test_each_distinct_text_is_encoded_once(models, kind, texts):
    editor = FlowEdit(models[kind], **QUICK)
    pipeline, calls = editor.loaded[0].pipeline, []
    names = [name for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if hasattr(pipeline, name)]
    for name in names:
        getattr(pipeline, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    editor.edit([order(seed=i) for i in range(4)])
    editor.edit([order(seed=9), order(seed=8, source_prompt=OTHER, target_prompt=WOMAN)])
    assert sorted(calls) == sorted(names * texts)  # the negative prompt, in SD3, and the two others


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_the_same_prompt_and_scale_twice_leave_the_picture_as_the_vae_has_it(models, kind):
    scales = {"source_guidance_scale": 4.0, "target_guidance_scale": 4.0}
    editor = FlowEdit(models[kind], **QUICK, **scales)
    (one,) = prepared(order(target_prompt=WOMAN))
    model, _ = editor.loaded
    with torch.no_grad():
        through_vae = model.decode(model.encode(pixels_of([one])))
    assert (editor.run([one]) - through_vae).abs().max() < 1e-5
    other = FlowEdit(models[kind], **QUICK).run(prepared(order()))
    assert (other - through_vae).abs().mean() > 0.01


def test_a_further_attempt_begins_a_tenth_of_the_steps_earlier(models):
    def edited(strength: int, n_max: int) -> np.ndarray:
        editor = FlowEdit(models["sd3"], dtype="float32", num_inference_steps=20, n_max=n_max)
        return np.asarray(editor.edit([order(strength=strength)])[0])

    assert np.array_equal(edited(1, 5), edited(0, 7))
    assert np.array_equal(edited(5, 13), edited(0, 20))
    assert not np.array_equal(edited(0, 5), edited(0, 7))


def test_the_seed_changes_the_picture(models):
    first, second = FlowEdit(models["flux"], **QUICK).edit([order(seed=1), order(seed=2)])
    assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).mean() > 1


def test_an_overflow_fails_its_order_and_so_does_a_missing_target(models):
    editor = FlowEdit(models["sd3"], **QUICK, target_guidance_scale=3e38)
    with pytest.raises(EditFailed, match="no numbers"):
        editor.edit([order()])
    with pytest.raises(PartlyFailed) as caught:
        FlowEdit(models["sd3"], **QUICK).edit([order(), order(target_prompt="")])
    first, second = caught.value.results
    assert first.size == (64, 48) and "target_prompt" in str(second)


def test_half_precision_gives_nearly_the_same_picture(models):
    (exact,) = FlowEdit(models["sd3"], **QUICK).edit([order()])
    (rounded,) = FlowEdit(models["sd3"], **QUICK | {"dtype": "bfloat16"}).edit([order()])
    assert np.abs(np.asarray(exact).astype(int) - np.asarray(rounded)).mean() < 4  # bfloat16 keeps 3 digits


def test_long_prompts_are_reported_and_never_quoted(models, caplog):
    text = "secretword " * 60
    with caplog.at_level(logging.WARNING):
        FlowEdit(models["sd3"], **QUICK).edit([order(source_prompt=text)])
    assert "the 77 tokens" in caplog.text and "the 256 tokens" in caplog.text
    assert "secret" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        FlowEdit(models["sd3"], **QUICK).edit([order()])
    assert caplog.text == ""


def test_values_left_out_are_those_of_the_checkpoints_family(models):
    def config(kind: str, **given) -> tuple:
        made = FlowEdit(models[kind], **given).config()
        names = ("num_inference_steps", "n_max", "source_guidance_scale", "target_guidance_scale")
        return tuple(made[name] for name in names)

    assert config("sd3") == (50, 33, 3.5, 13.5)
    assert config("flux") == (28, 24, 1.5, 5.5)
    assert config("flux", num_inference_steps=50, n_max=33, target_guidance_scale=13.5) == (50, 33, 1.5, 13.5)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("sd3", {"n_min": 34}, "n_min=34, n_max=33"),
        ("sd3", {"n_max": 0}, "n_max=0"),
        ("sd3", {"n_avg": 0}, "n_avg=0"),
        ("sd3", {"num_inference_steps": 0}, "num_inference_steps=0"),
        ("sd3", {"target_guidance_scale": float("nan")}, "target_guidance_scale=nan"),
        ("sd3", {"max_sequence_length": 513}, "max_sequence_length=513"),
        ("flux", {"negative_prompt": "blurred"}, "FLUX takes none"),
    ],
)
def test_values_that_cannot_work_are_named(models, kind, options, words):
    with pytest.raises(SetupError, match=words):
        FlowEdit(models[kind], dtype="float32", **options).check()


def test_a_checkpoint_of_another_family_is_refused_and_a_missing_one_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(SetupError, match="is a StableDiffusionPipeline; FlowEdit takes a StableDiffusion3Pipeline or"):
        FlowEdit(str(tmp_path)).check()
    with pytest.raises(MissingWeights, match=r"hf download org/none$"):
        FlowEdit("org/none").check()
    assert all(len(FlowEdit(m).revision or "") == 40 for m in (FlowEdit.model, "black-forest-labs/FLUX.1-dev"))


def test_sd3_without_t5_and_flux_without_guidance(tmp_path):
    from tests.helpers.tiny_models import dit as tiny

    for folder in (tiny.sd3(tmp_path / "sd3", t5=False), tiny.flux(tmp_path / "flux", guidance_embeds=False)):
        (image,) = FlowEdit(str(folder), **QUICK).edit([order(60, 40)])
        assert image.size == (60, 40)


def test_an_edit_leaves_the_pipelines_scheduler_as_it_was(models):
    editor = FlowEdit(models["flux"], **QUICK)
    scheduler = editor.loaded[0].pipeline.scheduler
    before = scheduler.timesteps.clone()
    editor.edit([order()])
    assert torch.equal(scheduler.timesteps, before)


def test_its_state_is_its_configuration_before_and_after_the_first_call(models):
    editor = FlowEdit(models["sd3"], **QUICK)
    before = pickle.dumps(editor)
    (first,) = editor.edit([order()])
    assert pickle.dumps(editor) == before
    assert np.array_equal(np.asarray(pickle.loads(before).edit([order()])[0]), np.asarray(first))


def test_the_whole_step_anonymizes_a_photo_or_withholds_it_with_a_reason(models):
    from datasets import Dataset

    original = Image.fromarray(data.astronaut())
    texts = {columns.PRIVATE_CAPTION: WOMAN, columns.PUBLIC_CAPTION: "a person"}
    texts |= {columns.EDIT_INSTRUCTION: "replace the person", columns.EDIT_CAPTION: OTHER}
    rows = Dataset.from_dict({"image": [original]} | {name: [text] for name, text in texts.items()})
    editor = FlowEdit(models["sd3"], **QUICK, max_pixels=128 * 128)
    (row,) = rows.map(u2s.Anonymize(editor=editor, inspect=u2s.Inspect(detectors=(u2s.Faces(),))), batched=True)
    assert '"FlowEdit"' in row[columns.PROVENANCE]
    if row[columns.STATUS] == columns.WITHHELD:
        assert row[columns.NOTE] and row[columns.ANONYMIZED_IMAGE] is None
        return
    assert row[columns.STATUS] == columns.ANONYMIZED
    assert row[columns.ANONYMIZED_IMAGE].size == original.size
    difference = np.abs(np.asarray(row[columns.ANONYMIZED_IMAGE]).astype(int) - np.asarray(original))
    assert (difference > 8).mean() > 0.5


def test_another_number_of_steps_keeps_the_share_of_them_that_edits(models):
    folder = models["sd3"]
    assert FlowEdit(folder).settings().n_max == 33
    assert FlowEdit(folder, num_inference_steps=28).settings().n_max == 19
    assert FlowEdit(folder, num_inference_steps=28, n_max=33).settings().n_max == 33
