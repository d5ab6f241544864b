"""python -m benchmarks.edges: what the edge of the mask shows of a face in other colours, and what hiding it costs.

A generated face is stood in for by the photograph's own, softer and in other colours, as an image codec returns it,
with grain of its own. Along the edge of the mask the step of colour across it is compared with the step that the
photograph itself has there: 1 is a seam that cannot be told from skin.
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
_SOFT = 1.2
_ACROSS = 0.04
"""Of the face's width: how far apart the two sides of a step lie. The feather is twice as wide."""
_FRAMES = 20
_HOW = {
    "feather": Blending(),
    "match": Blending(colour_match=True),
    "poisson": Blending("poisson"),
}


def measure() -> list[tuple[str, float, str]]:
    with tempfile.TemporaryDirectory() as folder:
        frame = np.asarray(cv2.imread(str(inputs.photo(Path(folder)))), np.uint8)
    mesh = FaceFinder().find(frame)[0].landmarks
    place = float_face_box(ibug68(mesh), frame.shape[0])
    assert place is not None
    crop = crop_box(place.box())
    mask = mesh_mask(mesh, place, crop)
    regions = {name: BlendRegion(frame, mask, place, crop, how) for name, how in _HOW.items()}
    faces = _generated(crop_face(frame, place))
    own = np.abs(steps(frame, mask, crop, place.width)).mean()
    pasted = {name: [paste(frame, region, face) for face in faces] for name, region in regions.items()}
    ratio = {
        name: float(np.mean([np.abs(steps(one, mask, crop, place.width)).mean() / own for one in some]))
        for name, some in pasted.items()
    }
    box = regions["feather"].box
    inside = np.s_[box.y1 : box.y2, box.x1 : box.x2]
    off = {name: _off(some[0][inside], frame[inside]) for name, some in pasted.items()}
    flicker = {name: _flicker([one[inside] for one in some]) for name, some in pasted.items()}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cost = {name: card.median_ms(lambda r=region: r.blend(faces[0])) for name, region in regions.items()}  # type: ignore[misc]
    cv2.setNumThreads(threads)
    return [
        ("edge_step_ratio", ratio["match"], f"with colour match; without {ratio['feather']:.3f} (target 1)"),
        ("edge_step_poisson", ratio["poisson"], "the same, poisson"),
        ("face_off_levels", off["match"], f"levels off the photograph, colours alone; without {off['feather']:.2f}"),
        ("face_flicker_levels", flicker["match"], f"change of colours a frame; without {flicker['feather']:.3f}"),
        (
            "blend_match_ms",
            cost["match"],
            f"ms with it, one core; without {cost['feather']:.2f} (target 1.5)",
        ),
        ("blend_poisson_ms", cost["poisson"], "ms, poisson, one core (target 1.5)"),
    ]


def _generated(face: Image) -> list[Image]:
    random = np.random.default_rng(3)
    soft = cv2.GaussianBlur(face, (0, 0), _SOFT) * np.array(_GAIN) + _OFFSET
    return [np.clip(soft + random.normal(0, 2, face.shape), 0, 255).astype(np.uint8) for _ in range(_FRAMES)]


def paste(frame: Image, region: BlendRegion, face: Image) -> Image:
    box, pixels = region.blend(face)
    result = frame.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = pixels
    return result


def steps(image: Image, mask: Mask, crop: Box, width: float) -> Array:
    """[n, 3] differences of colour across the edge of the mask, at each of its pixels; fine texture is left out."""
    over = _over_frame(mask, crop, image)
    blurred = cv2.GaussianBlur(over, (0, 0), 2)
    gradient = np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1)
    edge = (over > 25) & (over < 230)
    y, x = np.nonzero(edge)
    across = gradient[edge]
    across *= _ACROSS * width / 2 / (np.linalg.norm(across, axis=1, keepdims=True) + 1e-6)
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


def _over_frame(mask: Mask, crop: Box, frame: Image) -> Array:
    inside = crop.clipped(frame.shape[1], frame.shape[0])
    over = np.zeros(frame.shape[:2], np.float32)
    part = mask[inside.y1 - crop.y1 : inside.y2 - crop.y1, inside.x1 - crop.x1 : inside.x2 - crop.x1]
    over[inside.y1 : inside.y2, inside.x1 : inside.x2] = part
    return over


def _off(image: Image, wanted: Image) -> float:
    return float(np.abs(_colours(image) - _colours(wanted)).mean())


def _colours(image: Image) -> Array:
    """Without texture and grain."""
    return np.asarray(cv2.resize(image, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA), np.float32)


def _flicker(pasted: list[Image]) -> float:
    """Mean change of colours from frame to frame."""
    return float(np.abs(np.diff(np.stack([_colours(one) for one in pasted]), axis=0)).mean())


if __name__ == "__main__":
    card.show("the edge of the mask", measure())
