"""What several backends share: requests as models read them, the first tokens of choices, checkpoints on disk."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Message, Request, checkpoints
from u2s_datasets.parts.checks import check_choice

T = TypeVar("T")

NO_ANSWER = "no_answer"  # the reason code of a row for which a backend had no usable answer


@dataclass(frozen=True)
class CheckpointBackend(Backend):
    """A backend that loads a checkpoint from this machine, whatever library runs it. Nothing is downloaded.

    Args:
        model: a Hub id, or a folder, with safetensors.
        revision: commit of the Hub repository; None takes whatever "main" is in the cache.
        dtype: one of `checkpoints.AUTO_DTYPES`.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"

    def check_checkpoint(self, trust_remote_code: bool) -> None:
        """Raise `SetupError` for an unknown dtype, or for code from the Hub without a commit."""
        check_choice("dtype", self.dtype, checkpoints.AUTO_DTYPES)
        if trust_remote_code and self.revision is None and not Path(self.model).is_dir():
            raise SetupError("trust_remote_code=True runs code from the Hub; pin it with revision='<commit>'")

    def folder(self) -> Path:
        """The checkpoint's folder; raises `MissingWeights` unless it has weights as safetensors."""
        folder = checkpoints.folder(self.model, self.revision)
        if not any(folder.glob("*.safetensors")):  # other formats are pickles, which run code as they are loaded
            raise checkpoints.missing(self.model, self.revision, "has no weights as safetensors")
        return folder

    def config(self) -> dict[str, Any]:
        """See `Part.config`; shows the model if it is a Hub id, never a folder."""
        return super().config() | checkpoints.public_id(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": checkpoints.fingerprint(self.model, self.revision)}


def has_images(request: Request) -> bool:
    """Whether a request shows an image."""
    return any(isinstance(part, Image.Image) for message in request.messages for part in message.content)


def begins_answer(request: Request) -> bool:
    """Whether a request's last message is the beginning of its answer."""
    return request.messages[-1].role == "assistant"


def message_content(
    message: Message,
    kind: str,
    max_pixels: int,
    *,
    clean: Callable[[str], str] = str,
    encode: Callable[[Image.Image], Any] = lambda image: image,
    always_parts: bool = False,
) -> str | list[dict[str, Any]]:
    """A message's content as chat templates take it: one text, or a list of parts if it has images.

    Args:
        message: its texts and images.
        kind: what an image's part is called: it is {"type": kind, kind: encode(image)}.
        max_pixels: see `scale_down`.
        clean: applied to every text.
        encode: applied to every scaled image.
        always_parts: a list even for a message without images.
    """
    if not always_parts and not has_images(Request((message,))):
        return "\n".join(clean(str(part)) for part in message.content)
    return [
        {"type": kind, kind: encode(scale_down(part, max_pixels))}
        if isinstance(part, Image.Image)
        else {"type": "text", "text": clean(part)}
        for part in message.content
    ]


def in_groups(
    requests: Sequence[Request], key: Callable[[Request], Any], size: int, work: Callable[[list[Request]], list[T]]
) -> list[T]:
    """`work` on up to `size` requests of the same `key` at a time; its results in the requests' order."""
    groups: dict[Any, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(key(request), []).append(i)
    results: dict[int, T] = {}
    for indices in groups.values():
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            results.update(zip(chosen, work([requests[i] for i in chosen]), strict=True))
    return [results[i] for i in range(len(requests))]


def scale_down(image: Image.Image, max_pixels: int) -> Image.Image:
    """The image in RGB without metadata, in its proportions with at most `max_pixels` pixels; never enlarged."""
    image = image.convert("RGB")
    image.info = {}
    pixels = image.width * image.height
    if pixels <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / pixels)
    size = (max(1, math.floor(image.width * scale)), max(1, math.floor(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def without_control_tokens(text: str, tokenizer: Any) -> str:
    """The text with spaces for control tokens: no text read in an image may end a turn or stand for an image."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    for token in {*tokenizer.all_special_tokens, *added}:
        text = text.replace(token, " ")
    return text


def first_tokens(tokenizer: Any, choices: Sequence[str]) -> dict[str, set[int]]:
    """The tokens with which each choice can begin, with and without a space before it.

    A single letter may begin anything (the F of FALSE, of Face) and is left out: its probability would count for a
    choice that was not meant.

    Raises:
        SetupError: there are fewer than two choices, two of them share a first token, or one has none.
    """
    if len(set(choices)) < 2:
        raise SetupError(f"invalid choices={list(choices)!r}; expected two or more different texts")
    firsts: dict[str, set[int]] = {choice: set() for choice in choices}
    for choice, found in firsts.items():
        for text in (choice, f" {choice}"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            begin = tokenizer.decode(ids[:1]).strip() if ids and ids[0] != tokenizer.unk_token_id else ""
            if len(begin) > 1 or (begin and begin == text.strip()):
                found.add(ids[0])
    for choice, found in firsts.items():
        shared = [other for other in choices if other != choice and found & firsts[other]]
        if shared or not found:
            raise SetupError(
                f"choices={list(choices)!r}: this model's tokenizer cannot tell {choice!r} "
                f"from {repr(shared[0]) if shared else 'other words'} by its first token; "
                'ask with method="generate", or choose other words'
            )
    return firsts
