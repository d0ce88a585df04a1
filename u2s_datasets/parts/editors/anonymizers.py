"""Anonymizers that `ExternalEditor` knows how to call, each in an environment of its own. Nothing of theirs is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from u2s_datasets.parts.editors.external import ExternalEditor


@dataclass(frozen=True)
class Deface(ExternalEditor):
    """deface (MIT): finds faces with CenterFace and paints them over, here with black boxes.

    A further attempt lowers its threshold and grows its boxes. Source: github.com/ORB-HD/deface, version 1.5.
    """

    command: tuple[str, ...] = ("deface", "{input}", "--boxes", "--replacewith", "solid")
    stronger: tuple[tuple[str, ...], ...] = (
        ("--thresh", "0.1", "--mask-scale", "1.5"),
        ("--thresh", "0.05", "--mask-scale", "1.7"),
    )
    result: str = "{input}/{name}_anonymized.png"
    redacts: bool = True

    install: ClassVar[str] = (
        "run: python -m venv deface-env && deface-env/bin/pip install deface onnx onnxruntime, "
        "and put deface-env/bin on the PATH (an environment of its own, since it replaces OpenCV)"
    )


@dataclass(frozen=True)
class DeepPrivacy2(ExternalEditor):
    """DeepPrivacy2 (Apache-2.0): finds faces and synthesises others with a GAN.

    It takes one seed per run, so every image has a run of its own; `alone=False` is faster and lets a row depend on
    its neighbours. For whole bodies give a `command` with configs/anonymizers/FB_cse.py. A further attempt has
    another seed and a lower threshold. Source: github.com/hukkelas/deep_privacy2, anonymize.py.
    """

    command: tuple[str, ...] = (
        "{folder}/.venv/bin/python",
        "{folder}/anonymize.py",
        "configs/anonymizers/face.py",
        *("-i", "{input}", "-o", "{output}", "--seed", "{seed}"),
    )
    stronger: tuple[tuple[str, ...], ...] = (
        ("--detection-score-threshold", "0.2"),
        ("--detection-score-threshold", "0.1"),
    )
    timeout: float = 300.0

    variable: ClassVar[str] = "U2S_DEEPPRIVACY2"
    install: ClassVar[str] = (
        "run: git clone https://github.com/hukkelas/deep_privacy2, install it into its own environment in the folder "
        ".venv of the checkout, and set U2S_DEEPPRIVACY2 to the checkout"
    )


@dataclass(frozen=True)
class FaceAnonSimple(ExternalEditor):
    """Face Anonymization Made Simple (AGPL-3.0): finds faces and rewrites each by diffusion.

    It has no command of its own: `face_anon_simple.py` beside this file is run by the Python of its environment, with
    the authors' values for unaligned faces: 25 steps, guidance 4, degree 1.25. A further attempt raises the degree.
    Source: github.com/hanweikung/face_anon_simple, README.
    """

    command: tuple[str, ...] = (
        "{folder}/.venv/bin/python",
        "{here}/face_anon_simple.py",
        *("{input}", "{output}", "{seeds}"),
    )
    stronger: tuple[tuple[str, ...], ...] = (("--degree", "1.5"), ("--degree", "1.75"))
    timeout: float = 600.0

    variable: ClassVar[str] = "U2S_FACEANONSIMPLE"
    install: ClassVar[str] = (
        "run: git clone https://github.com/hanweikung/face_anon_simple, make its environment in the folder .venv of "
        "the checkout (conda env create -f environment.yml -p .venv), and set U2S_FACEANONSIMPLE to the checkout"
    )
