"""The vocabulary: what flows (`Detection`, `Region`, `Edit`, `Request`) and what loads (`Part` and its kinds).

A part is a frozen dataclass: configured now, loaded later, in the process that uses it. Its pickled state is its
configuration and a digest of the code that shapes its results, never its model. So `datasets` fingerprints a part by
what it does: the fingerprint is the same before and after the first call, and changes when the code does.
"""

import dataclasses
import importlib.metadata
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.images import Box, Outline, Shape, grow_evenly
from u2s_datasets.parts.fingerprint import code_digest
from u2s_datasets.privacy.recognizers import Entity

_LOAD = threading.RLock()  # reentrant, since loading a part may load a part inside it

Grow = Callable[[Box], Box]
"""From a detected box to the region that hides it, not clipped to the image."""


@dataclass(frozen=True)
class Category:
    """One kind of region that a detector finds, and all that the rest of the package has to know about it.

    Args:
        name: its name in `Detection.category`, reviews and provenances, such as "face".
        description: what is found, and its limits, for reports and cards; if empty, they show the name.
        noun, plural: the only words of a detector that captions show.
        grow: from a detected box to the region that hides it, see `images.grow_evenly`.
        shape: from a detection to the outline that hides it, see `images.cover_line`; None for that of the grown box.
        criterion: the criterion of `criteria.CRITERIA` by which a model looks for the same thing.
        covers: keys of `stages.inspect.BEYOND` that this category covers.
        aliases: other names for the same thing, in boxes and reviews of other origin.
    """

    name: str
    description: str = ""
    noun: str = "region"
    plural: str = "regions"
    grow: Grow = grow_evenly
    shape: Shape | None = None
    criterion: str = ""
    covers: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """One region that must not be published as it is.

    Args:
        category: what it is, one of the detector's `categories`.
        box: (x0, y0, x1, y1) in pixels.
        score: confidence in [0, 1]; one detection at or above the detector's `flag_threshold` flags its image.
        text: the text read there, or "". Private.
        outline: what it looks like inside its box, for the category's `shape`; None where only the box is known.
    """

    category: str
    box: Box
    score: float
    text: str = ""
    outline: Outline | None = None


@dataclass(frozen=True)
class Region:
    """One region to redact.

    Args:
        outlines: one or more, which are hidden together.
        strength: 0 where nothing was found after an earlier attempt, else as `Edit.strength`.
    """

    outlines: tuple[Outline, ...]
    strength: int = 0


@dataclass(frozen=True)
class Edit:
    """One image to edit, and how.

    Args:
        image: upright RGB image.
        source_prompt, target_prompt, instruction, public_caption: the text priors; each editor reads those it uses.
        boxes: regions to change; empty means the whole image.
        seed: seed of this row's noise, in [0, 2**63).
        strength: 0 at the first attempt, one more at each further attempt (law 4).
        regions: what a redacting editor is to hide, closer than by the boxes; empty where only these are known.
    """

    image: Image.Image
    source_prompt: str = ""
    target_prompt: str = ""
    instruction: str = ""
    public_caption: str = ""
    boxes: Sequence[Box] = ()
    seed: int = 0
    strength: int = 0
    regions: Sequence[Region] = ()


CUT = " …[cut]"
"""Appended to an answer that the token limit cut off, so that half an answer never passes for a whole one."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Args:
        role: "system", "user" or "assistant". A final assistant message is the beginning of the answer.
        content: texts and upright RGB images in order. Images first, followed by the same text in every request,
            let a backend share work between requests.
    """

    role: str
    content: tuple[str | Image.Image, ...]


@dataclass(frozen=True)
class Request:
    """One question to a backend.

    Args:
        messages: the conversation so far.
        max_tokens: the most tokens to generate.
        temperature: 0 for the likeliest answer, more for a sample.
        seed: seed of the sample, in [0, 2**63), so that batches and their order change nothing (law 5).
        form: a regular expression for the whole answer, to which a backend may constrain its model; the caller
            parses the answer in any case.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    form: str = ""


class Shipped(NamedTuple):
    """A model whose weights are inside an installed package."""

    model: str
    licence: str
    package: str


class Part:
    """Base of everything that is configured now and loaded later. Subclasses are frozen dataclasses."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version shapes the results; their versions are pickled with the configuration."""

    shown: ClassVar[tuple[str, ...]] = ()
    """Fields whose text may be published, such as the name of a method. Numbers always are; never a path or a key."""

    shipped: ClassVar[Shipped | None] = None

    on_gpu: ClassVar[bool] = False
    """Whether the model fills a GPU if there is one, so that one process per GPU is enough."""

    def load(self) -> Any:
        """Build the model. Called once per process, at first use, under a lock shared by all parts."""
        return None

    @property
    def loaded(self) -> Any:
        """The model, loaded at first use.

        Raises:
            SetupError: it cannot be loaded.
        """
        if "_loaded" not in self.__dict__:
            with _LOAD:
                if "_loaded" not in self.__dict__:
                    object.__setattr__(self, "_loaded", _load(self))
        return self.__dict__["_loaded"]

    def check(self) -> None:
        """Raise `SetupError` if this part cannot work here. Called before the first row; loads no model."""

    def config(self) -> dict[str, Any]:
        """The constructor arguments as plain, public values for provenance, `run.json` and cards.

        A part inside this one is its own configuration; a text that is not `shown` is "(not shown)".
        """
        fields = {name: _public(value, name in self.shown) for name, value in _arguments(self).items()}
        return {"part": type(self).__name__} | fields

    def __getstate__(self) -> dict[str, Any]:
        versions = {library: _version(library) for library in self.libraries}
        return {"fields": _arguments(self), "digest": code_digest(type(self).__module__), "versions": versions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state["fields"].items():
            object.__setattr__(self, name, value)


class Detector(Part):
    """Images in, private regions out."""

    categories: ClassVar[tuple[Category | str, ...]] = ()
    """What it finds. A bare name stands for the catalog's category of that name, or else for `Category(name)`."""
    flag_threshold: float

    @property
    def category_names(self) -> tuple[str, ...]:
        """The names of its categories."""
        return tuple(c if isinstance(c, str) else c.name for c in self.categories)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Every region to hide if its image is flagged, weak evidence included.

        Args:
            images: (H, W, 3) uint8 RGB arrays of any sizes.

        Returns:
            One list per image. An image is flagged by a detection at or above `flag_threshold`.
        """
        raise NotImplementedError

    def residue(self, images: Sequence[np.ndarray], edited: Sequence[Sequence[Box]]) -> list[list[Detection]]:
        """What can still be found after an edit, searched for at least as thoroughly as by `detect`.

        Args:
            images: the edited images, (H, W, 3) uint8 RGB.
            edited: per image, the boxes that were changed; the other pixels are those that `detect` saw.

        Returns:
            One list per image.
        """
        return self.detect(images)


class Backend(Part):
    """Conversations in, answers or the probabilities of given answers out. A language or vision-language model.

    Every answer depends on its own request alone, not on its neighbours in a batch nor on their order.
    """

    on_gpu: ClassVar[bool] = True
    sees: ClassVar[bool] = True
    """Whether it takes images."""

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request, in order; an answer that the token limit cut off ends in `CUT`.

        Raises:
            RowError: a request failed; the caller then tries them one by one.
            SetupError: the backend as a whole cannot work, for example since its server is down.
        """
        raise NotImplementedError

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """How likely each choice is as the next words, from one pass over the prompt and without decoding.

        Args:
            requests: conversations that end where a choice would begin.
            choices: two or more different texts.

        Returns:
            Per request, every choice with its probability in [0, 1], not normalised: what is missing to a sum of 1
            went to other words, and a caller that fails closed counts it towards the worst choice.
        """
        raise NotImplementedError


class Editor(Part):
    """Images and texts in, images of the same sizes out."""

    redacts: bool = False
    """Whether it shows nothing in place of what it hides, so that any detection afterwards is residue."""

    obeys_boxes: ClassVar[bool] = True
    """False for a redacting editor that finds what to hide by itself: it may also change pixels outside `Edit.boxes`,
    and what it leaves inside them is redacted at the end."""

    needs: ClassVar[tuple[str, ...]] = ()
    """The texts of `Edit` that drive it, such as ("target_prompt",); a row without one of them is withheld."""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One RGB image per edit, of its image's size. A failure raises; it never returns the original.

        Raises:
            RowError: a row failed; unless it is `PartlyFailed`, the caller then tries the rows one by one.
        """
        raise NotImplementedError


class TextCheck(Part):
    """Texts in, the names of persons and places in them out, in Presidio's vocabulary.

    It reads the kept texts of a run or a push beside the patterns of `privacy.recognizers`, which are always there. A
    text in which it finds anything stays home.
    """

    entities: tuple[str, ...]
    """What it looks for, in Presidio's words, such as ("PERSON", "LOCATION")."""

    def analyze(self, texts: Sequence[str]) -> list[list[Entity]]:
        """What is found in each text; a text that it cannot read, such as one of another language, is a hit, too.

        Raises:
            RowError: a text could not be analysed; it stays home.
        """
        raise NotImplementedError

    def holds_name(self, text: str) -> bool:
        """Whether anything is found in a text."""
        return bool(self.analyze([text])[0])


# Functions and not methods: a class below `Part` may give these names to its own.


def _load(part: Part) -> Any:
    try:
        return part.load()
    except SetupError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SetupError(f"{type(part).__name__} cannot be loaded: {reason}; see `u2s doctor`") from error


def _arguments(part: Any) -> dict[str, Any]:
    fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    return {field.name: getattr(part, field.name) for field in fields}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""  # `datasets` hashes a part before `check` runs, and it is `check` that names the missing extra


def _public(value: Any, shown: bool) -> Any:
    if isinstance(value, Part):
        return value.config()
    if isinstance(value, (tuple, list)):
        return [_public(item, shown) for item in value]
    if isinstance(value, (int, float, bool, type(None))) or (shown and isinstance(value, str)):
        return value
    return "(not shown)"
