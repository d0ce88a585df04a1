"""What docstrings say of arguments: help texts of the command line and of forms are written once, beside the code."""

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def argument_docs(documented: Any) -> dict[str, str]:
    """Argument -> what the docstring says of it, on one line.

    Args:
        documented: a function, or a class, which adds to what its bases say; with an "Args:" section in Google style.
    """
    bases = reversed(documented.__mro__) if isinstance(documented, type) else (documented,)
    found: dict[str, str] = {}
    for base in bases:
        doc = inspect.cleandoc(base.__doc__ or "")
        section = doc.partition("Args:\n")[2].partition("\n\n")[0]
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {6,}.*)*)", section, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), re.sub(r"\s+", " ", text))
    return found


def documented_by(options: type) -> Callable[[_Function], _Function]:
    """A decorator: in a function's docstring, `{options}` stands for the arguments that this class documents."""

    def complete(function: _Function) -> _Function:
        lines = (f"{name}: {text}" for name, text in argument_docs(options).items())
        function.__doc__ = (function.__doc__ or "").replace("{options}", "\n        ".join(lines))
        return function

    return complete
