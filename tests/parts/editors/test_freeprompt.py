"""FreePrompt on a tiny Stable Diffusion, beside the method written out row by row as the paper has it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

from tests.helpers.tiny_models import unet as tiny
from u2s_datasets.errors import EditFailed, PartlyFailed, SetupError
from u2s_datasets.parts import Edit
from u2s_datasets.parts.editors import (
    batches,
    unet,
)
from u2s_datasets.parts.editors.diffusion import pixels_of
from u2s_datasets.parts.editors.freeprompt import FreePrompt, encoded, invert, sample

torch.set_num_threads(1)
TARGET = "a man with short black hair in a green coat"


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.astronaut()[:400, 100:400]).resize((width, height))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("sd"))


def editor(model: Path, **options) -> FreePrompt:
    options = {"num_inference_steps": 10} | options
    return FreePrompt(model=str(model), dtype="float32", device="cpu", **options)


def counted(made: FreePrompt) -> list[int]:
    """Rows of every call of the UNet from here on."""
    rows: list[int] = []
    made.loaded.pipeline.unet.register_forward_hook(lambda _unet, inputs, _output: rows.append(len(inputs[0])))
    return rows


class WrittenOut:
    """Attention with its map in full; while `on`, the last of four rows (source, target; each without and with its
    text) has the map of the third in self-attention of at most `tokens` tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.on = tokens, False

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(x).unflatten(-1, (attn.heads, -1)).movedim(-2, 1)
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        shares = torch.softmax(query @ key.mT * attn.scale, dim=-1)
        if self.on and encoder_hidden_states is None and shares.shape[-1] <= self.tokens:
            shares[3] = shares[2]
        return attn.to_out[0]((shares @ value).movedim(1, -2).flatten(-2))


def written_out(pipeline, latents, source, target, steps, ratio, scale, tokens):
    """Both latents after inversion (of the source) and after sampling (of the target): always two and four rows."""
    attention = WrittenOut(tokens)
    pipeline.unet.set_attn_processor(attention)
    scheduler = tiny.schedule()
    scheduler.set_timesteps(steps)
    alphas, stride = [*scheduler.alphas_cumprod.tolist()], 1000 // steps
    empty = pipeline.encode_prompt("", "cpu", 1, False)[0]
    source, target = (pipeline.encode_prompt(text, "cpu", 1, False)[0] for text in (source, target))

    def guided(rows, time, texts):
        noise = pipeline.unet(torch.cat([rows, rows]), time, torch.cat(texts)).sample.chunk(2)
        return noise[0] + scale * (noise[1] - noise[0])

    def moved(x, noise, start, end):
        clean = (x - (1 - start) ** 0.5 * noise) / start**0.5
        return end**0.5 * clean + (1 - end) ** 0.5 * noise

    path, times = [latents], [int(time) for time in scheduler.timesteps]
    for time in times[::-1]:
        start = alphas[time - stride] if time >= stride else alphas[0]
        path.append(moved(path[-1], guided(path[-1], time, [empty, source]), start, alphas[time]))
    both = path[-1].repeat(2, 1, 1, 1)
    for i, time in enumerate(times):
        attention.on = i < int(steps * ratio)
        both = torch.cat([path[-1 - i], both[1:]])
        noise = guided(both, time, [empty, empty, source, target])
        both = moved(both, noise, alphas[time], alphas[time - stride] if time >= stride else alphas[0])
    return path[-1], both[1:]


@pytest.mark.parametrize(
    ("source", "ratio", "steps", "size"),
    [("", 0.4, 10, (128, 96)), ("a photo of a woman", 0.4, 10, (128, 96)), ("", 0.9, 7, (72, 104))],
)
@torch.no_grad()
def test_the_latents_are_those_of_the_method_written_out(model, source, ratio, steps, size):
    loaded = editor(model).loaded
    loaded.pipeline.to(torch.float64)  # float32 rounds 2 and 4 rows differently, and guidance amplifies that
    empty, source_text, target = loaded.texts(["", source, TARGET])
    latents = encoded(loaded.pipeline, pixels_of([batches.prepare(Edit(photo(*size)), 8, 10**6)])).double()
    path = invert(loaded.pipeline.unet, latents, empty, source_text, steps, 7.5)
    replaced = int(steps * ratio)
    edited = sample(loaded.pipeline.unet, loaded.maps, path, empty, source_text, target, replaced, 7.5)
    # tokens of the second level: where the sides are no multiples of 16, it has the larger half
    second = -(-latents.shape[-1] // 2) * -(-latents.shape[-2] // 2)
    inverted, expected = written_out(loaded.pipeline, latents, source, TARGET, steps, ratio, 7.5, second)
    assert (path[-1] - inverted).abs().max() < 1e-9
    assert (edited - expected).abs().max() < 1e-9
    unreplaced = sample(loaded.pipeline.unet, loaded.maps, path, empty, source_text, target, 0, 7.5)
    assert (edited - unreplaced).abs().max() > 1e-2  # the maps count


@pytest.mark.parametrize(("source", "most"), [("", 170), ("a photo of a woman", 220)])
def test_rows_of_the_unet_at_50_steps(model, source, most):
    made = editor(model, num_inference_steps=50)
    rows = counted(made)
    made.edit([Edit(photo(64, 64), source_prompt=source, target_prompt=TARGET)])
    assert sum(rows) == most


def test_layers_are_told_by_their_level_at_any_size(model):
    found = unet.layers(editor(model).loaded.pipeline.unet, "attn1")
    assert [layer.downsampling for layer in found] == [1, 2, 4, 2, 2, 1, 1]
    assert [layer.name.split(".attentions")[0] for layer in found] == [
        "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.1", "up_blocks.1", "up_blocks.2", "up_blocks.2",
    ]  # fmt: skip


ORDERS = [
    Edit(photo(96, 64), target_prompt=TARGET, seed=1),
    Edit(photo(61, 83), source_prompt="a woman", target_prompt="a dog"),
    Edit(photo(96, 64), source_prompt="a woman", target_prompt="a house", seed=3),
    Edit(photo(96, 64), target_prompt="a blue rocket", strength=2),
    Edit(photo(300, 40), target_prompt=TARGET),
]


def test_five_mixed_orders_equal_five_single_calls_in_any_order(model):
    made = editor(model, max_pixels=96 * 96)
    together = [np.asarray(image) for image in made.edit(ORDERS)]
    for order, image, alone in zip(ORDERS, together, (made.edit([order])[0] for order in ORDERS), strict=True):
        assert alone.size == order.image.size
        assert np.array_equal(np.asarray(alone), image)
    for image, turned in zip(together[::-1], made.edit(ORDERS[::-1]), strict=True):
        assert np.array_equal(np.asarray(turned), image)


def test_a_batch_in_one_pass_gives_each_row_its_own_picture(model):
    made = editor(model)
    orders = [batches.prepare(ORDERS[i], 8, 10**6) for i in (0, 2, 3)]
    together = made.run(orders)
    for order, picture in zip(orders, together, strict=True):
        assert (made.run([order])[0] - picture).abs().max() < 0.25 / 255  # a quarter of a grey level: float32
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_a_further_attempt_holds_less_of_the_source(model):
    made = editor(model, self_replace_ratio=0.4)
    rows = counted(made)
    first, second = (made.edit([Edit(photo(64, 64), target_prompt=TARGET, strength=s)])[0] for s in (0, 1))
    assert sum(rows) == (10 + 3 * 4 + 2 * 6) + (10 + 3 * 3 + 2 * 7)
    assert not np.array_equal(np.asarray(first), np.asarray(second))


def test_each_distinct_text_is_encoded_once(model):
    made, texts = editor(model, num_inference_steps=2), []
    made.loaded.pipeline.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    made.edit([Edit(photo(64, 64), target_prompt=TARGET, seed=i) for i in range(3)])
    made.edit([Edit(photo(64, 64), target_prompt=TARGET)])
    assert len(texts) == 2


def test_a_prompt_that_is_too_long_is_reported_without_its_words(model, caplog):
    made = editor(model, num_inference_steps=1)
    made.edit([Edit(photo(64, 64), target_prompt="secret " * 90)])
    assert "longer than the 77 tokens" in caplog.text
    assert "secret" not in caplog.text


def test_an_order_without_a_target_fails_and_the_others_go_on(model):
    with pytest.raises(PartlyFailed) as caught:
        editor(model, num_inference_steps=1).edit([Edit(photo(64, 64)), ORDERS[0]])
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [True, False]


def test_only_the_boxes_change(model):
    made, picture = editor(model, num_inference_steps=2, region="boxes"), photo(96, 64)
    (out,) = made.edit([Edit(picture, target_prompt=TARGET, boxes=[(60, 20, 80, 40)])])
    changed = (np.asarray(out) != np.asarray(picture)).any(-1)
    assert changed[20:40, 60:80].mean() > 0.9
    assert not changed[:, :48].any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"self_replace_ratio": 1.2}, "self_replace_ratio=1.2"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"num_inference_steps": 1000}, "num_inference_steps=1000"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
    ],
)
def test_values_that_cannot_work_are_named(model, options, named):
    with pytest.raises(SetupError, match=named):
        editor(model, **options).check()


def test_a_checkpoint_that_predicts_something_else_is_refused(tmp_path):
    folder = tiny.stable_diffusion(tmp_path, prediction_type="v_prediction")
    with pytest.raises(SetupError, match="v_prediction"):
        _ = editor(folder).loaded


def test_its_pickle_is_its_configuration(model):
    made = editor(model)
    before = pickle.dumps(made)
    made.edit([Edit(photo(64, 64), target_prompt=TARGET)])
    assert pickle.dumps(made) == before
    assert FreePrompt(model="some/other").revision is None
    assert FreePrompt().revision == "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
