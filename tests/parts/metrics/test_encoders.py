"""CLIP and LPIPS as parts, against open_clip and lpips called directly, with tiny or random weights."""

import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.helpers.fakes import picture
from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import catalog

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")
open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'u2s_datasets[models]'")
library = pytest.importorskip("lpips", reason="lpips is not installed: pip install 'u2s_datasets[models]'")

import u2s_datasets as u2s
from tests.helpers.tiny_models import metrics as tiny_metrics
from u2s_datasets.cli.bench.sample_photos import write_samples
from u2s_datasets.evaluation.evaluate import evaluate_run
from u2s_datasets.parts.metrics.encoders import ClipEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.quality import clip_similarity

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_metrics.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return tiny_metrics.vgg(tmp_path_factory.mktemp("vgg") / "vgg16.pth")


def pictures() -> list[Image.Image]:
    return [
        picture(),
        picture(red=True),
        Image.new("L", (40, 90), 99).convert("RGB"),
        picture(seed=3).resize((17, 200)),
    ]


def test_clip_gives_what_open_clip_gives(clip):
    texts = ["a calm scene", "", "two people at a table " * 40]
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip}")
    model.eval()
    with torch.inference_mode():
        images = model.encode_image(torch.stack([preprocess(i) for i in pictures()])).numpy()
        words = model.encode_text(open_clip.get_tokenizer(f"local-dir:{clip}")(texts)).numpy()
    part = ClipEncoder(str(clip), batch_size=3)
    part.check()
    assert np.allclose(part.embed_images(pictures()), images, atol=1e-6)
    assert np.allclose(part.embed_texts(texts), words, atol=1e-6)
    expected = float(torch.nn.functional.cosine_similarity(torch.tensor(images[:1]), torch.tensor(words[:1])))
    assert clip_similarity(images[0], words[0]) == pytest.approx(expected, abs=1e-6)
    assert part.embed_images([]).shape[0] == 0


def test_a_named_model_takes_weights_from_a_file(clip, tmp_path, monkeypatch):
    config = tmp_path / "tiny-for-test.json"
    config.write_text(__import__("json").dumps(tiny_metrics.CLIP))
    open_clip.add_model_config(config)
    part = ClipEncoder("tiny-for-test", pretrained=str(clip / "open_clip_model.safetensors"))
    expected = ClipEncoder(str(clip)).embed_images(pictures())
    assert np.allclose(part.embed_images(pictures()), expected, atol=1e-6)
    assert "open_clip_model" not in str(part.config())


def test_absent_weights_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"run: hf download timm/vit_large_patch14_clip_224\.openai"):
        ClipEncoder().check()
    with pytest.raises(SetupError, match=r"unknown pretrained='huge' of ViT-L-14; .*one of: openai"):
        ClipEncoder(pretrained="huge").check()
    with pytest.raises(SetupError, match="unknown model='ViT-9'"):
        ClipEncoder("ViT-9").check()
    with pytest.raises(MissingWeights, match="no weights of VGG-16 at"):
        LpipsNetwork(trunk=str(tmp_path / "absent.pth")).check()


def test_lpips_gives_what_lpips_gives(vgg):
    part = LpipsNetwork(trunk=str(vgg), batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision deprecates what lpips calls
        torch.manual_seed(0)
        network = library.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    state = torch.load(vgg, weights_only=True)
    network.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in network.net.state_dict()})
    pairs = [(np.asarray(picture(seed=i)), np.asarray(picture(red=True, seed=i))) for i in range(3)]
    pairs.append((np.asarray(pictures()[3]), 255 - np.asarray(pictures()[3])))
    with torch.inference_mode():
        expected = [float(network(library.im2tensor(a), library.im2tensor(b))) for a, b in pairs]
    assert part.distances(pairs) == pytest.approx(expected, abs=1e-6)


def test_lpips_of_nothing_changed_of_tiny_and_of_misfits(vgg):
    part = LpipsNetwork(trunk=str(vgg))
    same, tiny = np.asarray(picture()), np.zeros((15, 40, 3), np.uint8)
    assert part.distances([(same, same), (tiny, tiny)]) == [0.0, None]
    assert part.distances([]) == []
    with pytest.raises(ValueError, match="differ"):
        part.distances([(same, same[:-1])])


def test_photos_left_as_they_are_score_as_untouched_by_both_networks(clip, vgg, tmp_path):
    write_samples(tmp_path / "photos")
    u2s.run(tmp_path / "photos/people", tmp_path / "out", num_proc=1)
    score = u2s.Score(clip=ClipEncoder(str(clip)), lpips=LpipsNetwork(str(vgg)))
    made = evaluate_run(tmp_path / "out", score=score)
    controls = made.evaluation.controls
    assert controls["no-op"]["lpips"] == (2, 0.0) and controls["shuffled"]["lpips"][1] > 0
    assert controls["no-op"].get("clip_ratio", (0, 1.0))[1] == 1.0  # by random weights, no caption may fit
    itself = next(a for a in made.evaluation.attacks if a.kind == "no-op")
    assert (itself.encoder, itself.rates[0].rate) == ("clip", 1.0)


def test_parts_travel_without_their_models(clip, vgg):
    for name, arguments in (("clip", {"model": str(clip)}), ("lpips", {"trunk": str(vgg)})):
        part = catalog.make("encoder", name, catalog.ENCODERS, **arguments)
        before = pickle.dumps(part)
        part.loaded  # noqa: B018  loads it
        assert pickle.dumps(part) == before
        assert str(clip) not in str(part.config()) and str(vgg) not in str(part.config())
