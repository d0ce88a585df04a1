"""Instruction editors on tiny pipelines of the real classes: sizes, alignment, seeds, batches, refusals."""

import importlib
import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from u2s_datasets.errors import EditFailed, MissingWeights, PartlyFailed, SetupError
from u2s_datasets.parts import Edit
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors.instruct_edit import InstructEdit, fitted, unfitted
from u2s_datasets.parts.editors.instruct_families import FAMILIES, canvas_for
from u2s_datasets.parts.metrics.quality import ssim

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'u2s_datasets[models]'")

# diffusers 0.42 makes arrays of tensors as numpy 1 wanted it
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

torch.set_num_threads(1)
SMALL = ["instruct_pix2pix", "sdxl_pix2pix", "kontext", "flux2_klein"]
SLOW = ["qwen_edit", "qwen_edit_plus", "longcat"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each kind's checkpoint."""
    from tests.helpers.tiny_models import edit as tiny

    folder = tmp_path_factory.mktemp("models")
    made = {name: getattr(tiny, name)(folder / name) for name in [*SMALL, "qwen_edit", "longcat"]}
    made["qwen_edit_plus"] = tiny.qwen_edit(folder / "plus", plus=True)
    made["refusing"] = tiny.instruct_pix2pix(folder / "refusing", checker=True)
    made["klein_base"] = tiny.flux2_klein(folder / "base", distilled=False)
    return made


def editor(folder: Path, steps: int = 2, **options) -> InstructEdit:
    return InstructEdit(str(folder), None, dtype="float32", num_inference_steps=steps, **options)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((width, height))


def order(picture: Image.Image, words: str = "make the person someone else", **more) -> Edit:
    return Edit(picture, instruction=words, **more)


def same(a: Image.Image, b: Image.Image) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("kind", SMALL)
def test_five_of_mixed_sizes_are_five_single_ones_in_any_order(checkpoints, kind):
    part = editor(checkpoints[kind])
    sizes = [(100, 75), (64, 96), (100, 75), (70, 130), (64, 64)]
    orders = [order(photo(*size), f"make sign {i} plain", seed=i) for i, size in enumerate(sizes)]
    together = part.edit(orders)
    assert [out.size for out in together] == sizes
    assert all(same(out, part.edit([one])[0]) for out, one in zip(together, orders, strict=True))
    assert all(same(a, b) for a, b in zip(together, part.edit(orders[::-1])[::-1], strict=True))


@pytest.mark.parametrize("kind", SMALL)
def test_a_batch_in_one_pass_is_its_rows_but_for_rounding(checkpoints, kind):
    part = editor(checkpoints[kind])
    family = part.loaded.family
    words = ["make the person someone else", "replace every sign by a plain wall", "a b c"]
    orders = [
        batches.prepare(order(photo(96, 64), w, seed=i), family.multiple, family.pixels) for i, w in enumerate(words)
    ]
    together = part.run(orders)
    assert together.shape == (3, 3, 64, 96)
    for i, one in enumerate(orders):
        assert (together[i] - part.run([one])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", SMALL)
def test_the_seed_and_the_words_make_the_picture(checkpoints, kind):
    part = editor(checkpoints[kind])
    first = part.edit([order(photo(64, 64), seed=1)])[0]
    assert same(first, editor(checkpoints[kind]).edit([order(photo(64, 64), seed=1)])[0])
    assert not same(first, part.edit([order(photo(64, 64), seed=2)])[0])
    assert not same(first, part.edit([order(photo(64, 64), "replace every sign", seed=1)])[0])


@pytest.mark.parametrize("kind", ["instruct_pix2pix", "sdxl_pix2pix", "kontext", "flux2_klein"])
def test_the_answer_is_that_of_the_plain_pipeline(checkpoints, kind):
    """Against diffusers itself: one picture, its own call, a generator of the same seed."""
    part, picture = editor(checkpoints[kind]), photo(96, 64)
    name = json.loads((checkpoints[kind] / "model_index.json").read_text())["_class_name"]
    plain = getattr(diffusers, name).from_pretrained(checkpoints[kind])
    plain.set_progress_bar_config(disable=True)
    more = {} if kind == "instruct_pix2pix" else {"width": 96, "height": 64}
    more |= {"max_area": 96 * 64, "_auto_resize": False} if kind == "kontext" else {}
    words, noise = "make the person someone else", torch.Generator().manual_seed(3)
    theirs = plain(image=picture, prompt=words, num_inference_steps=2, generator=noise, output_type="np", **more)
    ours = part.edit([order(picture, words, seed=3)])[0]
    assert np.abs(np.asarray(ours) / 255 - theirs.images[0]).max() < 1 / 255


@pytest.mark.parametrize("kind", SLOW)
def test_some_work_at_a_size_of_their_own_and_come_back(checkpoints, kind):
    part = editor(checkpoints[kind], steps=1, guidance_scale=1.0)
    (out,) = part.edit([order(photo(90, 60), seed=1)])
    assert out.size == (90, 60)
    assert np.asarray(out).std() > 0


def test_these_sizes_are_left_alone_by_the_pipeline(checkpoints):
    for kind in SLOW:
        pipeline = editor(checkpoints[kind]).loaded.pipeline
        family = FAMILIES[type(pipeline).__name__]
        for size in [(90, 60), (640, 427), (333, 500), (1024, 1024), (1000, 250), (100, 1900)]:
            width, height = canvas_for(family, pipeline, size)
            assert family.canvas(pipeline, (width, height)) == (width, height)
            scale = min(width / size[0], height / size[1])
            assert scale * scale * size[0] * size[1] > 0.9 * width * height  # little of it is padding


@pytest.mark.parametrize("size", [(640, 427), (333, 500), (333, 100), (64, 64)])
def test_a_canvas_moves_no_pixel(size):
    """There and back is the same picture; a stretch or a shift of one pixel would be seen."""
    picture = photo(*size)
    canvas = (round(size[0] * 1.8) + 24, round(size[1] * 1.8))
    onto = fitted(picture, canvas)
    assert onto.size == canvas
    tensor = torch.from_numpy(np.array(onto)).permute(2, 0, 1)[None] / 255
    back = (unfitted(tensor, size)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    before = np.asarray(picture)
    assert ssim(before, back) > 0.99
    assert ssim(before, back) > ssim(np.roll(before, 1, axis=1), back)
    assert fitted(picture, size) is picture


def test_a_safety_checker_s_refusal_fails_its_row(checkpoints):
    with pytest.raises(EditFailed, match="black"):
        editor(checkpoints["refusing"]).edit([order(photo(64, 64))])


def test_an_order_without_words_fails_alone(checkpoints):
    part = editor(checkpoints["instruct_pix2pix"])
    with pytest.raises(PartlyFailed) as caught:
        part.edit([order(photo(64, 64)), order(photo(64, 64), " "), order(photo(32, 64))])
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [False, True, False]
    with pytest.raises(EditFailed, match="no instruction, and this editor needs it"):
        part.edit([Edit(photo(64, 64))])


def test_each_distinct_text_is_encoded_once(checkpoints):
    part = editor(checkpoints["instruct_pix2pix"])
    passes = []
    part.loaded.pipeline.text_encoder.register_forward_hook(lambda *_: passes.append(1))
    part.edit([order(photo(64, 64), words, seed=i) for i, words in enumerate(["a b", "c d", "a b", "c d"])])
    assert len(passes) == 3  # two instructions and the empty one


@pytest.mark.parametrize(
    ("kind", "limits"), [("instruct_pix2pix", [77]), ("sdxl_pix2pix", [77, 77]), ("kontext", [77, 512])]
)
def test_a_text_that_is_too_long_is_told_once_per_encoder_without_its_words(checkpoints, kind, limits, caplog, capfd):
    part = editor(checkpoints[kind], steps=1, max_pixels=64 * 64)
    name = "sher" + "lock"  # in two: a logging handler of an earlier test's may print this file's lines
    part.edit([order(photo(64, 64), f"{name} " * 90)])
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    longer = "1 of 1 texts are longer than the {} tokens"
    assert [message[: len(longer) + len(str(n)) - 2] for message, n in zip(said, limits, strict=True)] == [
        longer.format(n) for n in limits
    ]
    everything = caplog.text + "".join(capfd.readouterr())
    assert name not in everything and "Token indices" not in everything


@pytest.mark.parametrize("kind", ["instruct_pix2pix", "klein_base"])
def test_a_further_attempt_is_stronger(checkpoints, kind):
    part = editor(checkpoints[kind])
    outputs = [part.edit([order(photo(64, 64), strength=strength)])[0] for strength in (0, 1)]
    assert not same(*outputs)


def test_with_boxes_the_rest_stays(checkpoints):
    part = editor(checkpoints["flux2_klein"], region="boxes")
    picture = photo(120, 100)
    out = part.edit([order(picture, boxes=((40.0, 40.0, 60.0, 60.0),))])[0]
    assert np.array_equal(np.asarray(out)[:20], np.asarray(picture)[:20])
    assert not np.array_equal(np.asarray(out)[40:60, 40:60], np.asarray(picture)[40:60, 40:60])


def test_what_cannot_work_is_said_before_the_first_row(checkpoints, tmp_path):
    with pytest.raises(MissingWeights, match="hf download timbrooks/instruct-pix2pix --revision 31519b5"):
        InstructEdit().check()
    with pytest.raises(MissingWeights, match=r"no model_index\.json"):
        editor(tmp_path).check()
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").touch()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(SetupError, match=r"'StableDiffusionPipeline'; InstructEdit knows: .*FluxKontextPipeline"):
        editor(tmp_path).check()
    with pytest.raises(SetupError, match=r"guidance_scale=4\.0: Flux2KleinPipeline"):
        editor(checkpoints["flux2_klein"], guidance_scale=4.0).check()
    with pytest.raises(SetupError, match="negative_prompt='words': FluxKontextPipeline"):
        editor(checkpoints["kontext"], negative_prompt="words").check()
    with pytest.raises(SetupError, match="num_inference_steps=0"):
        editor(checkpoints["kontext"], steps=0).check()


def test_klein_s_defaults_follow_from_its_distillation(checkpoints):
    distilled, base = (editor(checkpoints[kind]).loaded.family for kind in ("flux2_klein", "klein_base"))
    assert (distilled.steps, distilled.guidance) == (4, None)
    assert (base.steps, base.guidance, base.guidance_scale) == (50, "guidance_scale", 4.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_a_pipeline_here_that_takes_these_arguments(name):
    family, call = FAMILIES[name], inspect.signature(getattr(diffusers, name).__call__).parameters
    given = {"image", "generator", "output_type", "num_inference_steps", *dict(family.others), *family.sized((8, 8))}
    given |= {"prompt_embeds"} if family.encode is not None else {"prompt"}
    given |= set() if family.guidance is None else {family.guidance}
    given |= set() if family.image_guidance_scale is None else {"image_guidance_scale"}
    if family.negative is not None:
        given |= {"negative_prompt_embeds"} if family.encode is not None else {"negative_prompt"}
    assert given <= set(call)
    if family.guidance is not None:
        assert call[family.guidance].default == family.guidance_scale
    assert call["num_inference_steps"].default == family.steps


def test_it_travels_as_its_configuration(checkpoints):
    part = editor(checkpoints["kontext"])
    before = pickle.dumps(part)
    part.loaded  # noqa: B018  loads it
    assert pickle.dumps(part) == before
    assert "kontext" not in json.dumps(part.config())
    assert importlib.import_module("u2s_datasets").InstructEdit is InstructEdit
