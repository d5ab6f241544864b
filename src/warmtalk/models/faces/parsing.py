"""Converts the labels of a face-parsing network to MuseTalk's hard mask: the pixels of the crop box that the new face
may replace.

The result equals the reference bit for bit (face_parsing module, commit 0a89dec). Labels are those of CelebAMask-HQ: 1
skin, 10 nose, 11 mouth, 12 and 13 lips, 14 neck. Pillow resizes, as in the reference, because the filters of OpenCV
differ.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from warmtalk.core.types import Box, Image, Mask

SIDE = 512
"""Width and height of the network's input and of the label map, pixels."""
_SKIN, _NOSE, _MOUTH_AND_LIPS, _NECK = 1, 10, (11, 12, 13), 14
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of ImageNet, RGB."""


def crop_with_black(frame: Image, crop: Box) -> Image:
    """Returns the crop box of a frame, [S, S, 3]; black outside the frame."""
    inside = crop.clipped(frame.shape[1], frame.shape[0])
    part = np.zeros((crop.height, crop.width, 3), np.uint8)
    part[inside.y1 - crop.y1 : inside.y2 - crop.y1, inside.x1 - crop.x1 : inside.x2 - crop.x1] = frame[
        inside.y1 : inside.y2, inside.x1 : inside.x2
    ]
    return part


def network_input(crop: Image) -> npt.NDArray[np.float32]:
    """Converts [S, S, 3] BGR to [1, 3, 512, 512] float32, RGB, normalised."""
    rgb = PilImage.fromarray(np.ascontiguousarray(crop[..., ::-1]))
    small = np.asarray(rgb.resize((SIDE, SIDE), PilImage.Resampling.BILINEAR), np.float32) / np.float32(255)
    normal = (small - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def hard_mask(labels: Mask, mode: str = "jaw", cheeks: tuple[int, int] = (90, 90)) -> Mask:
    """Converts [512, 512] labels to a [512, 512] mask of 0 and 255.

    `cheeks` are the widths left and right of the centre, in pixels. Modes: jaw (v1.5), neck and raw (v1); any other
    mode means raw.
    """
    if mode == "jaw":
        return _jaw(labels, cheeks)
    selected = (_SKIN, *_MOUTH_AND_LIPS, *((_NECK,) if mode == "neck" else ()))
    return np.where(np.isin(labels, selected), 255, 0).astype(np.uint8)


def over_crop(mask: Mask, side: int) -> Mask:
    """Resizes a [512, 512] mask to [side, side], with the grey edges of a bicubic filter."""
    small = PilImage.fromarray(mask).resize((side, side), PilImage.Resampling.BICUBIC)
    return np.asarray(small, np.uint8)


def chin_kernel() -> Mask:
    """Returns a [33, 33] kernel of 0 and 1: skin grows 16 rows up and 6 rows down, narrower towards the top."""
    kernel = np.zeros((33, 33), np.uint8)
    for row in range(10, 33):
        reach = min(row - 10, 10)
        kernel[row, 16 - reach : 17 + reach] = 1
    return kernel


def cheek_kernel() -> Mask:
    """Returns a [3, 35] kernel of 0 and 1; the cheeks shrink sideways by it, twice."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (35, 3)), np.uint8)


def cheek_columns(cheeks: tuple[int, int]) -> Mask:
    """Returns [512, 512], 255 left and right of the central band."""
    columns = np.arange(SIDE)
    outer = (columns <= SIDE // 2 - cheeks[0]) | (columns >= SIDE // 2 + cheeks[1])
    return np.tile(np.where(outer, 255, 0).astype(np.uint8), (SIDE, 1))


def _jaw(labels: Mask, cheeks: tuple[int, int]) -> Mask:
    skin = np.where(labels == _SKIN, 255, 0).astype(np.uint8)
    grown = cv2.dilate(skin, chin_kernel())
    narrow = cv2.erode(grown, cheek_kernel(), iterations=2)
    mask = np.where(cheek_columns(cheeks) == 255, narrow, grown)
    selected = ((mask == 255) & (labels != _NOSE)) | np.isin(labels, _MOUTH_AND_LIPS)
    return np.where(selected, 255, 0).astype(np.uint8)
