"""What a scripted model says: an answer for each question of stage 1."""

import u2s_datasets as u2s


def review(item="name tag Anna Schmidt", category="text", public="A person sits at a desk."):
    return (
        f"PRIVACY_REVIEW\nITEM: {item}\nCATEGORY: {category}\nREASON: tells who it is\n\n"
        f"PRIVATE_CAPTION\nAnna Schmidt sits at a desk.\n\nPUBLIC_CAPTION\n{public}"
    )


def scripted(*answers, default=None):
    return u2s.Scripted(answers, default)


SEES = scripted(
    ("PRIVACY_FLAG:$", {"TRUE": 0.9, "FALSE": 0.05}),
    ("Reply with exactly one line", "PRIVACY_FLAG: FALSE"),
    ("PRIVATE_CAPTION", review()),
    ("Say what the editor", "grey hair, a blue coat and a round hat for the person"),
    ("Describe the edited photo", "A person with grey hair sits at a desk."),
)
