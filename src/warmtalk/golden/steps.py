"""Golden checks of single steps on single pictures: parsing, and boxes at and beyond the edges of a frame."""

from __future__ import annotations

import cv2
import numpy as np

from warmtalk.core.blend import BlendRegion
from warmtalk.core.faces import crop_box, crop_face
from warmtalk.core.masks import OFFLINE_BLUR, REALTIME_BLUR, assemble
from warmtalk.core.types import Box, Image, Mask
from warmtalk.golden.table import Array, Table
from warmtalk.golden.vectors import Vectors, mode_of
from warmtalk.models.faces import parsing

_CHEEKS = {"v15": (90, 90), "v1": (80, 80)}


def check_parsing(vectors: Vectors, table: Table) -> None:
    file = "parsing.npz"
    for key in vectors.keys(file, "mask_"):
        mode, left, right = key.removeprefix("mask_").split("_")
        found = parsing.hard_mask(labels(vectors), mode, (int(left), int(right)))
        table.close(f"{file} {key}", vectors.get(file, key), found)
    for key in vectors.keys(file, "cheek_mask_"):
        left, right = key.removeprefix("cheek_mask_").split("_")
        table.close(f"{file} {key}", vectors.get(file, key), parsing.cheek_columns((int(left), int(right))))
    for key, kernel in (("kernel_dilate", parsing.chin_kernel()), ("kernel_cheek", parsing.cheek_kernel())):
        wanted = vectors.find(file, key)
        if wanted is not None:
            table.close(f"{file} {key}", wanted, kernel)
    wanted = vectors.find(file, "net_input_crop")
    if wanted is not None:
        seen = parsing.network_input(vectors.get(file, "net_input_src")[..., ::-1])
        table.close(f"{file} net_input_crop", wanted, seen[:, :, 100:140, 200:240])


def check_edges(vectors: Vectors, table: Table) -> None:
    for case in vectors.runs("edge.npz"):
        box = vectors.get("edge.npz", f"{case}/face_box")
        if box.dtype.kind == "i" and box[2] > box[0] and box[3] > box[1]:
            _check_edge(vectors, case, Box(*box.tolist()), table)


def _check_edge(vectors: Vectors, case: str, face: Box, table: Table) -> None:
    file, frame, pixels = "edge.npz", vectors.get("edge.npz", "frame"), vectors.get("edge.npz", "face256")
    _check_crop(vectors, case, face, frame, table)
    stretched = cv2.resize(pixels, (face.width, face.height), interpolation=cv2.INTER_LINEAR)
    table.close(f"{file} {case}/face", vectors.get(file, f"{case}/face"), np.asarray(stretched))
    square = vectors.find(file, f"{case}/crop_box")
    if square is None:
        return
    crop = crop_box(face)
    table.close(f"{file} {case}/crop_box", square, np.array(crop.as_tuple()))
    for version in ("v15", "v1"):
        hard = hard_mask(vectors, version, crop)
        mask = assemble(hard, face, crop, blur=REALTIME_BLUR)
        table.close(f"{file} {case}/{version}_mask", vectors.get(file, f"{case}/{version}_mask"), mask)
        offline = assemble(hard, face, crop, blur=OFFLINE_BLUR)
        for key, one in (("blend", mask), ("get_image", offline)):
            found = blended(frame, one, face, crop, pixels)
            table.close(f"{file} {case}/{version}_{key}", vectors.get(file, f"{case}/{version}_{key}"), found)


def _check_crop(vectors: Vectors, case: str, face: Box, frame: Image, table: Table) -> None:
    wanted = vectors.find("edge.npz", f"{case}/crop256")
    if wanted is None:
        return
    array, found = f"edge.npz {case}/crop256", crop_face(frame, face)
    if face.clipped(frame.shape[1], frame.shape[0]) == face:
        table.close(array, wanted, found)
    else:
        table.differs(array, wanted, found, "the reference distorts a face that leaves the frame")


def labels(vectors: Vectors) -> Mask:
    """What the runs took for the answer of the parsing network."""
    return np.asarray(vectors.get("parsing.npz", "label_map"), np.uint8)


def hard_mask(vectors: Vectors, run: str, crop: Box) -> Mask:
    """[S, S] over the crop box, as the parsing of this run leaves it; `run` names version and mode."""
    version = "v15" if "v15" in run else "v1"
    return parsing.over_crop(parsing.hard_mask(labels(vectors), mode_of(f"_{run}"), _CHEEKS[version]), crop.width)


def blended(frame: Image, mask: Mask, face: Box, crop: Box, pixels: Image) -> Array:
    """The whole frame with the face in it."""
    result = frame.copy()
    changed, patch = BlendRegion(frame, mask, face, crop).blend(pixels)
    result[changed.y1 : changed.y2, changed.x1 : changed.x2] = patch
    return result
