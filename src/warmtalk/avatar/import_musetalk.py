"""An avatar folder of MuseTalk's realtime program becomes a bundle: nothing is detected or encoded again."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

import warmtalk
from warmtalk.avatar.build_dir import tombstone_path
from warmtalk.avatar.report.footage_report import REPORT, VERSION
from warmtalk.core.bundle import (
    SEGMENT_FRAMES,
    AvatarInfo,
    FaceTable,
    Latents,
    write_faces,
    write_info,
    write_json,
    write_latents,
    write_mask,
)
from warmtalk.core.errors import AlreadyExists, BadMedia
from warmtalk.core.types import Mask
from warmtalk.media.png_decode import PngDecoder
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.models.musetalk.reference_cache import ReferenceAvatar, read
from warmtalk.store import AvatarStore


def import_musetalk_avatar(
    folder: Path, avatar_id: str, store: AvatarStore, *, fps: Fraction, replace: bool = False
) -> AvatarInfo:
    """The bundle is for the renderer musetalk alone: such a folder has no mesh.

    Raises BadMedia for a folder that is none, AlreadyExists, InvalidInput for the id, StorageFull.
    """
    path, work = store.path(avatar_id), store.building_path(avatar_id)
    if (path.is_dir() and not replace) or work.is_dir():
        raise AlreadyExists(f"there is an avatar {avatar_id!r} already", "Take another id, or --replace")
    avatar = read(folder)
    try:
        with PngDecoder() as pictures:
            info = _fill(avatar, avatar_id, work, folder, fps, pictures)
        if path.is_dir():
            old = tombstone_path(store.building)
            path.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        work.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return info


def _fill(
    avatar: ReferenceAvatar, avatar_id: str, work: Path, folder: Path, fps: Fraction, pictures: PngDecoder
) -> AvatarInfo:
    for name in ("frames", "masks"):
        (work / name).mkdir(parents=True)
    # The segments' pixel format wants even sides.
    height, width = (side & ~1 for side in pictures.decode(avatar.images[0]).shape[:2])
    for first in range(0, len(avatar.images), SEGMENT_FRAMES):
        segment = work / "frames" / f"{first // SEGMENT_FRAMES:05d}.mp4"
        with SegmentWriter(segment, width, height, fps) as writer:
            for path in avatar.images[first : first + SEGMENT_FRAMES]:
                image = np.ascontiguousarray(pictures.decode(path)[:height, :width])
                if image.shape != (height, width, 3):
                    raise BadMedia(f"{path} is smaller than the first picture", "Copy the folder again")
                writer.write_frame(image)
    faces = _faces(avatar)
    for row in np.flatnonzero(faces.usable).tolist():
        write_mask(work, row, _mask(avatar, row, pictures))
    write_faces(work, faces)
    write_latents(work, Latents(avatar.latents, "", avatar.version))
    write_json(work / REPORT, {"version": VERSION, "summary": f"imported from {folder.name}", "frames": []})
    info = AvatarInfo(
        avatar_id=avatar_id,
        source_name=folder.name,
        source_sha256=hashlib.sha256((folder / "latents.pt").read_bytes()).hexdigest(),
        fps=str(fps),
        width=width,
        height=height,
        frames=len(avatar.images),
        renderers=("musetalk",),
        params={"imported_from": "MuseTalk", "bbox_shift": avatar.bbox_shift, "version": avatar.version},
        tools={"warmtalk": warmtalk.__version__, "opencv": cv2.__version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        usable_frames=int(faces.usable.sum()),
    )
    write_info(work, info)
    return info


def _mask(avatar: ReferenceAvatar, row: int, pictures: PngDecoder) -> Mask:
    mask, side = pictures.decode(avatar.masks[row], channels=1), avatar.crop_boxes[row].width
    if mask.shape != (side, side):
        raise BadMedia(f"{avatar.masks[row]} is {mask.shape}, its crop box {side} wide", "Copy the folder again")
    return mask


def _faces(avatar: ReferenceAvatar) -> FaceTable:
    n = len(avatar.boxes)
    boxes, squares = np.zeros((n, 4), np.int32), np.zeros((n, 4), np.int32)
    usable = np.array([box is not None for box in avatar.boxes], np.uint8)
    for row, (box, square) in enumerate(zip(avatar.boxes, avatar.crop_boxes, strict=True)):
        if box is not None:
            boxes[row], squares[row] = box.as_tuple(), square.as_tuple()
    return FaceTable(boxes, squares, np.zeros((n, 468, 2), np.float32), usable)
