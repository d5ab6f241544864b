"""One frame as an avatar whose rows differ in bbox_shift alone, to compare what the shift does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from warmtalk.avatar.detect.face_detection import FaceDetectorPair, FaceObservation, box_points
from warmtalk.avatar.detect.head_pose import pose_of
from warmtalk.avatar.detect.person_tracking import FaceChoice, select_face
from warmtalk.avatar.track.bbox_shift import BboxShift, choose_bbox_shift, choose_margin
from warmtalk.avatar.track.frame_quality import NO_FACE, rejection_reason
from warmtalk.core.bundle import SEGMENT_FRAMES, AvatarInfo, Bundle, FaceTable, write_faces, write_info, write_mask
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.faces import crop_box, face_box, float_face_box
from warmtalk.core.ports import FaceParser
from warmtalk.core.types import Image
from warmtalk.media.segment_writer import SegmentWriter

LOOKED_AT = 250
"""Frames, until one with a usable face is found."""
MOST_SHIFT = 100
_RATE = Fraction(25)


def first_face(
    frames: Iterable[Image], spotter: FaceDetectorPair, choice: FaceChoice, name: str
) -> tuple[Image, FaceObservation]:
    """The first picture with a face that can be drawn on, and that face. Raises BadMedia, InvalidInput."""
    looked_at, reason = 0, NO_FACE
    for image in islice(frames, LOOKED_AT):
        looked_at += 1
        found = spotter.spot(image)
        if not found:
            continue
        face = select_face(found, choice, name)
        height, width = image.shape[:2]
        box = face_box(_points(face)[0], height)
        reason = rejection_reason(box, face.landmarks, pose_of(face.landmarks), 0.0, width, height)
        if not reason:
            return image, face
    where = f"the first {LOOKED_AT} frames of {name}" if looked_at == LOOKED_AT else name
    raise BadMedia(f"no usable face in {where}: {reason}", "Use a source in which one face looks at the camera")


def advised(face: FaceObservation) -> BboxShift:
    """The automatic shift and the adjustable range of this one frame."""
    return choose_bbox_shift(_points(face), None)


def preview_bundle(
    path: Path, image: Image, face: FaceObservation, shifts: Sequence[int], parser: FaceParser
) -> Bundle:
    """Writes it to the empty folder `path`: row i is the picture with shifts[i].

    Raises InvalidInput for a shift that leaves no face, or too many of them.
    """
    if not 1 <= len(shifts) <= SEGMENT_FRAMES:
        raise InvalidInput(f"there are {len(shifts)} shifts", f"Give 1 to {SEGMENT_FRAMES}", field="shifts")
    height, width = image.shape[:2]
    points = _points(face)
    boxes, crops, places = [], [], []
    for shift in shifts:
        sizes = {"bbox_shift": shift, "extra_margin": choose_margin(points, shift, None)}
        box, place = face_box(points[0], height, **sizes), float_face_box(points[0], height, **sizes)
        if abs(shift) > MOST_SHIFT or box is None or place is None:
            raise InvalidInput(f"a shift of {shift} leaves no face", "Stay within the adjustable range", field="shifts")
        boxes.append(box.as_tuple())
        places.append(place.as_tuple())
        crops.append(crop_box(place.box()).as_tuple())
    for folder in ("frames", "masks"):
        (path / folder).mkdir(parents=True)
    with SegmentWriter(path / "frames" / "00000.mp4", width, height, _RATE) as writer:
        for _ in shifts:
            writer.write_frame(image)
    n = len(shifts)
    landmarks = np.repeat(face.landmarks[None], n, axis=0)
    placed = np.array(places, np.float32)
    write_faces(
        path, FaceTable(np.array(boxes, np.int32), np.array(crops, np.int32), landmarks, np.ones(n, np.uint8), placed)
    )
    write_info(path, AvatarInfo("preview", "", "", str(_RATE), width, height, n, ("mesh",), usable_frames=n))
    bundle = Bundle(path)
    for row in range(n):
        write_mask(path, row, parser.mask(bundle, row))
    return bundle


def _points(face: FaceObservation) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """[1, 68, 2]"""
    return box_points(face.landmarks[None], face.apart[None])
