"""What a scripted model says: an answer for each question of stage 1."""

from dataclasses import dataclass

import u2s_datasets as u2s


def review(item="name tag Anna Schmidt", category="text", public="A person sits at a desk."):
    return (
        f"PRIVACY_REVIEW\nITEM: {item}\nCATEGORY: {category}\nREASON: tells who it is\n\n"
        f"PRIVATE_CAPTION\nAnna Schmidt sits at a desk.\n\nPUBLIC_CAPTION\n{public}"
    )


def scripted(*answers, default=None):
    return u2s.Scripted(answers, default)


GONE = ((r"(<image [^>]*>) \1", {"TRUE": 1.0}), ("STILL_THERE:$", {"FALSE": 1.0}))
"""Of a pair: what is private is still there in an image that is the original itself, and gone from any other."""

SEES = scripted(
    *GONE,
    ("PRIVACY_FLAG:$", {"TRUE": 0.9, "FALSE": 0.05}),
    ("Reply with exactly one line", "PRIVACY_FLAG: FALSE"),
    ("PRIVATE_CAPTION", review()),
    ("Say what the editor", "grey hair, a blue coat and a round hat for the person"),
    ("Describe the edited photo", "A person with grey hair sits at a desk."),
)


@dataclass(frozen=True)
class Odd(u2s.Backend):
    """A backend that goes wrong in the way it is told."""

    how: str = "raises"

    def generate(self, requests):
        return self._answer([SEES.generate([r])[0] for r in requests])

    def choose(self, requests, choices):
        return self._answer([{"TRUE": 0.0, "FALSE": 1.0} for _ in requests])

    def _answer(self, answers):
        if self.how == "raises":
            raise RuntimeError("Anna is too much for me")
        if self.how == "fewer":
            return answers[:-1]
        if self.how == "more":
            return [*answers, *answers]
        if self.how == "none":
            return [None for _ in answers]
        return [{"TRUE": 0.0, "FALSE": float("nan")} if self.how == "nan" else {} for _ in answers]
