"""Imports an avatar folder of MuseTalk's realtime program as a bundle, without new detection or encoding."""

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
from warmtalk.avatar.report.footage_report import REPORT_FILE, VERSION
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.bundle_files import (
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
from warmtalk.renderers.registry import MUSETALK
from warmtalk.store import AvatarStore


def import_musetalk_avatar(
    folder: Path, avatar_id: str, store: AvatarStore, *, fps: Fraction, replace: bool = False
) -> AvatarInfo:
    """Writes the bundle, which only the renderer musetalk can use: the folder has no face mesh.

    Raises BadMedia for a folder of another kind, AlreadyExists, InvalidInput for the id, StorageFull.
    """
    path, work = store.path(avatar_id), store.building_path(avatar_id)
    if (path.is_dir() and not replace) or work.is_dir():
        raise AlreadyExists(f"avatar {avatar_id!r} already exists", "Use another id, or --replace")
    avatar = read(folder)
    try:
        with PngDecoder() as decoder:
            info = _write_bundle(avatar, avatar_id, work, folder, fps, decoder)
        if path.is_dir():
            old = tombstone_path(store.building)
            path.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        work.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return info


def _write_bundle(
    avatar: ReferenceAvatar, avatar_id: str, work: Path, folder: Path, fps: Fraction, decoder: PngDecoder
) -> AvatarInfo:
    for name in ("frames", "masks"):
        (work / name).mkdir(parents=True)
    # The pixel format of the segments requires even sides.
    height, width = (side & ~1 for side in decoder.decode(avatar.images[0]).shape[:2])
    for first in range(0, len(avatar.images), SEGMENT_FRAMES):
        segment = work / "frames" / f"{first // SEGMENT_FRAMES:05d}.mp4"
        with SegmentWriter(segment, width, height, fps) as writer:
            for path in avatar.images[first : first + SEGMENT_FRAMES]:
                image = np.ascontiguousarray(decoder.decode(path)[:height, :width])
                if image.shape != (height, width, 3):
                    raise BadMedia(f"{path} is smaller than the first image", "Copy the folder again")
                writer.write_frame(image)
    faces = _face_table(avatar)
    for row in np.flatnonzero(faces.usable).tolist():
        write_mask(work, row, _mask(avatar, row, decoder))
    write_faces(work, faces)
    write_latents(work, Latents(avatar.latents, "", avatar.version))
    write_json(work / REPORT_FILE, {"version": VERSION, "summary": f"imported from {folder.name}", "frames": []})
    info = AvatarInfo(
        avatar_id=avatar_id,
        source_name=folder.name,
        source_sha256=hashlib.sha256((folder / "latents.pt").read_bytes()).hexdigest(),
        fps=str(fps),
        width=width,
        height=height,
        frames=len(avatar.images),
        renderers=(MUSETALK.name,),
        params={"imported_from": "MuseTalk", "bbox_shift": avatar.bbox_shift, "version": avatar.version},
        tools={"warmtalk": warmtalk.__version__, "opencv": cv2.__version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        usable_frames=int(faces.usable.sum()),
    )
    write_info(work, info)
    return info


def _mask(avatar: ReferenceAvatar, row: int, decoder: PngDecoder) -> Mask:
    mask, side = decoder.decode(avatar.masks[row], channels=1), avatar.crop_boxes[row].width
    if mask.shape != (side, side):
        raise BadMedia(
            f"{avatar.masks[row]} has shape {mask.shape}, but the crop box is {side} pixels wide",
            "Copy the folder again",
        )
    return mask


def _face_table(avatar: ReferenceAvatar) -> FaceTable:
    n = len(avatar.boxes)
    boxes, crops = np.zeros((n, 4), np.int32), np.zeros((n, 4), np.int32)
    usable = np.array([box is not None for box in avatar.boxes], np.uint8)
    for row, (box, crop) in enumerate(zip(avatar.boxes, avatar.crop_boxes, strict=True)):
        if box is not None:
            boxes[row], crops[row] = box.as_tuple(), crop.as_tuple()
    return FaceTable(boxes, crops, np.zeros((n, 468, 2), np.float32), usable)
