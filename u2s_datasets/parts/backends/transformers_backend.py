"""Language and vision-language models by transformers, in this process.

Prompts of different lengths are padded on the left, so that every answer begins where its prompt ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import CUT, Message, Request, checkpoints
from u2s_datasets.parts.backends.common import (
    CheckpointBackend,
    begins_answer,
    first_tokens,
    has_images,
    in_groups,
    message_content,
    without_control_tokens,
)
from u2s_datasets.parts.checks import check_choice, check_int

T = TypeVar("T")

_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class TransformersBackend(CheckpointBackend):
    """A model of `AutoModelForImageTextToText`, or of `AutoModelForCausalLM` if it takes no images.

    Neighbours in a batch and their order change no answer except by rounding, of 1e-6 in float32 and more in bfloat16.

    Args:
        model: a Hub id such as "OpenGVLab/InternVL3_5-8B-HF", or a folder, with safetensors.
        revision: commit of the Hub repository; None takes whatever "main" is in the cache.
        dtype: "auto" (as saved), "float32", "bfloat16" or "float16".
        device: such as "cuda:1"; None takes the GPU of this process's rank, or the CPU if there is no GPU.
        attention: an attention kind of transformers, such as "sdpa"; None leaves the model's own choice.
        batch_size: most requests in one forward pass.
        max_pixels: larger images are scaled down to so many pixels before the model's own processor sees them.
        thinking: False asks the chat template to leave thinking out, if it knows `enable_thinking`.
        trust_remote_code: run Python code that comes with the weights; a Hub id then needs its revision.
    """

    device: str | None = None
    attention: str | None = None
    batch_size: int = 8
    max_pixels: int = 1_003_520
    thinking: bool = False
    trust_remote_code: bool = False

    shown: ClassVar[tuple[str, ...]] = ("revision", "dtype", "attention")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights`, or `SetupError` for an option; loads no weights."""
        checkpoints.need("models", "torch", "transformers")
        self.check_checkpoint(self.trust_remote_code)
        if self.attention is not None:
            check_choice("attention", self.attention, _ATTENTION)
        check_int("batch_size", self.batch_size)
        check_int("max_pixels", self.max_pixels)
        if self.device is not None:
            checkpoints.device(self.device)
        self.folder()

    def load(self) -> LoadedModel:
        """The model on its device, and its processor; raises `SetupError` as `check` does."""
        import transformers

        self.check()
        folder = self.folder()
        trust = {"trust_remote_code": self.trust_remote_code, "local_files_only": True}
        more = {} if self.attention is None else {"attn_implementation": self.attention}
        model_class, processor_class = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
        if hasattr(transformers.AutoConfig.from_pretrained(folder, **trust), "vision_config"):
            checkpoints.need("models", "torchvision")
            model_class, processor_class = transformers.AutoModelForImageTextToText, transformers.AutoProcessor
        with checkpoints.quietly(transformers):
            network = model_class.from_pretrained(folder, dtype=self.dtype, use_safetensors=True, **more, **trust)
            network = network.to(checkpoints.device(self.device)).eval()
            return LoadedModel(network, processor_class.from_pretrained(folder, **trust), self)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request: the likeliest words at temperature 0, else a sample by the request's own seed."""
        return self._in_batches(requests, lambda batch: self.loaded.generate(batch))

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's first token, with and without a space before it, from one forward pass.

        Raises:
            SetupError: two choices begin with the same token, or one with a single letter.
        """
        firsts = first_tokens(self.loaded.tokenizer, choices)
        return self._in_batches(requests, lambda batch: self.loaded.choose(batch, firsts))

    def _in_batches(self, requests: Sequence[Request], work: Callable[[list[Request]], list[T]]) -> list[T]:
        # One call of the processor takes requests of one kind alone: see `LoadedModel.inputs`.
        return in_groups(requests, lambda r: (begins_answer(r), has_images(r)), self.batch_size, work)


class LoadedModel:
    """A model with its processor, for requests that fit into one batch.

    Args:
        network: on its device.
        processor: or a tokenizer, if the model takes no images.
        options: the backend's.
    """

    def __init__(self, network: Any, processor: Any, options: TransformersBackend) -> None:
        import transformers

        self.network, self.processor, self.options = network, processor, options
        self.sees = hasattr(network.config, "vision_config")
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        given = network.generation_config.eos_token_id
        self.ends = {*(given if isinstance(given, list) else [given]), self.tokenizer.eos_token_id} - {None}
        # The checkpoint's own sampling (temperature, penalties) would make "greedy" mean another thing per model.
        network.generation_config = transformers.GenerationConfig(
            eos_token_id=sorted(self.ends), pad_token_id=self.tokenizer.pad_token_id, do_sample=False
        )

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """The answers of the requests."""
        answers = []
        for ids in self.generate_tokens(requests):
            ended = ids[-1] in self.ends
            text = self.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
            answers.append(text if ended else text + CUT)
        return answers

    def generate_tokens(self, requests: Sequence[Request]) -> list[list[int]]:
        """The tokens of each answer, its end token included if it came before the limit."""
        limit = max(request.max_tokens for request in requests)
        noise = [GumbelNoise(requests)] if any(request.temperature > 0 for request in requests) else []
        rows = self._run(requests, limit, logits_processor=noise).sequences.tolist()
        answers = []
        for row, request in zip(rows, requests, strict=True):
            ids = row[: request.max_tokens]
            end = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
            answers.append(ids[: end + 1])
        return answers

    def choose(self, requests: Sequence[Request], firsts: dict[str, set[int]]) -> list[dict[str, float]]:
        """The probabilities of each choice's first tokens."""
        # `generate` with one token is one forward pass, with each architecture's own positions for padded prompts.
        logits = self._run(requests, 1, output_logits=True).logits[0]
        rows = logits.double().softmax(-1).cpu()
        return [{choice: float(row[sorted(ids)].sum()) for choice, ids in firsts.items()} for row in rows]

    def _run(self, requests: Sequence[Request], limit: int, **more: Any) -> Any:
        import torch

        inputs = self.inputs(requests).to(self.network.device)
        with torch.inference_mode():
            out = self.network.generate(**inputs, max_new_tokens=limit, return_dict_in_generate=True, **more)
        out.sequences = out.sequences[:, inputs["input_ids"].shape[1] :].cpu()
        return out

    def inputs(self, requests: Sequence[Request]) -> Any:
        """The network's inputs for requests of one kind: all with images or none, all with a begun answer or none."""
        if has_images(requests[0]) and not self.sees:
            raise SetupError(f"the model {self.options.model!r} takes no images; choose a vision-language model")
        begun = begins_answer(requests[0])
        padding: dict[str, Any] = {"padding": True, "padding_side": "left"}
        template = str(getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template)
        return self.processor.apply_chat_template(
            [[self._to_message(message) for message in request.messages] for request in requests],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=not begun,
            continue_final_message=begun,
            # transformers warns of an argument that the template does not use.
            **({"enable_thinking": self.options.thinking} if "enable_thinking" in template else {}),
            **({"processor_kwargs": padding} if self.sees else {"padding": True}),
        )

    def _to_message(self, message: Message) -> dict[str, Any]:
        clean = partial(without_control_tokens, tokenizer=self.tokenizer)
        pixels = self.options.max_pixels
        content = message_content(message, "image", pixels, clean=clean, always_parts=self.sees)
        return {"role": message.role, "content": content}


class GumbelNoise:
    """Adds each row's own noise to its scores, so that the highest one is a sample (the Gumbel-max trick).

    Args:
        requests: one per row; a temperature of 0 adds no noise.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        import torch

        self.temperatures = [request.temperature for request in requests]
        self.generators = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(N, vocabulary) scores with noise."""
        import torch

        rows = []
        for row, temperature, generator in zip(scores.float(), self.temperatures, self.generators, strict=True):
            if temperature > 0:
                uniform = torch.rand(len(row), generator=generator, dtype=torch.float64).clamp_(1e-300, 1 - 1e-16)
                row = row / temperature - (-uniform.log()).log().to(row)
            rows.append(row)
        return torch.stack(rows)
