"""The networks of the metrics, as parts: CLIP by open_clip and LPIPS by lpips. Nothing is downloaded at run time."""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import Part, checkpoints
from u2s_datasets.parts.metrics.quality import lpips

T = TypeVar("T")


class MetricNetwork(Part):
    """A network that a metric needs."""

    weights: ClassVar[str] = ""
    """Which weights it needs by default, and their licence, in words."""


class ImageTextEncoder(MetricNetwork):
    """Images and texts in, embeddings of one space out."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(N, D) float32 of upright RGB images."""
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of texts."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClipEncoder(ImageTextEncoder):
    """CLIP by open_clip, with the library's own preprocessing.

    Args:
        model: a name of `open_clip.list_models()`; or a folder or Hub id with `open_clip_config.json` in it.
        pretrained: for a name, open_clip's tag of the weights, or a .safetensors file.
        batch_size: images or texts at once, 1 or more.
        device: such as "cuda:1"; None takes a GPU if there is one.
    """

    model: str = "ViT-L-14"
    pretrained: str = "openai"
    batch_size: int = 16
    device: str | None = None

    libraries: ClassVar[tuple[str, ...]] = ("open_clip_torch", "torch")
    weights: ClassVar[str] = "OpenAI ViT-L/14 by open_clip (timm/vit_large_patch14_clip_224.openai, MIT)"

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights` with the command that gets them, or `SetupError`."""
        checkpoints.need("models", "torch", "open_clip")
        _check_numbers(self.batch_size, self.device)
        self._arguments()

    def config(self) -> dict[str, Any]:
        """As in `Part`, with the model's public name."""
        named = {"model": self.model, "pretrained": self.pretrained} if self._is_named else {}
        hidden = {"pretrained": "(not shown)"} if Path(self.pretrained).suffix else {}
        return super().config() | checkpoints.public_id(self.model) | named | hidden

    def load(self) -> tuple[Any, Any, Any]:
        """(model, preprocess, tokenizer)."""
        import open_clip

        self.check()
        arguments = self._arguments()
        with _quiet():
            device = checkpoints.device(self.device)
            model, preprocess = open_clip.create_model_from_pretrained(**arguments, device=device)
            return model.eval(), preprocess, open_clip.get_tokenizer(arguments["model_name"])

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(N, D) float32 of upright RGB images."""
        import torch

        model, preprocess, _ = self.loaded
        return self._embed(images, lambda batch: torch.stack([preprocess(i) for i in batch]), model.encode_image)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of texts; the tokenizer cuts each off after 77 tokens."""
        model, _, tokenizer = self.loaded
        return self._embed(texts, lambda batch: tokenizer(list(batch)), model.encode_text)

    def _embed(self, values: Sequence[T], prepare: Callable[[Sequence[T]], Any], encode: Callable) -> np.ndarray:
        import torch

        device = next(self.loaded[0].parameters()).device
        batches = _batches(values, self.batch_size)
        with torch.inference_mode():
            found = [encode(prepare(batch).to(device)).float().cpu() for batch in batches]
        return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)

    @property
    def _is_named(self) -> bool:
        """Whether `model` is a name of open_clip's, and neither a Hub id nor a folder."""
        return "/" not in self.model and not Path(self.model).is_dir()

    def _arguments(self) -> dict[str, Any]:
        """Arguments for `open_clip.create_model_from_pretrained`, once the files that they name are known to exist."""
        if not self._is_named:
            return {"model_name": f"local-dir:{_checked_folder(checkpoints.folder(self.model), self.model)}"}
        import open_clip

        if self.model not in open_clip.list_models():
            raise SetupError(f"unknown model={self.model!r}; expected one of open_clip.list_models()")
        if Path(self.pretrained).suffix == ".safetensors":
            if not Path(self.pretrained).is_file():
                raise MissingWeights(
                    f"no weights file {self.pretrained!r}; give a file with the weights of {self.model}"
                )
            return {"model_name": self.model, "pretrained": self.pretrained}
        facts = open_clip.get_pretrained_cfg(self.model, self.pretrained) or {}
        repository = str(facts.get("hf_hub", "")).rpartition("/")[0]
        if not repository:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self.model)) or "none"
            raise SetupError(
                f"unknown pretrained={self.pretrained!r} of {self.model}; expected a tag with weights on the Hub, "
                f"one of: {tags}"
            )
        # Given a file instead of the tag, open_clip does not know the tag's preprocessing.
        names = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation"}
        preprocessing = {names[k]: facts[k] for k in names if facts.get(k)}
        file = _first_safetensors(checkpoints.folder(repository), repository)
        quick = {"force_quick_gelu": bool(facts.get("quick_gelu"))}
        return {"model_name": self.model, "pretrained": str(file)} | preprocessing | quick


@dataclass(frozen=True)
class LpipsNetwork(MetricNetwork):
    """LPIPS with VGG-16, version 0.1 of the library.

    The linear heads ship in lpips' wheel. The trunk is torchvision's VGG-16, which the library would download.

    Args:
        trunk: file with torchvision's VGG-16 state dict (.pth or .safetensors); None for torch's hub folder.
        batch_size: pairs of one size at once, 1 or more.
        device: such as "cuda:1"; None takes a GPU if there is one.
    """

    trunk: str | None = None
    batch_size: int = 4
    device: str | None = None

    libraries: ClassVar[tuple[str, ...]] = ("lpips", "torch")
    weights: ClassVar[str] = "VGG-16 by torchvision (vgg16-397923af.pth, BSD-3-Clause); heads in lpips (BSD-2-Clause)"

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights` with the command that gets them, or `SetupError`."""
        checkpoints.need("models", "torch", "torchvision", "lpips")
        _check_numbers(self.batch_size, self.device)
        if not self._file().is_file():
            command = "python -c \"import torchvision; torchvision.models.vgg16(weights='IMAGENET1K_V1')\""
            raise MissingWeights(f"no weights of VGG-16 at {str(self._file())!r}; run: {command}")

    def load(self) -> Any:
        """`lpips.LPIPS` in evaluation mode."""
        import lpips as library
        import torch

        self.check()
        if self._file().suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(self._file())
        else:
            state = torch.load(self._file(), map_location="cpu", weights_only=True)
        with _quiet():
            network = library.LPIPS(net="vgg", pnet_rand=True, verbose=False)
        # lpips names a weight "slice2.5.weight" that torchvision names "features.5.weight"
        names = {name: f"features.{name.split('.', 1)[1]}" for name in network.net.state_dict()}
        network.net.load_state_dict({name: state[theirs] for name, theirs in names.items()}, strict=True)
        return network.eval().to(checkpoints.device(self.device))

    def distances(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float | None]:
        """LPIPS of pairs of (H, W, 3) uint8 images, each pair of one size; see `quality.lpips`."""
        found: list[float | None] = [None] * len(pairs)
        for shape in {before.shape for before, _ in pairs}:
            indices = [i for i, (before, _) in enumerate(pairs) if before.shape == shape]
            for batch in _batches(indices, self.batch_size):
                before, after = (np.stack([pairs[i][side] for i in batch]) for side in (0, 1))
                for i, value in zip(batch, lpips(self.loaded, before, after), strict=True):
                    found[i] = value
        return found

    def _file(self) -> Path:
        if self.trunk is not None:
            return Path(self.trunk).expanduser()
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"


def _check_numbers(batch_size: int, device: str | None) -> None:
    """Raise `SetupError` for a batch size below 1 or a device that is not here."""
    if batch_size < 1:
        raise SetupError(f"invalid batch_size={batch_size!r}; expected 1 or more")
    if device is not None:
        checkpoints.device(device)


def _checked_folder(folder: Path, name: str) -> Path:
    """The folder, once it is known to hold a configuration and weights without code."""
    try:
        json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(
            f"no open_clip_config.json with a model_cfg in {name!r}; give a folder or Hub id in open_clip's layout"
        ) from error
    _first_safetensors(folder, name)
    return folder


def _first_safetensors(folder: Path, name: str) -> Path:
    found = sorted(folder.glob("*.safetensors"), key=lambda p: (p.name != "open_clip_model.safetensors", p.name))
    if not found:
        raise checkpoints.missing(name, None, "has no .safetensors file here")
    return found[0]


def _batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the libraries say while they load: deprecations, and lines on the root logger."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
