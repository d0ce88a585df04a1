"""Language and vision-language models by vLLM, on this machine's GPUs.

Nothing is downloaded here (see `checkpoints`). Requests of one call run side by side, and vLLM's prefix cache keeps
what their prompts have in common, a picture included.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT, Backend, Message, Request, checkpoints
from u2s_datasets.parts.backends.pictures import fitted, has_images
from u2s_datasets.parts.backends.replies import NO_ANSWER
from u2s_datasets.parts.backends.tokens import continues, first_tokens, plain


@dataclass(frozen=True)
class VLLMBackend(Backend):
    """A model that vLLM knows, in an engine process of its own: call it below `if __name__ == "__main__":`.

    With `map(num_proc=N, with_rank=True)` every worker starts its own engine on the GPU of its rank: N engines need
    N times `tensor_parallel_size` GPUs, since one engine takes `gpu_memory_utilization` of a GPU. One engine and no
    `num_proc` is the rule, with a large `batch_size` in `map`: vLLM batches by itself.

    Neighbours in a batch change an answer by rounding, which can turn it where two words are about as likely;
    VLLM_BATCH_INVARIANT=1 in the environment is vLLM's own remedy. Usage reports to vLLM's makers are switched off.

    Tested without a GPU: vLLM's own classes make the settings, prompts and parameters, and run them through its
    scheduler and back; its kernels, several GPUs and full-size weights have not been run here.

    Args:
        model: a Hub id such as "OpenGVLab/InternVL3_5-8B-HF", or a folder, with safetensors.
        revision: commit of the Hub repository; without one, whatever "main" is in the cache.
        dtype: "auto" (as saved), "float32", "bfloat16" or "float16".
        tensor_parallel_size: GPUs that share one model.
        gpu_memory_utilization: share of each GPU's memory to take, in (0, 1].
        max_model_len: most tokens of prompt and answer; None takes the model's own, which may not fit.
        max_pixels: larger pictures are scaled down to so many pixels before the model's own processor sees them.
        max_images: most pictures in one request; vLLM sets memory aside for them.
        thinking: False asks the chat template to leave thinking out, where it knows `enable_thinking`.
        structured: hold answers to the form that their request names. Fewer answers are asked for again, but a
            model that is held to a form cannot refuse, and what cannot be seen cannot fail closed; so it is off.
        trust_remote_code: run Python code that comes with the weights; a Hub id then needs its revision.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    max_pixels: int = 1_003_520
    max_images: int = 2
    thinking: bool = False
    structured: bool = False
    trust_remote_code: bool = False

    shown: ClassVar[tuple[str, ...]] = ("revision", "dtype")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "vllm")

    def check(self) -> None:
        """Raises `MissingExtra`, `MissingWeights`, or `SetupError` for an option or a GPU; loads no weights."""
        if self.dtype not in checkpoints.AUTO_DTYPES:
            raise SetupError(f"dtype={self.dtype!r}: choose one of {', '.join(checkpoints.AUTO_DTYPES)}")
        for name in ("tensor_parallel_size", "max_model_len", "max_pixels", "max_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SetupError(f"{name}={value!r} has to be 1 or more")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise SetupError(f"gpu_memory_utilization={self.gpu_memory_utilization!r} is not in (0, 1]")
        if self.trust_remote_code and self.revision is None and not Path(self.model).is_dir():
            raise SetupError("trust_remote_code=True runs code from the Hub: pin it with revision='<commit>'")
        checkpoints.need("vllm", "vllm")
        self._folder()
        checkpoints.gpus(self.tensor_parallel_size)

    def load(self) -> Any:
        """The engine, a `vllm.LLM`; raises `SetupError` as `check` does."""
        self.check()
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # else it writes to standard output
        from vllm import LLM

        return LLM(**self.engine_arguments(), device_ids=checkpoints.gpus(self.tensor_parallel_size))

    def engine_arguments(self) -> dict[str, Any]:
        """The arguments of `vllm.LLM`, beside its GPUs."""
        return {
            "model": str(self._folder()),
            "dtype": self.dtype,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "limit_mm_per_prompt": {"image": self.max_images, "video": 0},
            "trust_remote_code": self.trust_remote_code,
            "load_format": "safetensors",
            # The checkpoint's own sampling would make "greedy" mean another thing per model.
            "generation_config": "vllm",
            "logprobs_mode": "raw_logprobs",
            "enable_prefix_caching": True,
        }

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request: the likeliest words at temperature 0, else a sample by the request's own seed.

        Raises:
            RowError: a request does not fit or was not answered (code "no_answer").
            SetupError: the engine died, or the model takes no images.
        """
        return [answer(output) for output in self._chat(requests, lambda r: sampling(r, self.structured))]

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's first token, with and without a space before it, from one pass.

        Raises:
            RowError, SetupError: as `generate` does; `SetupError` where two choices begin with the same token, or one
                with a single letter.
        """
        if len(set(choices)) < 2:
            raise SetupError(f"choices={list(choices)!r}: give two or more different texts")
        firsts = first_tokens(self.loaded.get_tokenizer(), choices)
        return [weights(output, firsts) for output in self._chat(requests, lambda _: weighing(firsts))]

    def config(self) -> dict[str, Any]:
        """As every part's, and the model's Hub id; a folder is not shown."""
        return super().config() | checkpoints.public_id(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": checkpoints.fingerprint(self.model, self.revision)}

    def _chat(self, requests: Sequence[Request], parameters: Callable[[Request], Any]) -> list[Any]:
        """The engine's outputs in the requests' order; those whose answer is begun go in a call of their own."""
        if any(map(has_images, requests)) and not self.loaded.model_config.is_multimodal_model:
            raise SetupError(f"the model {self.model!r} takes no images; choose a vision-language model")
        outputs: dict[int, Any] = {}
        for begun in (False, True):
            numbers = [i for i, request in enumerate(requests) if continues(request) is begun]
            if numbers:
                chosen = [requests[i] for i in numbers]
                outputs.update(zip(numbers, self._ask(chosen, parameters, begun), strict=True))
        return [outputs[i] for i in range(len(requests))]

    def _ask(self, requests: Sequence[Request], parameters: Callable[[Request], Any], begun: bool) -> list[Any]:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self.loaded
        try:
            turns = [conversation(request, self.max_pixels, llm.get_tokenizer()) for request in requests]
            outputs = llm.chat(turns, list(map(parameters, requests)), use_tqdm=False, **self.chat_arguments(begun))
        except EngineDeadError as error:
            raise SetupError("vLLM's engine died; its own lines above say why") from error
        except (VLLMClientError, ValueError) as error:
            raise RowError(f"vLLM refuses a request: {error}", NO_ANSWER) from error
        if len(outputs) != len(requests):
            raise RowError(f"{len(requests)} requests had {len(outputs)} answers", NO_ANSWER)
        return outputs

    def chat_arguments(self, begun: bool) -> dict[str, Any]:
        """How `LLM.chat` makes prompts; `begun` where they end in the beginning of an answer."""
        return {
            "add_generation_prompt": not begun,
            "continue_final_message": begun,
            "chat_template_kwargs": {"enable_thinking": self.thinking},
        }

    def _folder(self) -> Path:
        folder = checkpoints.folder(self.model, self.revision)
        if not any(folder.glob("*.safetensors")):
            raise checkpoints.missing(self.model, self.revision, "has no weights as safetensors")
        return folder


def conversation(request: Request, max_pixels: int, tokenizer: Any) -> list[dict[str, Any]]:
    """A request as the messages of `LLM.chat`, without control tokens, pictures scaled down once."""

    def content(message: Message) -> str | list[dict[str, Any]]:
        if not any(isinstance(part, Image.Image) for part in message.content):
            return "\n".join(plain(str(part), tokenizer) for part in message.content)
        return [
            {"type": "image_pil", "image_pil": fitted(part, max_pixels)}
            if isinstance(part, Image.Image)
            else {"type": "text", "text": plain(part, tokenizer)}
            for part in message.content
        ]

    return [{"role": message.role, "content": content(message)} for message in request.messages]


def sampling(request: Request, structured: bool = False) -> Any:
    """A request's `SamplingParams` for writing an answer."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed if request.temperature > 0 else None,
        structured_outputs=StructuredOutputsParams(regex=request.form) if structured and request.form else None,
    )


def weighing(firsts: Mapping[str, set[int]]) -> Any:
    """The `SamplingParams` for weighing the first tokens of choices: one token, which is thrown away.

    Structured outputs have no place here: they mask the scores first, so that what the choices lack of 1 is lost.
    """
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=sorted(set().union(*firsts.values())))


def answer(output: Any) -> str:
    """The text of a `RequestOutput`, with `CUT` where the token limit ended it.

    Raises:
        RowError: it ended for another reason than its own end or the limit.
    """
    (first,) = output.outputs
    if first.finish_reason not in ("stop", "length"):
        raise RowError(f"the answer ended for the reason {first.finish_reason!r}", NO_ANSWER)
    return first.text + (CUT if first.finish_reason == "length" else "")


def weights(output: Any, firsts: Mapping[str, set[int]]) -> dict[str, float]:
    """The probability of each choice's first tokens in a `RequestOutput`; what is not listed counts as 0.

    Raises:
        RowError: no probabilities came, or none that can be some.
    """
    (first,) = output.outputs
    if not first.logprobs:
        raise RowError("no probabilities came back", NO_ANSWER)
    shares = {token: math.exp(said.logprob) for token, said in first.logprobs[0].items()}
    if not 0 <= sum(shares.values()) <= 1.001:  # also where one is no number
        raise RowError("the probabilities that came back are none", NO_ANSWER)
    return {choice: min(1.0, sum(shares.get(token, 0.0) for token in ids)) for choice, ids in firsts.items()}
