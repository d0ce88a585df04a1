"""Names and places in texts by `presidio-analyzer`, with a spaCy pipeline that the user has.

https://microsoft.github.io/presidio/analyzer/
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from u2s_datasets.errors import MissingWeights
from u2s_datasets.parts import TextCheck, checkpoints, checks
from u2s_datasets.privacy.plain_text import plain, scripts_of
from u2s_datasets.privacy.recognizers import NAMES, Entity

_SCRIPTS = {
    "ar": ("ARABIC",),
    "bg": ("CYRILLIC",),
    "el": ("GREEK",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "LATIN"),
    "ko": ("HANGUL", "LATIN"),
    "mk": ("CYRILLIC",),
    "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK", "LATIN"),
}
"""Language -> the scripts that a pipeline for it can be trusted with; others are written in Latin letters."""


@dataclass(frozen=True)
class PresidioText(TextCheck):
    """Presidio's analyzer on a spaCy pipeline; a text in letters that the language does not use counts as a hit.

    Nothing is downloaded: the pipeline is installed by the user, as `python -m spacy download NAME` does it.

    Args:
        model: name of an installed pipeline, or the folder of one.
        language: of the texts, as the pipeline's code ("en").
        entities: what counts as a hit, in Presidio's words.
        score_threshold: least score of a hit.
        allow_list: words that may stand all the same, such as the town that a set is about.
    """

    model: str = "en_core_web_lg"
    language: str = "en"
    entities: tuple[str, ...] = NAMES
    score_threshold: float = 0.3
    allow_list: tuple[str, ...] = ()

    libraries: ClassVar[tuple[str, ...]] = ("presidio-analyzer", "spacy")
    shown: ClassVar[tuple[str, ...]] = ("language", "entities")

    def __post_init__(self) -> None:
        for name in ("entities", "allow_list"):
            object.__setattr__(self, name, tuple(checks.check_names(name, getattr(self, name))))

    def check(self) -> None:
        """Raise `MissingExtra` without Presidio, `MissingWeights` without the pipeline."""
        checks.check_ranges(self, score_threshold=(0, 1))
        checkpoints.need("text", "presidio_analyzer", "spacy")
        if not (Path(self.model).expanduser().is_dir() or importlib.util.find_spec(self.model.replace("-", "_"))):
            raise MissingWeights(
                f"no spaCy pipeline model={self.model!r}; run: python -m spacy download {self.model}, or give the "
                "folder of a pipeline"
            )

    def load(self) -> Any:
        """Presidio's `AnalyzerEngine`. Its own loader would download a missing pipeline, so spaCy loads this one."""
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        self.check()
        folder = Path(self.model).expanduser()
        engine = SpacyNlpEngine(models=[{"lang_code": self.language, "model_name": self.model}])
        engine.nlp = {self.language: spacy.load(folder if folder.is_dir() else self.model)}
        registry = RecognizerRegistry(supported_languages=[self.language])
        registry.load_predefined_recognizers(languages=[self.language], nlp_engine=engine)
        return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[self.language])

    def analyze(self, texts: Sequence[str]) -> list[list[Entity]]:
        """What is found in each text, written in one spelling; a text in other letters is one entity "UNREAD"."""
        known = {*_SCRIPTS.get(self.language, ("LATIN",))}
        found = []
        for text in map(plain, texts):
            if text and scripts_of(text) - known:
                found.append([Entity("UNREAD", 0, len(text))])
                continue
            results = self.loaded.analyze(
                text,
                self.language,
                entities=list(self.entities),
                score_threshold=self.score_threshold,
                allow_list=list(self.allow_list),
            )
            found.append([Entity(r.entity_type, r.start, r.end, float(r.score)) for r in results])
        return found
