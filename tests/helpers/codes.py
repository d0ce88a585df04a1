"""Real codes, drawn by zxing-cpp."""

import numpy as np
import zxingcpp


def code(kind: str, text: str, module: int = 3, quiet: int = 10) -> np.ndarray:
    """(H, W, 3) uint8: a code of this kind, `module` pixels to a module, with as many modules of white around it.

    Linear codes are 30 modules tall.
    """
    made = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    marks = np.asarray(made.to_image(scale=1, add_quiet_zones=False, add_hrt=False))
    if made.format in zxingcpp.barcode_formats_list(zxingcpp.BarcodeFormat.AllLinear):
        marks = np.repeat(marks[:1], 30, axis=0)
    marks = np.pad(marks, quiet, constant_values=255)
    return np.repeat(marks.repeat(module, 0).repeat(module, 1)[..., None], 3, axis=2)
