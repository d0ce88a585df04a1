"""Public texts that a model wrote: checked against what is private, asked for again, replaced if they still tell it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from u2s_datasets import columns
from u2s_datasets.errors import RowError, UnparsableAnswer
from u2s_datasets.parts import Backend, Request
from u2s_datasets.privacy.private_words import PrivateTerms, find_private_words
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.query import Question, ask_once


@dataclass
class Draft:
    """One public text that a model wrote.

    It stands for its row while it is asked for again: a second answer that is of no use costs the text, not the row.

    Args:
        row: for which it was written.
        request, answer: what was asked, and the whole of what came back.
        text: the public text in the answer.
        private: what the text may not say.
        allowed: words that it may say all the same.
        failure: why the second answer is of no use.
    """

    row: Row
    request: Request
    answer: str
    text: str
    private: PrivateTerms
    allowed: str = ""
    failure: RowError | None = None

    def fail(self, error: RowError) -> None:
        """Give the text up."""
        self.failure = error

    def private_words(self) -> list[str]:
        """What the text says that is private."""
        return find_private_words(self.text, self.private, self.allowed)


def write_drafts(
    backend: Backend,
    drafts: Sequence[Draft],
    column: str,
    parse: Callable[[str], tuple[str, PrivateTerms]],
    fallback: str = "",
    name_words: bool = False,
) -> None:
    """Write every draft into its row: as it is, or asked for again, or replaced and noted in the review.

    Args:
        backend: the model that wrote them.
        drafts: at most one per row.
        column: for which they are. It holds the generic text that replaces a draft.
        parse: an answer to its public text and what else it makes private.
        fallback: what replaces a draft in a row without a generic text.
        name_words: whether the model, having seen the image, may be told which words were private.
    """

    leaking = [draft for draft in drafts if draft.private_words()]
    questions = []
    for draft in leaking:
        words = f" ({', '.join(draft.private_words())})" if name_words else ", such as a name, a number or a brand"
        what = column.replace("_", " ")
        error = UnparsableAnswer(f"the {what} gives something private away{words}: say it generally")
        questions.append(Question[tuple[str, PrivateTerms]](draft, draft.request, draft.answer, error))
    ask_once(backend, questions, parse, "no_answer")
    for draft, question in zip(leaking, questions, strict=True):
        if question.answer is not None:
            draft.text, more = question.answer
            draft.private |= more
        if question.answer is None or draft.private_words():
            draft.text = draft.row.fields[column] or fallback
            note = columns.review_item(columns.LEAK, "", f"{column} was replaced", None, 0.0)
            draft.row.fields[columns.PRIVACY_REVIEW] = [*draft.row.review, note]
    for draft in drafts:
        draft.row.fields[column] = draft.text
