"""OminiControl on a tiny FLUX pipeline, beside the public implementation's recorded outputs.

`golden/ominicontrol.npz` holds the latents that github.com/Yuanshi9815/OminiControl (commit 331dd34) gave for `CASES`
on the pipelines of `tiny_models.dit` with the LoRA of `lora_file`, in float32 on the CPU with torch 2.13, diffusers
0.42.1 and peft, with three changes: the VAE's mode instead of a sample, diffusers' new name for the attention class,
and, in "independent", its training mask without its cache, which ours must match with a cache.
"""

import logging
import math
import pickle
import zlib
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
from u2s_datasets.parts.editors.ominicontrol import OminiControl

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

COAT = "give the person short black hair and a green coat"
HAT = "the woman wearing a hat"
QUICK = {"dtype": "float32", "num_inference_steps": 3, "max_sequence_length": 64}
CASES = {
    "joint": ("flux", COAT, (64, 48), 11, {"num_inference_steps": 28}),
    "weak": ("flux", HAT, (48, 64), 2**40 + 1, {"num_inference_steps": 6, "guidance_scale": 1.5}),
    "without_guidance": ("schnell", COAT, (64, 48), 3, {"num_inference_steps": 4}),
    "moved": ("flux", COAT, (64, 48), 5, {"num_inference_steps": 6, "position_delta": (0, -4)}),
    "independent": ("flux", COAT, (64, 48), 7, {"num_inference_steps": 6, "independent_condition": True}),
}
TRAINED = (
    "x_embedder",
    *(f"transformer_blocks.0.{name}" for name in ("norm1.linear", "attn.to_q", "attn.to_k", "attn.to_v")),
    *(f"transformer_blocks.0.{name}" for name in ("attn.to_out.0", "ff.net.2")),
    *(f"single_transformer_blocks.{i}.{name}" for i in (0, 1) for name in ("norm.linear", "proj_mlp", "proj_out")),
    *(f"single_transformer_blocks.{i}.attn.{name}" for i in (0, 1) for name in ("to_q", "to_k", "to_v")),
)
"""The layers that the public implementation trains."""


def lora_file(path: Path, model: str, names=TRAINED, rank: int = 4, key: str = "transformer.{}.lora_{}.weight") -> str:
    """A LoRA with matrices that depend on the names and shapes of its layers alone."""
    import diffusers
    import safetensors.torch

    transformer = diffusers.FluxTransformer2DModel.from_pretrained(model, subfolder="transformer")
    tensors = {}
    for name in names:
        layer = transformer.get_submodule(name)
        for half, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
            random = np.random.RandomState(zlib.crc32(f"{name} {half}".encode())).standard_normal(shape)
            tensors[key.format(name, half)] = torch.from_numpy(random / math.sqrt(shape[1])).float()
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of each kind of checkpoint."""
    from tests.helpers.tiny_models import dit as tiny

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    return {
        "flux": str(tiny.flux(root / "flux")),
        "schnell": str(tiny.flux(root / "schnell", guidance_embeds=False)),
    }


@pytest.fixture(scope="module")
def lora(models, tmp_path_factory: pytest.TempPathFactory) -> str:
    return lora_file(tmp_path_factory.mktemp("lora") / "default.safetensors", models["flux"])


@pytest.fixture(scope="module")
def editor(models, lora) -> OminiControl:
    return OminiControl(models["flux"], lora=lora, **QUICK)


def photo(width: int, height: int) -> Image.Image:
    """The astronaut's head."""
    return Image.fromarray(data.astronaut()).crop((150, 0, 350, 150)).resize((width, height))


def order(width: int = 64, height: int = 48, seed: int = 1, **how) -> Edit:
    return Edit(photo(width, height), **({"instruction": COAT, "seed": seed} | how))


def latents(editor: OminiControl, *orders: Edit) -> "torch.Tensor":
    with torch.no_grad():
        return editor.latents([batches.prepare(one, 16, 10**6) for one in orders])


@pytest.mark.parametrize("name", CASES)
def test_the_public_implementation_gives_the_same(models, lora, name):
    kind, instruction, size, seed, options = CASES[name]
    recorded = np.load(Path(__file__).parents[2] / "golden" / "ominicontrol.npz")[name]
    made = OminiControl(models[kind], lora=lora, **QUICK | options)
    out = latents(made, order(*size, seed=seed, instruction=instruction))
    assert np.abs(out.numpy() - recorded).max() < 1e-4  # of values up to about 7


def test_a_lora_of_nothing_is_the_models_own_weights_on_the_source(models, lora, tmp_path):
    class Plain(OminiControl):
        def around(self, pipeline):
            from u2s_datasets.parts.editors.flux_branches import Branches

            flux, branches = super().around(pipeline)
            return flux, Branches(branches.base, branches.base)

    plain = latents(Plain(models["flux"], lora=lora, **QUICK), order())
    nothing = latents(OminiControl(models["flux"], lora=lora, lora_scale=0.0, **QUICK), order())
    whole = latents(OminiControl(models["flux"], lora=lora, **QUICK), order())
    assert torch.equal(nothing, plain)
    assert (whole - plain).abs().max() > 0.05


def test_without_a_source_the_branches_are_fluxs_own_two_and_the_lora_touches_neither(editor):
    from u2s_datasets.parts.editors.flux_branches import Branch, embedded

    _, branches = editor.loaded
    base = branches.base
    random = torch.Generator().manual_seed(0)
    text, pooled = torch.randn(2, 9, 32, generator=random), torch.randn(2, 32, generator=random)
    image, t = torch.randn(2, 12, 64, generator=random), torch.tensor([0.3, 0.9])
    scales, places = torch.tensor([3.5, 1.0]), torch.cartesian_prod(*(torch.arange(n).float() for n in (1, 3, 4)))
    with torch.no_grad():
        time = embedded(base, t, scales, pooled)
        words = Branch("text", base.context_embedder(text), time, base.pos_embed(torch.zeros(9, 3)))
        noise = Branch("image", base.x_embedder(image), time, base.pos_embed(places))
        ours = branches.velocity(words, noise, None)
        theirs = base(
            hidden_states=image,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=t,
            guidance=scales,
            txt_ids=torch.zeros(9, 3),
            img_ids=places,
        ).sample
    assert (ours - theirs).abs().max() < 1e-5


def test_the_lora_is_on_the_sources_layers_alone_and_all_other_weights_are_shared(editor):
    from u2s_datasets.parts.editors.lora import LowRank

    _, branches = editor.loaded
    assert not [m for m in branches.base.modules() if isinstance(m, LowRank)]
    changed = {name for name, m in branches.adapted.named_modules() if isinstance(m, LowRank)}
    assert changed == set(TRAINED)
    ours, theirs = ({id(p) for p in t.parameters()} for t in (branches.adapted, branches.base))
    assert ours == theirs


def test_an_independent_source_is_worked_out_once_and_a_joint_one_at_every_step(models, lora):
    def passes(**how) -> int:
        made, calls = OminiControl(models["flux"], lora=lora, **QUICK, **how), []
        low_rank = made.loaded[1].adapted.single_transformer_blocks[1].proj_out
        low_rank.register_forward_hook(lambda *_: calls.append(1))
        latents(made, order())
        return len(calls)

    assert (passes(), passes(independent_condition=True)) == (3, 1)


def test_three_at_once_are_three_single_ones(models, lora):
    orders = [order(seed=1), order(seed=2, instruction=HAT), order(seed=3, strength=1)]
    for how in ({}, {"independent_condition": True}):
        made = OminiControl(models["flux"], lora=lora, **QUICK, **how)
        together = latents(made, *orders)
        for i, one in enumerate(orders):
            assert (together[i] - latents(made, one)[0]).abs().max() < 1e-4


def test_a_mixed_batch_equals_single_calls_in_any_order(models, lora):
    sizes = [(64, 48), (50, 70), (64, 48), (90, 33), (50, 70)]
    orders = [order(*size, seed=i, strength=i % 3) for i, size in enumerate(sizes)]
    made = OminiControl(models["flux"], lora=lora, **QUICK)
    together = [np.asarray(image) for image in made.edit(orders)]
    backwards = [np.asarray(image) for image in made.edit(orders[::-1])][::-1]
    alone = [np.asarray(made.edit([one])[0]) for one in orders]
    for a, b, c, size in zip(together, backwards, alone, sizes, strict=True):
        assert a.shape == (size[1], size[0], 3)
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_source_instruction_and_seed_each_matter(editor):
    usual = latents(editor, order())
    turned = Edit(photo(64, 48).transpose(Image.Transpose.FLIP_LEFT_RIGHT), instruction=COAT, seed=1)
    for other in (turned, order(instruction=HAT), order(seed=2)):
        assert (latents(editor, other) - usual).abs().max() > 0.01
    assert torch.equal(latents(editor, order(source_prompt=HAT, target_prompt=HAT, public_caption=HAT)), usual)


def test_a_further_attempt_follows_the_text_more_closely(models, lora, editor):
    stronger = latents(editor, order(strength=1))
    assert torch.equal(
        stronger, latents(OminiControl(models["flux"], lora=lora, guidance_scale=5.25, **QUICK), order())
    )
    assert not torch.equal(stronger, latents(editor, order()))


def test_a_sparse_source_lies_on_the_same_grid(models, lora):
    """At half size, its tokens stand in the middle of the four that each of them is for."""
    made = OminiControl(models["flux"], lora=lora, position_scale=2, **QUICK)
    places = made._source_places(torch.zeros(1, 16, 4, 6))
    assert places.tolist() == [[0, 2 * y + 0.5, 2 * x + 0.5] for y in range(2) for x in range(3)]
    assert latents(made, order(80, 48)).shape == (1, 16, 6, 10)


def test_names_of_peft_and_of_diffusers_are_the_same_lora(models, editor, tmp_path):
    for i, key in enumerate(("base_model.model.{}.lora_{}.weight", "transformer.{}.lora_{}.default.weight")):
        other = lora_file(tmp_path / str(i) / "lora.safetensors", models["flux"], key=key)
        made = OminiControl(models["flux"], lora=str(Path(other).parent), **QUICK)
        assert torch.equal(latents(made, order()), latents(editor, order()))


def test_layers_that_the_source_does_not_pass_are_left_out_and_reported(models, editor, tmp_path, caplog):
    more = [*TRAINED, "context_embedder", "transformer_blocks.0.ff_context.net.2", "proj_out"]
    made = OminiControl(models["flux"], lora=lora_file(tmp_path / "l.safetensors", models["flux"], more), **QUICK)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(latents(made, order()), latents(editor, order()))
    assert "3 layers that the source does not pass" in caplog.text


def test_what_is_no_lora_of_this_model_is_refused(models, lora, tmp_path):
    import safetensors.torch

    def refused(words: str, tensors: dict) -> None:
        safetensors.torch.save_file(tensors, tmp_path / "l.safetensors")
        with pytest.raises(SetupError, match=words):
            OminiControl(models["flux"], lora=str(tmp_path / "l.safetensors"), **QUICK).loaded  # noqa: B018

    good = safetensors.torch.load_file(lora)
    first, second = sorted(good)[:2]
    refused("has one matrix of two", {first: good[first]})
    refused("no matrix of a LoRA", {"x_embedder.weight": torch.zeros(2, 2)})
    refused("its matrices are", {first: torch.zeros(4, 7), second: good[second]})
    deep = {key.replace("blocks.0.", "blocks.7."): value for key, value in good.items()}
    refused("is of another model", deep)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lora": ""}, "the paper's is not public"),
        ({"lora": "org/none"}, r"hf download org/none$"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"max_sequence_length": 513}, "max_sequence_length=513"),
        ({"position_scale": 0}, "position_scale=0"),
        ({"model": "org/none"}, r"hf download org/none$"),
    ],
)
def test_values_that_cannot_work_are_named(models, lora, options, words):
    with pytest.raises(SetupError, match=words):
        OminiControl(**{"model": models["flux"], "lora": lora} | options).check()


def test_a_folder_with_several_loras_asks_which(models, tmp_path):
    for name in ("a", "b"):
        lora_file(tmp_path / f"{name}.safetensors", models["flux"])
    with pytest.raises(SetupError, match=r"found: a\.safetensors, b\.safetensors"):
        OminiControl(models["flux"], lora=str(tmp_path)).check()
    OminiControl(models["flux"], lora=str(tmp_path), lora_file="b.safetensors").check()
    with pytest.raises(MissingWeights):
        OminiControl(models["flux"]).check()


def test_each_distinct_instruction_is_encoded_once(models, lora):
    made, calls = OminiControl(models["flux"], lora=lora, **QUICK), []
    for name in ("text_encoder", "text_encoder_2"):
        getattr(made.loaded[0].pipeline, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    made.edit([order(seed=i) for i in range(3)])
    made.edit([order(seed=9), order(seed=8, instruction=HAT)])
    assert sorted(calls) == ["text_encoder"] * 2 + ["text_encoder_2"] * 2


def test_an_order_without_an_instruction_fails_alone(editor):
    with pytest.raises(PartlyFailed) as caught:
        editor.edit([order(), order(instruction=" ")])
    first, second = caught.value.results
    assert first.size == (64, 48) and isinstance(second, EditFailed) and "instruction" in str(second)


@pytest.mark.parametrize(("dtype", "grey_levels"), [("bfloat16", 20), ("float16", 1)])
def test_half_precision_gives_nearly_the_same_picture(models, lora, editor, dtype, grey_levels):
    (exact,) = editor.edit([order()])
    (rounded,) = OminiControl(models["flux"], lora=lora, **QUICK | {"dtype": dtype}).edit([order()])
    assert np.abs(np.asarray(exact).astype(int) - np.asarray(rounded)).mean() < grey_levels  # another seed: 57


def test_its_state_is_its_configuration_and_its_weights(models, lora, tmp_path):
    made = OminiControl(models["flux"], lora=lora, **QUICK)
    before = pickle.dumps(made)
    (first,) = made.edit([order()])
    assert pickle.dumps(made) == before
    assert np.array_equal(np.asarray(pickle.loads(before).edit([order()])[0]), np.asarray(first))
    assert lora not in str(made.config())
    path = tmp_path / "l.safetensors"
    states = [pickle.dumps(OminiControl(lora=lora_file(path, models["flux"], rank=rank))) for rank in (2, 3)]
    assert states[0] != states[1]


def test_the_whole_step_anonymizes_a_photo_or_withholds_it_with_a_reason(models, lora):
    from datasets import Dataset

    original = Image.fromarray(data.astronaut())
    texts = {columns.PRIVATE_CAPTION: "Alice", columns.PUBLIC_CAPTION: "a person"}
    texts |= {columns.EDIT_INSTRUCTION: COAT, columns.EDIT_CAPTION: "a person in a green coat"}
    rows = Dataset.from_dict({"image": [original]} | {name: [text] for name, text in texts.items()})
    made = OminiControl(models["flux"], lora=lora, **QUICK, max_pixels=128 * 128)
    (row,) = rows.map(u2s.Anonymize(editor=made, inspect=u2s.Inspect(detectors=(u2s.Faces(),))), batched=True)
    assert '"OminiControl"' in row[columns.PROVENANCE]
    if row[columns.STATUS] == columns.WITHHELD:
        assert row[columns.NOTE] and row[columns.ANONYMIZED_IMAGE] is None
        return
    assert row[columns.STATUS] == columns.ANONYMIZED
    assert row[columns.ANONYMIZED_IMAGE].size == original.size
    difference = np.abs(np.asarray(row[columns.ANONYMIZED_IMAGE]).astype(int) - np.asarray(original))
    assert (difference > 8).mean() > 0.5
