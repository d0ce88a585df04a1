"""Language and vision-language models by vLLM, on this machine's GPUs.

Requests of one call run side by side, and vLLM's prefix cache keeps what their prompts have in common, images included.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT, Request, checkpoints
from u2s_datasets.parts.backends.common import (
    NO_ANSWER,
    CheckpointBackend,
    begins_answer,
    first_tokens,
    has_images,
    in_groups,
    message_content,
    without_control_tokens,
)
from u2s_datasets.parts.checks import check_float, check_int


@dataclass(frozen=True)
class VLLMBackend(CheckpointBackend):
    """A model that vLLM knows, in an engine process of its own: call it below `if __name__ == "__main__":`.

    With `map(num_proc=N, with_rank=True)` every worker starts its own engine on the GPU of its rank: N engines need
    N times `tensor_parallel_size` GPUs, since one engine takes `gpu_memory_utilization` of a GPU. Usually, take one
    engine, no `num_proc`, and a large `batch_size` in `map`: vLLM batches by itself.

    Neighbours in a batch change an answer by rounding, which can turn it if two words are about equally likely;
    VLLM_BATCH_INVARIANT=1 in the environment is vLLM's own remedy. Usage reports to vLLM's makers are switched off.

    Tested without a GPU: vLLM's own classes make the settings, prompts and parameters, and run them through its
    scheduler and back; its kernels, several GPUs and full-size weights have not been run here.

    Args:
        model: a Hub id such as "OpenGVLab/InternVL3_5-8B-HF", or a folder, with safetensors.
        revision: commit of the Hub repository; None takes whatever "main" is in the cache.
        dtype: "auto" (as saved), "float32", "bfloat16" or "float16".
        tensor_parallel_size: GPUs that share one model.
        gpu_memory_utilization: share of each GPU's memory to take, in (0, 1].
        max_model_len: most tokens of prompt and answer; None takes the model's own, which may not fit.
        max_pixels: larger images are scaled down to so many pixels before the model's own processor sees them.
        max_images: most images in one request; vLLM sets memory aside for them.
        thinking: False asks the chat template to leave thinking out, if it knows `enable_thinking`.
        structured: constrain answers to the form of their request. Fewer answers have to be asked for again, but a
            constrained model cannot refuse, and a refusal that is not seen cannot fail closed; so it is off.
        trust_remote_code: run Python code that comes with the weights; a Hub id then needs its revision.
    """

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
        """Raise `MissingExtra`, `MissingWeights`, or `SetupError` for an option or a GPU; loads no weights."""
        self.check_checkpoint(self.trust_remote_code)
        for name in ("tensor_parallel_size", "max_pixels", "max_images"):
            check_int(name, getattr(self, name))
        if self.max_model_len is not None:
            check_int("max_model_len", self.max_model_len)
        check_float("gpu_memory_utilization", self.gpu_memory_utilization, 0, 1, above=True)
        checkpoints.need("vllm", "vllm")
        self.folder()
        checkpoints.gpus(self.tensor_parallel_size)

    def load(self) -> Any:
        """The engine, a `vllm.LLM`; raises `SetupError` as `check` does."""
        self.check()
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # at INFO it writes to standard output
        from vllm import LLM

        return LLM(**self.engine_arguments(), device_ids=checkpoints.gpus(self.tensor_parallel_size))

    def engine_arguments(self) -> dict[str, Any]:
        """The arguments of `vllm.LLM` except for its GPUs."""
        return {
            "model": str(self.folder()),
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
        outputs = self._chat(requests, lambda request: answer_parameters(request, self.structured))
        return [answer_text(output) for output in outputs]

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's first token, with and without a space before it, from one pass.

        Raises:
            RowError, SetupError: as `generate` does; `SetupError` if two choices begin with the same token, or one
                with a single letter.
        """
        firsts = first_tokens(self.loaded.get_tokenizer(), choices)
        outputs = self._chat(requests, lambda request: choice_parameters(firsts))
        return [choice_probabilities(output, firsts) for output in outputs]

    def _chat(self, requests: Sequence[Request], parameters: Callable[[Request], Any]) -> list[Any]:
        """The engine's outputs in the requests' order; requests whose answer is begun take a call of their own."""
        if any(map(has_images, requests)) and not self.loaded.model_config.is_multimodal_model:
            raise SetupError(f"the model {self.model!r} takes no images; choose a vision-language model")
        return in_groups(requests, begins_answer, max(1, len(requests)), lambda group: self._ask(group, parameters))

    def _ask(self, requests: Sequence[Request], parameters: Callable[[Request], Any]) -> list[Any]:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self.loaded
        try:
            turns = [to_messages(request, self.max_pixels, llm.get_tokenizer()) for request in requests]
            how = self.chat_arguments(begins_answer(requests[0]))
            outputs = llm.chat(turns, list(map(parameters, requests)), use_tqdm=False, **how)
        except EngineDeadError as error:
            raise SetupError("vLLM's engine died; see the lines that it printed above") from error
        except (VLLMClientError, ValueError) as error:
            raise RowError(f"vLLM refuses a request: {error}", NO_ANSWER) from error
        if len(outputs) != len(requests):
            raise RowError(f"vLLM gave {len(outputs)} answers to {len(requests)} requests", NO_ANSWER)
        return outputs

    def chat_arguments(self, begun: bool) -> dict[str, Any]:
        """How `LLM.chat` makes prompts; `begun` if they end in the beginning of an answer."""
        return {
            "add_generation_prompt": not begun,
            "continue_final_message": begun,
            "chat_template_kwargs": {"enable_thinking": self.thinking},
        }


def to_messages(request: Request, max_pixels: int, tokenizer: Any) -> list[dict[str, Any]]:
    """A request as the messages of `LLM.chat`, without control tokens, its images scaled down."""
    clean = partial(without_control_tokens, tokenizer=tokenizer)
    return [
        {"role": message.role, "content": message_content(message, "image_pil", max_pixels, clean=clean)}
        for message in request.messages
    ]


def answer_parameters(request: Request, structured: bool = False) -> Any:
    """A request's `SamplingParams` for generating an answer."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed if request.temperature > 0 else None,
        structured_outputs=StructuredOutputsParams(regex=request.form) if structured and request.form else None,
    )


def choice_parameters(firsts: Mapping[str, set[int]]) -> Any:
    """The `SamplingParams` for the probabilities of the first tokens of choices: one token, which is thrown away.

    Never structured: that would mask the scores first, and what the choices lack to a sum of 1 would be lost.
    """
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=sorted(set().union(*firsts.values())))


def answer_text(output: Any) -> str:
    """The text of a `RequestOutput`, with `CUT` if the token limit ended it.

    Raises:
        RowError: neither the model nor the limit ended it.
    """
    (first,) = output.outputs
    if first.finish_reason not in ("stop", "length"):
        raise RowError(f"the answer ended for the reason {first.finish_reason!r}", NO_ANSWER)
    return first.text + (CUT if first.finish_reason == "length" else "")


def choice_probabilities(output: Any, firsts: Mapping[str, set[int]]) -> dict[str, float]:
    """The probability of each choice's first tokens in a `RequestOutput`; a token that is not listed counts as 0.

    Raises:
        RowError: there are no probabilities, or they are not between 0 and 1.
    """
    (first,) = output.outputs
    if not first.logprobs:
        raise RowError("vLLM gave no probabilities", NO_ANSWER)
    listed = {token: math.exp(entry.logprob) for token, entry in first.logprobs[0].items()}
    if not 0 <= sum(listed.values()) <= 1.001:  # also refuses NaN
        raise RowError("vLLM gave impossible probabilities", NO_ANSWER)
    return {choice: min(1.0, sum(listed.get(token, 0.0) for token in ids)) for choice, ids in firsts.items()}
