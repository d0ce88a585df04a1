"""The weights that profiles and editors use: their commit, licence and size.

This package downloads nothing; `Weights.get` is the command that does. Revisions and licences are from the models'
pages, or, for pages that cannot be read without an account, from several public projects that pin the same commit.
"""

from dataclasses import dataclass
from pathlib import Path

from u2s_datasets.errors import SetupError


@dataclass(frozen=True)
class Weights:
    """A model on the Hub.

    Args:
        model: its id.
        revision: the commit.
        licence: in words.
        billions: parameters of all networks that are loaded, in 10^9.
        permissive: whether the licence allows any use by anyone.
        remote_code: whether transformers can run it only with Python code that comes with the weights.
    """

    model: str
    revision: str
    licence: str
    billions: float
    permissive: bool = False
    remote_code: bool = False

    @property
    def get(self) -> str:
        """The command that downloads it."""
        return f"hf download {self.model} --revision {self.revision}"


APACHE = "Apache-2.0"

_WEIGHTS = (
    Weights(
        "OpenGVLab/InternVL2_5-8B",
        "e9e4c0dc1db56bfab10458671519b7fa3dd29463",
        "MIT",
        8.1,
        permissive=True,
        remote_code=True,
    ),
    Weights(
        "OpenGVLab/InternVL3_5-8B-HF",
        "741a7d03020411e666c6109218ab71e08151ef86",
        "Apache-2.0 as InternVL3_5-8B; for this form of it none was seen",
        8.5,
    ),
    Weights("Qwen/Qwen3-4B-Instruct-2507", "cdbee75f17c01a7cc42f958dc650907174af0554", APACHE, 4.0, permissive=True),
    Weights("Qwen/Qwen3-VL-8B-Instruct", "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b", APACHE, 8.8, permissive=True),
    Weights("Qwen/Qwen3-VL-4B-Instruct", "ebb281ec70b05090aa6165b016eac8ec08e71b17", APACHE, 4.4, permissive=True),
    Weights(
        "stabilityai/stable-diffusion-3-medium-diffusers",
        "ea42f8cef0f178587cf766dc8129abd379c90671",
        "Stability AI Community License; to be accepted on its page first",
        7.7,
    ),
    Weights(
        "stabilityai/stable-diffusion-3.5-medium",
        "b940f670f0eda2d07fbb75229e779da1ad11eb80",
        "Stability AI Community License; to be accepted on its page first",
        8.1,
    ),
    Weights(
        "stabilityai/stable-diffusion-3.5-large",
        "ceddf0a7fdf2064ea28e2213e3b84e4afa170a0f",
        "Stability AI Community License; to be accepted on its page first",
        13.7,
    ),
    Weights(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        "CreativeML Open RAIL-M",
        1.1,
    ),
    Weights(
        "timbrooks/instruct-pix2pix",
        "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
        "MIT; derived from Stable Diffusion 1.5 (CreativeML OpenRAIL-M)",
        1.4,
    ),
    Weights(
        "black-forest-labs/FLUX.1-dev",
        "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
        "FLUX.1 [dev] Non-Commercial License; to be accepted on its page first",
        16.9,
    ),
    Weights(
        "black-forest-labs/FLUX.1-schnell",
        "741f7c3ce8b383c54771c7003378a50191e9efe9",
        APACHE,
        16.9,
        permissive=True,
    ),
    Weights(
        "black-forest-labs/FLUX.1-Kontext-dev",
        "af58063aa431f4d2bbc11ae46f57451d4416a170",
        "FLUX.1 [dev] Non-Commercial License; to be accepted on its page first",
        16.9,
    ),
    Weights(
        "black-forest-labs/FLUX.2-klein-4B", "e7b7dc27f91deacad38e78976d1f2b499d76a294", APACHE, 8.0, permissive=True
    ),
    Weights("Qwen/Qwen-Image-Edit-2509", "d3968ef930e841f4c73640fb8afa3b306a78167e", APACHE, 28.9, permissive=True),
    Weights("Qwen/Qwen-Image-Edit-2511", "6f3ccc0b56e431dc6a0c2b2039706d7d26f22cb9", APACHE, 28.9, permissive=True),
)

WEIGHTS: dict[str, Weights] = {weights.model: weights for weights in _WEIGHTS}  # by Hub id


def pinned(model: str) -> tuple[str, str | None]:
    """(id, commit) of "id@commit"; of an id alone, with the commit in `WEIGHTS`, or None; of a folder, with None.

    Raises:
        SetupError: a commit was given for a folder.
    """
    if Path(model).is_dir():
        return model, None
    name, _, revision = model.rpartition("@")
    if name and revision and "/" not in revision:
        if Path(name).is_dir():
            raise SetupError(f"invalid model {model!r}: a folder has no commits; give {name!r} alone, or a Hub id")
        return name, revision
    return model, WEIGHTS[model].revision if model in WEIGHTS else None


def gigabytes(billions: float) -> int:
    """GPU memory for so many billion parameters in 16 bits, plus a fifth for activations: computed, not measured."""
    return round(billions * 2 * 1.2)
