"""The 256 x 256 face image of a face box, and landmarks in pixels of that image."""

from __future__ import annotations

import math

import cv2
import numpy as np

from warmtalk.core.faces import sample_box
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Points


def face_pixels(landmarks: Points, box: Box | FloatBox) -> Points:
    """Converts frame pixels to pixels of the 256 x 256 face that is stretched over `box`."""
    scale = np.array([FACE_SIZE / box.width, FACE_SIZE / box.height], np.float32)
    return np.asarray((landmarks - (box.x1, box.y1) + 0.5) * scale - 0.5, np.float32)


def extract_face(frame: Image, box: Box | FloatBox) -> Image:
    """Returns the box as a 256 x 256 face. Outside the frame the border pixels of the frame are repeated."""
    if isinstance(box, FloatBox):
        return _sample_area(frame, box)
    height, width = frame.shape[:2]
    inside = box.clipped(width, height)
    part: Image = frame[inside.y1 : inside.y2, inside.x1 : inside.x2]
    if inside != box:
        margins = (inside.y1 - box.y1, box.y2 - inside.y2, inside.x1 - box.x1, box.x2 - inside.x2)
        part = np.asarray(cv2.copyMakeBorder(part, *margins, cv2.BORDER_REPLICATE), np.uint8)
    shrinks = max(box.width, box.height) > FACE_SIZE
    size = (FACE_SIZE, FACE_SIZE)
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8)


def _sample_area(frame: Image, box: FloatBox) -> Image:
    """Samples a sub-pixel box. A reduced pixel averages n x n samples, so that fine structure does not flicker."""
    samples = math.ceil(max(box.width, box.height) / FACE_SIZE)
    if samples == 1:
        return sample_box(frame, box, cv2.INTER_CUBIC)
    fine = sample_box(frame, box, cv2.INTER_LINEAR, samples * FACE_SIZE)
    return np.asarray(cv2.resize(fine, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)
