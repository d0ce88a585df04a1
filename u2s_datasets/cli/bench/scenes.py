"""What `u2s bench detect` measures on: pictures with something private whose place is known exactly."""

from typing import NamedTuple

import numpy as np


class Scene(NamedTuple):
    """A picture and where in it something has to be hidden.

    Args:
        image: (H, W, 3) uint8 RGB.
        cell: the line of the table that it counts in.
        quad: (4, 2) corners, in pixels, of what has to be hidden; None where that is nothing.
        variant: how it differs from others of its cell, such as its turn.
    """

    image: np.ndarray
    cell: str
    quad: np.ndarray | None
    variant: str = ""
