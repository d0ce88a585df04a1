"""The vocabulary on one screen: what flows (`Detection`, `Edit`, `Request`) and what loads (`Part` and its kinds).

A part is a frozen dataclass: configured now, loaded later, in the process that uses it. Its pickled state is
its configuration and a digest of the code that shapes its results, never its model, so that `datasets`
fingerprints a part by what it does: the same before and after its first call, another after an edit.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, grow_evenly
from u2s_datasets.parts.fingerprint import code_digest

_LOAD = threading.Lock()


Grow = Callable[[Box], Box]
"""From a detected box to the region that is hidden."""


@dataclass(frozen=True)
class Category:
    """One kind of region that a detector finds, and all that the rest of the package has to know of it.

    Args:
        name: in `Detection.category`, reviews and provenances, such as "face".
        description: what is found, with its limits, for reports and cards; the name where there is none.
        noun, plural: for captions, which show no other word of a detector.
        grow: the region that hides a detected box, see `images.grow_evenly`.
        criterion: the criterion of `criteria.CRITERIA` under which a model is asked for the same.
        covers: keys of `stages.inspect.BEYOND` that are looked for with it.
        aliases: other names for the same, in boxes and reviews that others give.
    """

    name: str
    description: str = ""
    noun: str = "region"
    plural: str = "regions"
    grow: Grow = grow_evenly
    criterion: str = ""
    covers: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """One region that should not be published as it is.

    Args:
        category: what it is, one of the detector's `categories`.
        box: (x0, y0, x1, y1) in pixels.
        score: confidence in [0, 1]; at or above the detector's `flag_threshold` it flags its image alone.
        text: what was read there, if anything was. Private.
    """

    category: str
    box: Box
    score: float
    text: str = ""


@dataclass(frozen=True)
class Edit:
    """One order to an editor.

    Args:
        image: upright RGB image.
        source_prompt, target_prompt, instruction, public_caption: the text priors; an editor takes what it uses.
        boxes: regions to change; empty means the whole image.
        seed: seed of this row's noise, in [0, 2**63).
        strength: 0 at the first attempt, one more at each further attempt (law 4).
    """

    image: Image.Image
    source_prompt: str = ""
    target_prompt: str = ""
    instruction: str = ""
    public_caption: str = ""
    boxes: Sequence[Box] = ()
    seed: int = 0
    strength: int = 0


CUT = " …[cut]"
"""What a backend puts behind an answer that the token limit cut off, so that no half answer passes for a whole one."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Args:
        role: "system", "user" or "assistant". An assistant message at the end is a beginning to be continued.
        content: texts and upright RGB images, in the order in which they are shown. Images first, and the same
            text behind them, lets a backend share its work between requests.
    """

    role: str
    content: tuple[str | Image.Image, ...]


@dataclass(frozen=True)
class Request:
    """One question to a backend.

    Args:
        messages: the conversation so far.
        max_tokens: the most tokens to write.
        temperature: 0 for the likeliest answer; above, a sample.
        seed: seed of the sample, in [0, 2**63), so that batches and their order change nothing (law 5).
        form: a regular expression for the whole answer, to which a backend may hold its model; the caller parses
            the answer all the same.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    form: str = ""


class Shipped(NamedTuple):
    """A model whose weights come inside an installed package."""

    model: str
    licence: str
    package: str


class Part:
    """Base of everything that is configured now and loaded later. Subclasses are frozen dataclasses.

    `libraries` names the distributions whose version shapes the result; they enter the digest.
    """

    libraries: ClassVar[tuple[str, ...]] = ()

    shown: ClassVar[tuple[str, ...]] = ()
    """Fields whose text may be published, such as a method's name. Numbers are; a path or a key never may."""

    shipped: ClassVar[Shipped | None] = None

    on_gpu: ClassVar[bool] = False
    """Whether the model fills a GPU where there is one, so that a process for each GPU is enough."""

    def load(self) -> Any:
        """Build the model. Called once per process, at first use, under a lock."""
        return None

    @property
    def loaded(self) -> Any:
        """The loaded model."""
        if "_loaded" not in self.__dict__:
            with _LOAD:
                if "_loaded" not in self.__dict__:
                    object.__setattr__(self, "_loaded", self._load_or_say_why())
        return self.__dict__["_loaded"]

    def _load_or_say_why(self) -> Any:
        try:
            return self.load()
        except SetupError:
            raise
        except Exception as error:
            name = type(self).__name__
            raise SetupError(f"{name} cannot be loaded: {type(error).__name__}: {error}; see `u2s doctor`") from error

    def check(self) -> None:
        """Raise `SetupError` where this part cannot work here. Runs before the first row; loads nothing big."""

    def config(self) -> dict[str, Any]:
        """The constructor arguments, parts included, as plain values for anyone: provenance, `run.json`, cards."""
        fields = {f.name: _plain(getattr(self, f.name), f.name in self.shown) for f in _fields(self)}
        return {"part": type(self).__name__} | fields

    def __getstate__(self) -> dict[str, Any]:
        state = {f.name: getattr(self, f.name) for f in _fields(self)}
        return {"fields": state, "digest": code_digest(type(self).__module__), "versions": _versions(self.libraries)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state["fields"].items():
            object.__setattr__(self, name, value)


class Detector(Part):
    """Images in, private regions out."""

    categories: ClassVar[tuple[Category | str, ...]] = ()
    """What it finds; a bare name is the category of that name in the catalog, or one without more words."""
    flag_threshold: float

    @property
    def category_names(self) -> tuple[str, ...]:
        """The names of its categories."""
        return tuple(c if isinstance(c, str) else c.name for c in self.categories)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Every region to hide should its image be flagged, weak evidence included.

        Args:
            images: (H, W, 3) uint8 RGB arrays of any sizes.

        Returns:
            One list per image. An image is flagged by a detection at or above `flag_threshold`.
        """
        raise NotImplementedError

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """What is still to be found after an edit, looked for at least as hard as before.

        Args:
            images: the edited images, (H, W, 3) uint8 RGB.
            edited: per image the boxes that were changed; pixels elsewhere are those that `detect` saw.
        """
        return self.detect(images)


class Backend(Part):
    """Conversations in, words or the weights of given words out. A language model, or one that sees.

    Every answer depends on its own request alone: neither its neighbours in a batch nor their order changes it.
    """

    on_gpu: ClassVar[bool] = True
    sees: ClassVar[bool] = True
    """False where it takes no images."""

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request, in order; what the token limit cut off ends in `CUT`.

        Raises:
            RowError: a request failed; the caller then tries them one by one.
            SetupError: the backend as a whole cannot work, such as a server that is not there.
        """
        raise NotImplementedError

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """How likely each choice is as the next words, from one pass over the prompt and without decoding.

        Args:
            requests: conversations that end where a choice would begin.
            choices: two or more different texts.

        Returns:
            Per request every choice with its probability in [0, 1], as it is and not scaled to a sum of 1: what is
            missing went to other words, and a caller that fails closed counts it as the worst choice.
        """
        raise NotImplementedError


class Editor(Part):
    """Images and texts in, images of the same sizes out."""

    redacts: bool = False
    """True where the output shows nothing in place of what was hidden, so that any residue is absolute."""

    obeys_boxes: ClassVar[bool] = True
    """False for a redacting editor that finds what to hide by itself: pixels outside `Edit.boxes` may have changed
    too, and what it left inside them is redacted in the end."""

    needs: ClassVar[tuple[str, ...]] = ()
    """The texts of `Edit` that drive it, such as ("target_prompt",): a row in which one is empty is withheld."""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One image per order, same size, same mode. Never returns an original for a failure.

        Raises:
            RowError: a row failed; the caller then tries the others one by one, unless it is `PartlyFailed`.
        """
        raise NotImplementedError


def _versions(libraries: Sequence[str]) -> dict[str, str]:
    return {name: _version(name) for name in libraries}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""  # `check` names the extra; hashing a part, which comes first, must not hide that


def _fields(part: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()


def _plain(value: Any, shown: bool) -> Any:
    if isinstance(value, Part):
        return value.config()
    if isinstance(value, (tuple, list)):
        return [_plain(v, shown) for v in value]
    if isinstance(value, (int, float, bool, type(None))) or (shown and isinstance(value, str)):
        return value
    return "(not shown)"
