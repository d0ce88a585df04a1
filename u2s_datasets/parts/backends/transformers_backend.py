"""Language and vision-language models by transformers, in this process.

Nothing is downloaded here (see `checkpoints`). Prompts of different lengths are padded on the left, so that every
answer begins where its prompt ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import CUT, Backend, Request, checkpoints
from u2s_datasets.parts.backends.pictures import fitted, has_images
from u2s_datasets.parts.backends.tokens import Gumbel, continues, first_tokens, plain

_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class TransformersBackend(Backend):
    """A model of `AutoModelForImageTextToText`, or of `AutoModelForCausalLM` where it has no eyes.

    Neighbours in a batch and their order change no answer but by rounding, of 1e-6 in float32 and more in bfloat16.

    Args:
        model: a Hub id such as "OpenGVLab/InternVL3_5-8B-HF", or a folder, with safetensors.
        revision: commit of the Hub repository; without one, whatever "main" is in the cache.
        dtype: "auto" (as saved), "float32", "bfloat16" or "float16".
        device: such as "cuda:1"; None takes the GPU of this process's rank, or the CPU where there is none.
        attention: an attention kind of transformers, such as "sdpa"; None leaves the model's own choice.
        batch_size: most requests in one forward pass.
        max_pixels: larger pictures are scaled down to so many pixels before the model's own processor sees them.
        thinking: False asks the chat template to leave thinking out, where it knows `enable_thinking`.
        trust_remote_code: run Python code that comes with the weights; a Hub id then needs its revision.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    attention: str | None = None
    batch_size: int = 8
    max_pixels: int = 1_003_520
    thinking: bool = False
    trust_remote_code: bool = False

    shown: ClassVar[tuple[str, ...]] = ("revision", "dtype", "attention")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def check(self) -> None:
        """Raises `MissingExtra`, `MissingWeights`, or `SetupError` for an option; loads no weights."""
        checkpoints.need("models", "torch", "transformers")
        if self.dtype not in checkpoints.AUTO_DTYPES:
            raise SetupError(f"dtype={self.dtype!r}: choose one of {', '.join(checkpoints.AUTO_DTYPES)}")
        if self.attention is not None and self.attention not in _ATTENTION:
            raise SetupError(f"attention={self.attention!r}: choose one of {', '.join(_ATTENTION)}")
        if self.batch_size < 1 or self.max_pixels < 1:
            raise SetupError(f"batch_size={self.batch_size}, max_pixels={self.max_pixels}: both have to be 1 or more")
        if self.trust_remote_code and self.revision is None and not Path(self.model).is_dir():
            raise SetupError("trust_remote_code=True runs code from the Hub: pin it with revision='<commit>'")
        if self.device is not None:
            checkpoints.device(self.device)
        self._folder()

    def load(self) -> _Loaded:
        """The model on its device, and what prepares its input; raises `SetupError` as `check` does."""
        self.check()
        return _Loaded.of(self, self._folder())

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request: the likeliest words at temperature 0, else a sample by the request's own seed."""
        return self._in_batches(requests, lambda batch: self.loaded.write(batch))

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's first token, with and without a space before it, from one forward pass.

        Raises:
            SetupError: two choices begin with the same token, or one with a single letter.
        """
        if len(set(choices)) < 2:
            raise SetupError(f"choices={list(choices)!r}: give two or more different texts")
        firsts = first_tokens(self.loaded.tokenizer, choices)
        return self._in_batches(requests, lambda batch: self.loaded.weigh(batch, firsts))

    def config(self) -> dict[str, Any]:
        """As every part's, and the model's Hub id; a folder is not shown."""
        return super().config() | checkpoints.public_id(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": checkpoints.fingerprint(self.model, self.revision)}

    def _in_batches(self, requests: Sequence[Request], work: Any) -> list[Any]:
        """`work` over requests that one call of the model takes together, the results in the requests' order."""
        results: dict[int, Any] = {}
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, request in enumerate(requests):
            kinds.setdefault((continues(request), has_images(request)), []).append(i)
        for numbers in kinds.values():
            for start in range(0, len(numbers), self.batch_size):
                chosen = numbers[start : start + self.batch_size]
                results.update(zip(chosen, work([requests[i] for i in chosen]), strict=True))
        return [results[i] for i in range(len(requests))]

    def _folder(self) -> Path:
        folder = checkpoints.folder(self.model, self.revision)
        if not any(folder.glob("*.safetensors")):
            raise checkpoints.missing(self.model, self.revision, "has no weights as safetensors")
        return folder


@dataclass(frozen=True)
class _Loaded:
    """A model with its processor (its tokenizer, where it has no eyes)."""

    network: Any
    processor: Any
    tokenizer: Any
    sees: bool
    options: TransformersBackend
    ends: frozenset[int]

    @classmethod
    def of(cls, options: TransformersBackend, folder: Path) -> _Loaded:
        import transformers

        trust = {"trust_remote_code": options.trust_remote_code, "local_files_only": True}
        config = transformers.AutoConfig.from_pretrained(folder, **trust)
        sees = hasattr(config, "vision_config")
        if sees:
            checkpoints.need("models", "torchvision")
        kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        more = {} if options.attention is None else {"attn_implementation": options.attention}
        with checkpoints.quietly(transformers):
            network = kind.from_pretrained(folder, dtype=options.dtype, use_safetensors=True, **more, **trust)
            network = network.to(checkpoints.device(options.device)).eval()
            processor = (transformers.AutoProcessor if sees else transformers.AutoTokenizer).from_pretrained(
                folder, **trust
            )
        return cls.made(network, processor, options)

    @classmethod
    def made(cls, network: Any, processor: Any, options: TransformersBackend) -> _Loaded:
        """Around a network that is on its device, and its processor or tokenizer."""
        import transformers

        tokenizer = getattr(processor, "tokenizer", processor)
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        ends = _ends(network.generation_config, tokenizer)
        # The checkpoint's own sampling (temperature, penalties) would make "greedy" mean another thing per model.
        network.generation_config = transformers.GenerationConfig(
            eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id, do_sample=False
        )
        return cls(network, processor, tokenizer, hasattr(network.config, "vision_config"), options, ends)

    def write(self, requests: Sequence[Request]) -> list[str]:
        """The answers of requests that fit into one batch."""
        return [self._text(ids) for ids in self.tokens(requests)]

    def tokens(self, requests: Sequence[Request]) -> list[list[int]]:
        """What is written for requests that fit into one batch, the end token included where there is one."""
        limit = max(request.max_tokens for request in requests)
        noise = [Gumbel(requests)] if any(request.temperature > 0 for request in requests) else []
        rows = self._run(requests, limit, logits_processor=noise).sequences.tolist()
        return [self._until_end(ids[: r.max_tokens]) for ids, r in zip(rows, requests, strict=True)]

    def weigh(self, requests: Sequence[Request], firsts: dict[str, set[int]]) -> list[dict[str, float]]:
        """The probabilities of each choice's first tokens, of requests that fit into one batch."""
        # `generate` with one token is one forward pass, with each architecture's own positions for padded prompts.
        logits = self._run(requests, 1, output_logits=True).logits[0]
        shares = logits.double().softmax(-1).cpu()
        return [{choice: float(row[sorted(ids)].sum()) for choice, ids in firsts.items()} for row in shares]

    def _run(self, requests: Sequence[Request], limit: int, **more: Any) -> Any:
        import torch

        inputs = self._inputs(requests).to(self.network.device)
        with torch.inference_mode():
            out = self.network.generate(**inputs, max_new_tokens=limit, return_dict_in_generate=True, **more)
        out.sequences = out.sequences[:, inputs["input_ids"].shape[1] :].cpu()
        return out

    def _inputs(self, requests: Sequence[Request]) -> Any:
        if has_images(requests[0]) and not self.sees:
            raise SetupError(f"the model {self.options.model!r} takes no images; choose a vision-language model")
        begun = continues(requests[0])
        padding: dict[str, Any] = {"padding": True, "padding_side": "left"}
        return self.processor.apply_chat_template(
            [[self._turn(m.role, m.content) for m in request.messages] for request in requests],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=not begun,
            continue_final_message=begun,
            **self._thinking,
            **({"processor_kwargs": padding} if self.sees else {"padding": True}),
        )

    @property
    def _thinking(self) -> dict[str, bool]:
        """What the chat template is told, where it asks: of an argument that it does not know, transformers warns."""
        template = str(getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template)
        return {"enable_thinking": self.options.thinking} if "enable_thinking" in template else {}

    def _turn(self, role: str, content: Sequence[str | Image.Image]) -> dict[str, Any]:
        if not self.sees:
            return {"role": role, "content": "\n".join(plain(str(part), self.tokenizer) for part in content)}
        parts = [
            {"type": "image", "image": fitted(part, self.options.max_pixels)}
            if isinstance(part, Image.Image)
            else {"type": "text", "text": plain(part, self.tokenizer)}
            for part in content
        ]
        return {"role": role, "content": parts}

    def _until_end(self, ids: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
        return ids[: end + 1]

    def _text(self, ids: list[int]) -> str:
        ended = ids[-1] in self.ends
        return self.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True) + ("" if ended else CUT)


def _ends(generation: Any, tokenizer: Any) -> frozenset[int]:
    given = generation.eos_token_id
    listed = given if isinstance(given, list) else [given]
    return frozenset(i for i in [*listed, tokenizer.eos_token_id] if i is not None)
