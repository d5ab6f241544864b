"""Masks, crops and blending, bit for bit as in the reference program (MuseTalk, commit 0a89dec).

data/blend.npz holds its arrays for ten face boxes at and beyond the edges of a small frame and for one frame of a
longer run: "hard" masks as its parsing leaves them, feathered masks, and blended frames of its two programs. The
pictures are procedural.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from warmtalk.core.blend import BlendRegion
from warmtalk.core.faces import crop_box, crop_face
from warmtalk.core.masks import OFFLINE_BLUR, assemble
from warmtalk.core.types import Box, Image, Mask

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "blend.npz"))
EDGES = sorted({key.split("/")[1] for key in GOLDEN if key.endswith("v15_blend")})
VERSIONS = ("v15", "v1")
RUNS = ("realtime_v15", "realtime_v1", "offline_v15", "offline_v1")


def box(key: str) -> Box:
    return Box(*GOLDEN[key].tolist())


def blended(frame: Image, mask: Mask, face: Box, crop: Box, pixels: Image) -> npt.NDArray[np.uint8]:
    result = frame.copy()
    changed, patch = BlendRegion(frame, mask, face, crop).blend(pixels)
    result[changed.y1 : changed.y2, changed.x1 : changed.x2] = patch
    return result


@pytest.mark.parametrize("edge", EDGES)
def test_crop_box_of_a_face_box(edge: str) -> None:
    assert crop_box(box(f"edge/{edge}/face_box")) == box(f"edge/{edge}/crop_box")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("edge", EDGES)
def test_mask_and_both_blends_at_the_edges(edge: str, version: str) -> None:
    frame, pixels, hard = GOLDEN["edge/frame"], GOLDEN["edge/face256"], GOLDEN[f"edge/{edge}/{version}_hard"]
    face, crop = box(f"edge/{edge}/face_box"), box(f"edge/{edge}/crop_box")
    mask = assemble(hard, face, crop)
    assert np.array_equal(mask, GOLDEN[f"edge/{edge}/{version}_mask"])
    assert np.array_equal(blended(frame, mask, face, crop, pixels), GOLDEN[f"edge/{edge}/{version}_blend"])
    offline = assemble(hard, face, crop, blur=OFFLINE_BLUR)
    assert np.array_equal(blended(frame, offline, face, crop, pixels), GOLDEN[f"edge/{edge}/{version}_get_image"])


@pytest.mark.parametrize("run", RUNS)
def test_mask_and_blend_of_a_whole_run(run: str) -> None:
    part = {key.rsplit("/", 1)[1]: value for key, value in GOLDEN.items() if key.startswith(f"synth/{run}/")}
    face, crop = box(f"synth/{run}/face_box"), box(f"synth/{run}/crop_box")
    blur = {"blur": OFFLINE_BLUR} if run.startswith("offline") else {}
    mask = assemble(part["hard"], face, crop, **blur)
    assert np.array_equal(mask, part["mask"])
    assert np.array_equal(blended(part["frame"], mask, face, crop, part["face256"]), part["blend"])


def test_face_crop() -> None:
    frame = GOLDEN["synth/crop_frame"]
    whole = Box(0, 0, frame.shape[1], frame.shape[0])
    assert np.array_equal(crop_face(frame, whole), GOLDEN["synth/crop256"])
    assert np.array_equal(crop_face(GOLDEN["edge/frame"], box("edge/inside/face_box")), GOLDEN["edge/inside/crop256"])
