"""From a model's answer to fields, or to a named error. Every parser fails closed."""

from u2s_datasets.stages.answers.caption import FORM, Captions, ReviewItem, parse_caption, parse_instruction
from u2s_datasets.stages.answers.evaluation import parse_races, parse_score, parse_text
from u2s_datasets.stages.answers.flag import parse_flag

__all__ = [
    "FORM",
    "Captions",
    "ReviewItem",
    "parse_caption",
    "parse_flag",
    "parse_instruction",
    "parse_races",
    "parse_score",
    "parse_text",
]
