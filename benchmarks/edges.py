"""python -m benchmarks.edges: visibility of the mask edge around a face with other colours, and the cost of matching.

The face of the photo, blurred, with other colours and with added grain, stands for a generated face, because an image
codec changes a face in the same way. Along the edge of the mask, the colour step across the edge is compared with the
step in the photo at the same position: a ratio of 1 is a seam that cannot be distinguished from skin.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import card, inputs
from warmtalk.core.blend import Blending, BlendRegion
from warmtalk.core.faces import crop_box, crop_face, float_face_box, ibug68
from warmtalk.core.masks import mesh_mask
from warmtalk.core.types import Box, Image, Mask
from warmtalk.models.faces.face_finder import FaceFinder

Array = npt.NDArray[np.float32]
_GAIN, _OFFSET = (0.93, 1.0, 1.08), (6.0, 2.0, -4.0)
_BLUR_SIGMA = 1.2
_STEP_WIDTH = 0.04
"""Distance of the two samples of a step, relative to the width of the face. The feather is twice as wide."""
_FRAMES = 20
_BLENDINGS = {
    "feather": Blending(),
    "match": Blending(colour_match=True),
    "poisson": Blending("poisson"),
}


def measure() -> card.Rows:
    """Returns step ratio, colour error, flicker and time of each blending."""
    with tempfile.TemporaryDirectory() as folder:
        frame = np.asarray(cv2.imread(str(inputs.write_photo(Path(folder)))), np.uint8)
    mesh = FaceFinder().find(frame)[0].landmarks
    face_box = float_face_box(ibug68(mesh), frame.shape[0])
    assert face_box is not None
    crop = crop_box(face_box.box())
    mask = mesh_mask(mesh, face_box, crop)
    regions = {name: BlendRegion(frame, mask, face_box, crop, blending) for name, blending in _BLENDINGS.items()}
    faces = _generated(crop_face(frame, face_box))
    photo_step = np.abs(edge_steps(frame, mask, crop, face_box.width)).mean()
    pasted = {name: [paste(frame, region, face) for face in faces] for name, region in regions.items()}
    ratio = {
        name: float(
            np.mean([np.abs(edge_steps(one, mask, crop, face_box.width)).mean() / photo_step for one in images])
        )
        for name, images in pasted.items()
    }
    box = regions["feather"].box
    inside = np.s_[box.y1 : box.y2, box.x1 : box.x2]
    error = {name: _color_error(images[0][inside], frame[inside]) for name, images in pasted.items()}
    flicker = {name: _flicker([one[inside] for one in images]) for name, images in pasted.items()}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cost = {name: card.median_ms(lambda r=region: r.blend(faces[0])) for name, region in regions.items()}  # type: ignore[misc]
    cv2.setNumThreads(threads)
    return [
        ("edge_step_ratio", ratio["match"], f"with colour match; without {ratio['feather']:.3f} (target 1)"),
        ("edge_step_poisson", ratio["poisson"], "the same with poisson"),
        ("face_off_levels", error["match"], f"levels of colour error, no texture; without {error['feather']:.2f}"),
        ("face_flicker_levels", flicker["match"], f"levels of change per frame; without {flicker['feather']:.3f}"),
        (
            "blend_match_ms",
            cost["match"],
            f"ms with colour match, one core; without {cost['feather']:.2f} (target 1.5)",
        ),
        ("blend_poisson_ms", cost["poisson"], "ms, poisson, one core (target 1.5)"),
    ]


def _generated(face: Image) -> list[Image]:
    random = np.random.default_rng(3)
    blurred = cv2.GaussianBlur(face, (0, 0), _BLUR_SIGMA) * np.array(_GAIN) + _OFFSET
    return [np.clip(blurred + random.normal(0, 2, face.shape), 0, 255).astype(np.uint8) for _ in range(_FRAMES)]


def paste(frame: Image, region: BlendRegion, face: Image) -> Image:
    """Returns a copy of `frame` with the blended face."""
    box, pixels = region.blend(face)
    result = frame.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = pixels
    return result


def edge_steps(image: Image, mask: Mask, crop: Box, width: float) -> Array:
    """Returns [n, 3] colour differences across the edge of the mask at each edge pixel, without fine texture."""
    over = _mask_in_frame(mask, crop, image)
    blurred = cv2.GaussianBlur(over, (0, 0), 2)
    gradient = np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1)
    edge = (over > 25) & (over < 230)
    y, x = np.nonzero(edge)
    across = gradient[edge]
    across *= _STEP_WIDTH * width / 2 / (np.linalg.norm(across, axis=1, keepdims=True) + 1e-6)
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.01 * width)
    sides = [
        cv2.remap(
            smooth,
            (x + sign * across[:, 0]).astype(np.float32)[None],
            (y + sign * across[:, 1]).astype(np.float32)[None],
            cv2.INTER_LINEAR,
        )[0]
        for sign in (1, -1)
    ]
    return np.asarray(sides[0] - sides[1], np.float32)


def _mask_in_frame(mask: Mask, crop: Box, frame: Image) -> Array:
    inside = crop.clipped(frame.shape[1], frame.shape[0])
    frame_mask = np.zeros(frame.shape[:2], np.float32)
    part = mask[inside.y1 - crop.y1 : inside.y2 - crop.y1, inside.x1 - crop.x1 : inside.x2 - crop.x1]
    frame_mask[inside.y1 : inside.y2, inside.x1 : inside.x2] = part
    return frame_mask


def _color_error(image: Image, expected: Image) -> float:
    return float(np.abs(_colors(image) - _colors(expected)).mean())


def _colors(image: Image) -> Array:
    """Returns the colours averaged over 16 x 16 pixels, without texture and grain."""
    return np.asarray(cv2.resize(image, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA), np.float32)


def _flicker(pasted: list[Image]) -> float:
    """Returns the mean change of colours from frame to frame."""
    return float(np.abs(np.diff(np.stack([_colors(one) for one in pasted]), axis=0)).mean())


if __name__ == "__main__":
    card.print_card("the edge of the mask", measure())
