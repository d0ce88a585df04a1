"""Recognizers of names and places in kept texts, beside the patterns of `privacy.recognizers` that are always there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import TextCheck, catalog


def make_text_check(given: str | TextCheck | None, options: Mapping[str, Any] | None = None) -> TextCheck | None:
    """A recognizer by name, or as it is, once it was checked that it can work here; None for None.

    Args:
        given: a name of `catalog.TEXT_CHECKS`, "package.module:Class", or a recognizer.
        options: arguments of a named one.

    Raises:
        SetupError: an unknown name or option, or options without a name.
        MissingExtra, MissingWeights: its package or its model is absent.
    """
    if given is None or isinstance(given, TextCheck):
        if options:
            raise SetupError(f"text_check_options={dict(options)!r} without a name; add text_check=… (--text-check)")
        made = given
    else:
        plain = catalog.make("text check", given, catalog.TEXT_CHECKS)
        fields = {field.name for field in dataclasses.fields(plain)}
        for name in set(options or {}) - fields:
            known = ", ".join(sorted(fields))
            raise SetupError(f"the text check {given!r} has no option {name!r}; it has: {known}")
        made = dataclasses.replace(plain, **options or {})
    if made is not None:
        made.check()
    return made
