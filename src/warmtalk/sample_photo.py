"""The portrait of the demo, the benchmarks and the tests: Eileen Collins, NASA, public domain (see NOTICE)."""

from __future__ import annotations

from pathlib import Path

import cv2

from warmtalk.core.types import Image

PATH = Path(__file__).parent / "data" / "eileen_collins.png"


def read_sample_photo() -> Image:
    """Returns the photo, [512, 512, 3] uint8 BGR: one face, 95 pixels wide, around (222, 130)."""
    image = cv2.imread(str(PATH))
    assert image is not None, f"{PATH} is damaged"
    return image  # type: ignore[return-value]
