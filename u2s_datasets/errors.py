"""The exception tree. A `SetupError` stops a run before its first row; a `RowError` withholds one row.

U2SError
├── SetupError          the call, the options or the machine are wrong; nothing was written
│   ├── MissingExtra    an optional package is not installed
│   └── MissingWeights  a model's weights are not on this machine
└── RowError            this row cannot be made safe; the rest of the run goes on
    ├── UnreadableImage
    ├── UnparsableAnswer
    ├── EditFailed
    ├── ResidueFound
    └── PartlyFailed    some rows of a batch failed; it holds the results of all
"""

from collections.abc import Sequence
from typing import Any


class U2SError(Exception):
    """Base of every error that this package raises on purpose."""


class SetupError(U2SError, ValueError):
    """Something to mend before the run: the message names the value and the remedy."""

    each: tuple[str, ...] = ()
    """The single messages, where it stands for several; see `together`."""


class MissingExtra(SetupError):
    """An optional package is absent; the message holds the command that installs it."""


class MissingWeights(SetupError):
    """Model weights are absent; the message holds the command that gets them."""


class RowError(U2SError):
    """One row cannot be judged or made safe. `code` may be public; the message is private.

    Args:
        code: a short reason code of `columns.REASON_CODES`, counted in every report.
        message: what happened, in words. It may name files or contents, so it stays in `private/`.
    """

    code = "error"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.code


class UnreadableImage(RowError):
    """The image could not be decoded whole and within the limits."""

    code = "unreadable"


class UnparsableAnswer(RowError):
    """A model's answer does not say, beyond doubt, what was asked for."""

    code = "unparsable_answer"


class EditFailed(RowError):
    """The editor raised, or gave back an image that cannot be used."""

    code = "edit_failed"


class ResidueFound(RowError):
    """Something private was still found after the last attempt."""

    code = "residue"


class PartlyFailed(RowError):
    """Some rows of a batch failed. Raised by a part that knows which, so that the others are not worked on again.

    Args:
        results: one per row, in order: its result, or the `RowError` that withholds it.
    """

    def __init__(self, results: Sequence[Any]) -> None:
        failed = [result for result in results if isinstance(result, RowError)]
        super().__init__(f"{len(failed)} of {len(results)} rows failed; the first: {failed[0]}", failed[0].code)
        self.results = list(results)


def together(errors: Sequence[SetupError]) -> SetupError:
    """One error that says what several do, each thing once; the only one as it is."""
    words = dict.fromkeys(line for error in errors for line in error.each or (str(error),))
    kinds = {type(error) for error in errors}
    if len(words) == 1 and len(kinds) == 1:
        return errors[0]
    made = (kinds.pop() if len(kinds) == 1 else SetupError)("\n  - ".join(["this has to be mended first:", *words]))
    made.each = tuple(words)
    return made


def missing_extra(package: str, extra: str) -> MissingExtra:
    """The error for an absent optional package, naming the command that cures it."""
    return MissingExtra(f"{package} is not installed; run: pip install 'u2s_datasets[{extra}]'")
