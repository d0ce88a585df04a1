"""Safe cross-attention on a tiny InstructPix2Pix, beside its formulas written out."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import u2s_datasets as u2s
from tests.helpers.tiny_models import unet as tiny
from u2s_datasets import columns as c
from u2s_datasets.errors import EditFailed, PartlyFailed, SetupError
from u2s_datasets.parts import Edit
from u2s_datasets.parts.editors import (
    batches,
    safe_modules,
)
from u2s_datasets.parts.editors.safe_attention import FILE, SafeInstructPix2Pix

torch.set_num_threads(1)
# diffusers' ancestral Euler hands a tensor to numpy in a way that numpy 2 wants otherwise
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
PUBLIC, CHANGE = "a person stands in front of a rocket", "turn the hair green"


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.astronaut()[:400, 100:400]).resize((width, height))


ORDERS = [
    Edit(photo(64, 48), public_caption=PUBLIC, instruction=CHANGE, seed=1),
    Edit(photo(61, 83), public_caption="a dog", instruction="a cat instead", seed=2),
    Edit(photo(64, 48), public_caption="a lake", instruction=CHANGE, seed=3),
    Edit(photo(64, 48), public_caption=PUBLIC, instruction="a blue coat", seed=1, strength=1),
    Edit(photo(200, 40), public_caption=PUBLIC, instruction=CHANGE, seed=5),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.instruct_pix2pix(tmp_path_factory.mktemp("ip2p"))


def editor(model: Path, **options) -> SafeInstructPix2Pix:
    options = {"num_inference_steps": 4, "max_pixels": 64 * 64} | options
    return SafeInstructPix2Pix(model=str(model), dtype="float32", device="cpu", **options)


def plain(model: Path, order: Edit, processor=None, public: str | None = None) -> np.ndarray:
    """What diffusers' own pipeline makes of an order, (H, W, 3) in [0, 1]; with `public`, the text is
    [public; instruction], for a processor that divides it."""
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    if processor is not None:
        pipeline.unet.set_attn_processor(processor)
    texts = [order.instruction] if public is None else [public, order.instruction]
    embedded = [pipeline._encode_prompt(text, "cpu", 1, False) for text in texts]
    empty = [pipeline._encode_prompt("", "cpu", 1, False)] * len(texts)
    return pipeline(
        image=order.image,
        prompt_embeds=torch.cat(embedded, dim=1),
        negative_prompt_embeds=torch.cat(empty, dim=1),
        num_inference_steps=4,
        image_guidance_scale=1.5,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(order.seed),
        output_type="np",
    ).images[0]


def made_by(made: SafeInstructPix2Pix, *orders: Edit) -> np.ndarray:
    """(N, H, W, 3) in [0, 1], of one batch."""
    return made.run([batches.prepare(order, 8, 10**6) for order in orders]).permute(0, 2, 3, 1).numpy()


class WrittenOut:
    """A cross-attention as the paper's module is at the start: on the instruction, plus on both texts, with the same
    projections; self-attention as ever."""

    def attend(self, attn, x, context):
        query, key, value = (
            layer(rows).unflatten(-1, (attn.heads, -1)).movedim(-2, 1)
            for layer, rows in ((attn.to_q, x), (attn.to_k, context), (attn.to_v, context))
        )
        shares = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)
        return attn.to_out[0]((shares @ value).movedim(1, -2).flatten(-2))

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        if encoder_hidden_states is None:
            return self.attend(attn, hidden_states, hidden_states)
        tokens = encoder_hidden_states.shape[1] // 2
        crossed = self.attend(attn, hidden_states, encoder_hidden_states[:, tokens:])
        return crossed + self.attend(attn, hidden_states, encoder_hidden_states)


class TwiceTheCross(WrittenOut):
    """Twice an ordinary cross-attention."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        if encoder_hidden_states is None:
            return self.attend(attn, hidden_states, hidden_states)
        return 2 * self.attend(attn, hidden_states, encoder_hidden_states)


def test_at_the_start_it_is_the_formula_with_the_cross_attentions_own_projections(model):
    (picture,) = made_by(editor(model), ORDERS[0])
    expected = plain(model, ORDERS[0], WrittenOut(), public=PUBLIC)
    assert np.abs(picture - expected).max() < 1e-4
    assert np.abs(picture - plain(model, ORDERS[0])).max() > 1e-2  # so the untrained module is not neutral


def test_at_the_start_a_caption_equal_to_the_instruction_doubles_the_cross_attention(model):
    order = Edit(photo(64, 48), public_caption=CHANGE, instruction=CHANGE, seed=1)
    (picture,) = made_by(editor(model), order)
    assert np.abs(picture - plain(model, order, TwiceTheCross())).max() < 1e-4


def test_with_scale_0_it_is_the_checkpoint_without_the_module(model):
    (picture,) = made_by(editor(model, auxiliary_scale=0.0), ORDERS[0])
    assert np.abs(picture - plain(model, ORDERS[0])).max() < 1e-6


def test_the_fused_form_is_its_formula(model):
    made = editor(model, form="fused", auxiliary_scale=0.5)
    module = list(safe_modules.modules(made.loaded.pipeline.unet).values())[2]
    attn = made.loaded.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    assert attn.processor is module
    x, texts = torch.randn(3, 12, 32), torch.randn(3, 2 * 77, 32)
    with torch.no_grad():
        found = module(attn, x, texts)
        public, edit = texts[:, :77], texts[:, 77:]
        wide = [layer.weight for layer in (module.fuse[0], module.fuse[2])]
        head, expected = attn.to_q.out_features // attn.heads, []
        for at in range(attn.heads):  # head by head, and the convolutions as sums over shifted neighbours
            own = slice(at * head, (at + 1) * head)
            on_edit, on_public = (
                torch.softmax(q(x)[..., own] @ k(t)[..., own].mT / head**0.5, dim=-1)
                for q, k, t in ((attn.to_q, attn.to_k, edit), (module.to_q, module.to_k, public))
            )
            row = torch.nn.functional.pad(torch.cat([on_edit, on_public], -1), (1, 1))
            inner = sum(row[..., None, i : i + 154] * wide[0][:, 0, i, None] for i in range(3))
            inner = torch.nn.functional.gelu(inner + module.fuse[0].bias[:, None])
            inner = torch.nn.functional.pad(inner, (1, 1))
            fused = sum((inner[..., i : i + 154] * wide[1][0, :, i, None]).sum(-2) for i in range(3))
            fused = torch.softmax((fused + module.fuse[2].bias)[..., 77:], dim=-1)
            expected.append(on_edit @ attn.to_v(edit)[..., own] + 0.5 * fused @ module.to_v(public)[..., own])
        expected = attn.to_out[0](torch.cat(expected, dim=-1))
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("form", ["concatenated", "fused"])
def test_weights_come_back_as_they_were_saved(model, tmp_path, form):
    made = editor(model, form=form)
    before = made_by(made, ORDERS[0])
    with torch.no_grad():
        for weight in safe_modules.tensors(made.loaded.pipeline.unet).values():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    trained = made_by(made, ORDERS[0])
    assert np.abs(trained - before).max() > 1e-3
    assert made.save(tmp_path) == tmp_path / FILE
    again = editor(model, form=form, weights=str(tmp_path))
    assert np.array_equal(made_by(again, ORDERS[0]), trained)
    assert pickle.dumps(again) != pickle.dumps(editor(model, form=form))


def test_weights_in_the_models_own_folder_are_found(tmp_path):
    folder = tiny.instruct_pix2pix(tmp_path)
    made = editor(folder)
    with torch.no_grad():
        for weight in safe_modules.tensors(made.loaded.pipeline.unet).values():
            weight.zero_()
    made.save(folder)
    assert np.abs(made_by(editor(folder), ORDERS[0])[0] - plain(folder, ORDERS[0])).max() < 1e-6


def test_the_file_says_what_it_is_and_no_path(model, tmp_path):
    path = editor(model).save(tmp_path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    assert about == {"format": safe_modules.FORMAT, "form": "concatenated", "base_model": "", "base_revision": ""}
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight" in load_file(path)


def spoil_shape(weights):
    name = sorted(weights)[0]
    return weights | {name: torch.zeros(3, 3)}


def spoil_names(weights):
    return dict(sorted(weights.items())[1:])


@pytest.mark.parametrize(
    ("spoil", "about", "named"),
    [
        (spoil_shape, {}, r"the shape \(3, 3\) where the model has"),
        (spoil_names, {}, "1 tensors do not match"),
        (dict, {"form": "fused"}, "give form='fused'"),
        (dict, {"format": "other"}, "has the format 'other'"),
    ],
)
def test_weights_of_something_else_are_refused(model, tmp_path, spoil, about, named):
    path = editor(model).save(tmp_path)
    right = {"format": safe_modules.FORMAT, "form": "concatenated"}
    save_file(spoil(load_file(path)), path, metadata=right | about)
    with pytest.raises(SetupError, match=named):
        _ = editor(model, weights=str(tmp_path)).loaded


def test_a_folder_without_weights_or_a_broken_file_is_refused(model, tmp_path):
    with pytest.raises(SetupError, match="holds no safe_attention"):
        editor(model, weights=str(tmp_path)).check()
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(SetupError, match="cannot be read"):
        _ = editor(model, weights=str(tmp_path)).loaded


def test_both_texts_drop_together_in_the_unconditional_rows(model):
    made, seen = editor(model, num_inference_steps=1), []
    made.loaded.pipeline.unet.register_forward_pre_hook(
        lambda _unet, _inputs, named: seen.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    made_by(made, ORDERS[0], ORDERS[2])
    public, edit, lake, empty = made.loaded.texts([PUBLIC, CHANGE, "a lake", ""])
    expected = [torch.cat(pair, dim=1) for pair in ((public, edit), (lake, edit), *[(empty, empty)] * 4)]
    assert torch.equal(seen[0], torch.cat(expected))


@pytest.mark.parametrize("form", ["concatenated", "fused"])
def test_a_lone_text_is_refused_rather_than_cut_in_two(model, form):
    unet = editor(model, form=form).loaded.pipeline.unet
    with pytest.raises(ValueError, match="77 tokens are not"):
        unet(torch.zeros(1, 8, 8, 8), 1, torch.zeros(1, 77, 32))


def test_five_mixed_orders_equal_five_single_calls_in_any_order(model):
    made = editor(model)
    together = [np.asarray(image) for image in made.edit(ORDERS)]
    for order, image in zip(ORDERS, together, strict=True):
        (alone,) = made.edit([order])
        assert alone.size == order.image.size
        assert np.array_equal(np.asarray(alone), image)
    for image, turned in zip(together[::-1], made.edit(ORDERS[::-1]), strict=True):
        assert np.array_equal(np.asarray(turned), image)


@pytest.mark.parametrize("form", ["concatenated", "fused"])
def test_a_batch_in_one_pass_gives_each_row_its_own_picture(model, form):
    made = editor(model, form=form)
    together = made_by(made, ORDERS[0], ORDERS[2], ORDERS[3])
    for order, picture in zip((ORDERS[0], ORDERS[2], ORDERS[3]), together, strict=True):
        assert np.abs(made_by(made, order)[0] - picture).max() < 0.25 / 255  # a quarter of a grey level: float32
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_a_further_attempt_is_guided_less_by_the_photo(model):
    order = Edit(photo(64, 48), public_caption=PUBLIC, instruction=CHANGE, seed=1, strength=1)
    (again,) = made_by(editor(model), order)
    (looser,) = made_by(editor(model, image_guidance_scale=1.25), ORDERS[0])
    assert np.array_equal(again, looser)
    assert np.abs(again - made_by(editor(model), ORDERS[0])[0]).max() > 1e-3


@pytest.mark.parametrize(("layer", "grid"), [(1, (11, 8)), (2, (6, 4)), (3, (3, 2))])
def test_the_shares_of_both_texts_are_1_together(model, layer, grid):
    shares = editor(model, max_pixels=96 * 96).attention_shares(ORDERS[1], layer)
    assert shares["public"].shape == shares["edit"].shape == grid
    assert np.abs(shares["public"] + shares["edit"] - 1).max() < 1e-5
    assert 0.01 < shares["public"].min() < shares["public"].max() < 0.99


def test_maps_are_pictures_of_the_photos_size_and_leave_the_editor_as_it_was(model):
    made = editor(model)
    before = made_by(made, ORDERS[0])
    maps = made.attention_maps(ORDERS[1], layer=2)
    assert set(maps) == {"public", "edit"}
    assert all((picture.size, picture.mode) == ((61, 83), "L") for picture in maps.values())
    assert np.asarray(maps["public"]).std() > 5
    assert np.array_equal(made_by(made, ORDERS[0]), before)


def test_maps_that_there_are_not(model):
    with pytest.raises(SetupError, match="the layers 1 to 7"):
        editor(model).attention_maps(ORDERS[0])
    with pytest.raises(SetupError, match="form='concatenated'"):
        editor(model, form="fused").attention_maps(ORDERS[0], layer=1)


def test_an_image_that_the_safety_checker_blackens_has_failed(tmp_path):
    eyes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = transformers.CLIPVisionConfig(**eyes, image_size=32, patch_size=16, projection_dim=16)
    checker = StableDiffusionSafetyChecker(transformers.CLIPConfig(vision_config=vision.to_dict(), projection_dim=16))
    checker.concept_embeds_weights.data.fill_(-2.0)  # any picture is above this threshold
    seen = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    parts = {"safety_checker": checker, "feature_extractor": seen, "requires_safety_checker": True}
    folder = tiny.instruct_pix2pix(tmp_path, **parts)
    with pytest.raises(EditFailed, match="black"):
        editor(folder).edit([ORDERS[0]])


def test_an_order_without_one_of_its_texts_fails_and_the_others_go_on(model):
    orders = [ORDERS[0], Edit(photo(64, 48), instruction=CHANGE), Edit(photo(64, 48), public_caption=PUBLIC)]
    with pytest.raises(PartlyFailed) as caught:
        editor(model).edit(orders)
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [False, True, True]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"form": "both"}, "form='both'"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"guidance_scale": 1.0}, "guidance_scale=1.0"),
        ({"image_guidance_scale": 0.5}, "image_guidance_scale=0.5"),
    ],
)
def test_values_that_cannot_work_are_named(model, options, named):
    with pytest.raises(SetupError, match=named):
        editor(model, **options).check()


def test_a_real_photo_goes_through_the_step(model):
    step = u2s.Anonymize(editor=editor(model), verify=False, format="png")
    picture = Image.fromarray(data.astronaut()).resize((150, 100))
    batch = {
        "image": [picture],
        c.PRIVACY_FLAG: [True],
        c.PRIVACY_SCORE: [1.0],
        c.PRIVACY_REVIEW: [[]],
        c.PRIVATE_CAPTION: ["a woman in a uniform"],
        c.PUBLIC_CAPTION: [PUBLIC],
        c.EDIT_INSTRUCTION: [CHANGE],
        c.EDIT_CAPTION: ["a person with green hair"],
    }
    answer = step(batch)
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert answer[c.ANONYMIZED_IMAGE][0].size == (150, 100)
    assert np.abs(np.asarray(answer[c.ANONYMIZED_IMAGE][0]).astype(int) - np.asarray(picture)).mean() > 5
    batch[c.EDIT_INSTRUCTION] = [""]
    assert step(batch)[c.STATUS] == [c.WITHHELD]
