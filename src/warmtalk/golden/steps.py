"""Golden checks of single steps on single images: parsing, and face boxes at and beyond the edges of a frame."""

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

_CHEEK_WIDTHS = {"v15": (90, 90), "v1": (80, 80)}
"""Pixels left and right of the middle."""


def check_parsing(vectors: Vectors, table: Table) -> None:
    """Compares the masks made from a label map, the kernels, and the input of the parsing network."""
    file = "parsing.npz"
    for key in vectors.keys(file, "mask_"):
        mode, left, right = key.removeprefix("mask_").split("_")
        actual = parsing.hard_mask(labels(vectors), mode, (int(left), int(right)))
        table.compare(f"{file} {key}", vectors.get(file, key), actual)
    for key in vectors.keys(file, "cheek_mask_"):
        left, right = key.removeprefix("cheek_mask_").split("_")
        table.compare(f"{file} {key}", vectors.get(file, key), parsing.cheek_columns((int(left), int(right))))
    for key, kernel in (("kernel_dilate", parsing.chin_kernel()), ("kernel_cheek", parsing.cheek_kernel())):
        expected = vectors.find(file, key)
        if expected is not None:
            table.compare(f"{file} {key}", expected, kernel)
    expected = vectors.find(file, "net_input_crop")
    if expected is not None:
        pixels = parsing.network_input(vectors.get(file, "net_input_src")[..., ::-1])
        table.compare(f"{file} net_input_crop", expected, pixels[:, :, 100:140, 200:240])


def check_edges(vectors: Vectors, table: Table) -> None:
    """Compares crop, face, mask and blend for face boxes at and beyond the edges of a frame."""
    for case in vectors.runs("edge.npz"):
        box = vectors.get("edge.npz", f"{case}/face_box")
        if box.dtype.kind == "i" and box[2] > box[0] and box[3] > box[1]:
            _check_edge(vectors, case, Box(*box.tolist()), table)


def _check_edge(vectors: Vectors, case: str, face: Box, table: Table) -> None:
    file, frame, pixels = "edge.npz", vectors.get("edge.npz", "frame"), vectors.get("edge.npz", "face256")
    _check_crop(vectors, case, face, frame, table)
    stretched = cv2.resize(pixels, (face.width, face.height), interpolation=cv2.INTER_LINEAR)
    table.compare(f"{file} {case}/face", vectors.get(file, f"{case}/face"), np.asarray(stretched))
    square = vectors.find(file, f"{case}/crop_box")
    if square is None:
        return
    crop = crop_box(face)
    table.compare(f"{file} {case}/crop_box", square, np.array(crop.as_tuple()))
    for version in ("v15", "v1"):
        hard = hard_mask(vectors, version, crop)
        mask = assemble(hard, face, crop, blur=REALTIME_BLUR)
        table.compare(f"{file} {case}/{version}_mask", vectors.get(file, f"{case}/{version}_mask"), mask)
        offline = assemble(hard, face, crop, blur=OFFLINE_BLUR)
        for key, blend_mask in (("blend", mask), ("get_image", offline)):
            actual = blended(frame, blend_mask, face, crop, pixels)
            table.compare(f"{file} {case}/{version}_{key}", vectors.get(file, f"{case}/{version}_{key}"), actual)


def _check_crop(vectors: Vectors, case: str, face: Box, frame: Image, table: Table) -> None:
    expected = vectors.find("edge.npz", f"{case}/crop256")
    if expected is None:
        return
    array, actual = f"edge.npz {case}/crop256", crop_face(frame, face)
    if face.clipped(frame.shape[1], frame.shape[0]) == face:
        table.compare(array, expected, actual)
    else:
        table.add_correction(array, expected, actual, "the reference distorts a face that leaves the frame")


def labels(vectors: Vectors) -> Mask:
    """Returns the label map used by the runs in place of the parsing network."""
    return np.asarray(vectors.get("parsing.npz", "label_map"), np.uint8)


def hard_mask(vectors: Vectors, run: str, crop: Box) -> Mask:
    """Returns the [S, S] mask over the crop box by the parsing of this run. `run` names version and mode."""
    version = "v15" if "v15" in run else "v1"
    return parsing.over_crop(parsing.hard_mask(labels(vectors), mode_of(f"_{run}"), _CHEEK_WIDTHS[version]), crop.width)


def blended(frame: Image, mask: Mask, face: Box, crop: Box, pixels: Image) -> Array:
    """Returns the whole frame with the face blended in."""
    result = frame.copy()
    changed, patch = BlendRegion(frame, mask, face, crop).blend(pixels)
    result[changed.y1 : changed.y2, changed.x1 : changed.x2] = patch
    return result
