"""Operators and the panel "Privacy review". Forms, work and rules are the library's; here they get a face."""

from __future__ import annotations

from .operators import OPERATORS
from .panel import PrivacyReview


def register(plugin):
    """Every operator and the panel."""
    for cls in (*OPERATORS, PrivacyReview):
        plugin.register(cls)
