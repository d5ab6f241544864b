"""Preview of bbox_shift: one frame as an avatar whose rows differ only in the shift."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from warmtalk.avatar.detect.face_detection import FaceDetectorPair, FaceObservation, box_points
from warmtalk.avatar.detect.head_pose import estimate_pose
from warmtalk.avatar.detect.person_tracking import FaceChoice, select_face
from warmtalk.avatar.track.bbox_shift import BboxShift, choose_bbox_shift, choose_extra_margin
from warmtalk.avatar.track.frame_quality import NO_FACE, rejection_reason
from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.bundle_files import AvatarInfo, FaceTable, write_faces, write_info, write_mask
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.faces import crop_box, face_box, float_face_box
from warmtalk.core.ports import FaceParser
from warmtalk.core.types import Image
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.renderers.registry import EMBEDDED

MAX_SEARCHED_FRAMES = 250
"""Number of frames that are searched for a usable face."""
MAX_SHIFT = 100
"""Pixels, in both directions."""
_RATE = Fraction(25)


def first_usable_face(
    frames: Iterable[Image], detectors: FaceDetectorPair, choice: FaceChoice, source_name: str
) -> tuple[Image, FaceObservation]:
    """Returns the first frame with a usable face, and the face. Raises BadMedia without any, InvalidInput."""
    searched, reason = 0, NO_FACE
    for image in islice(frames, MAX_SEARCHED_FRAMES):
        searched += 1
        faces = detectors.detect(image)
        if not faces:
            continue
        face = select_face(faces, choice, source_name)
        height, width = image.shape[:2]
        box = face_box(_points(face)[0], height)
        reason = rejection_reason(box, face.landmarks, estimate_pose(face.landmarks), 0.0, width, height)
        if not reason:
            return image, face
    where = (
        f"the first {MAX_SEARCHED_FRAMES} frames of {source_name}" if searched == MAX_SEARCHED_FRAMES else source_name
    )
    raise BadMedia(f"no usable face in {where}: {reason}", "Use a source in which one face looks at the camera")


def suggested_shift(face: FaceObservation) -> BboxShift:
    """Returns the automatic shift and the adjustable range for this one frame."""
    return choose_bbox_shift(_points(face), None)


def preview_bundle(
    path: Path, image: Image, face: FaceObservation, shifts: Sequence[int], parser: FaceParser
) -> Bundle:
    """Writes the bundle to the empty folder `path`: row i is the frame with shifts[i].

    Raises InvalidInput for a shift that leaves no face, and for too many shifts.
    """
    if not 1 <= len(shifts) <= SEGMENT_FRAMES:
        raise InvalidInput(f"{len(shifts)} shifts were given", f"Give 1 to {SEGMENT_FRAMES}", field="shifts")
    height, width = image.shape[:2]
    points = _points(face)
    boxes, crops, float_boxes = [], [], []
    for shift in shifts:
        sizes = {"bbox_shift": shift, "extra_margin": choose_extra_margin(points, shift, None)}
        box, float_box = face_box(points[0], height, **sizes), float_face_box(points[0], height, **sizes)
        if abs(shift) > MAX_SHIFT or box is None or float_box is None:
            raise InvalidInput(f"a shift of {shift} leaves no face", "Stay within the adjustable range", field="shifts")
        boxes.append(box.as_tuple())
        float_boxes.append(float_box.as_tuple())
        crops.append(crop_box(float_box.box()).as_tuple())
    for folder in ("frames", "masks"):
        (path / folder).mkdir(parents=True)
    with SegmentWriter(path / "frames" / "00000.mp4", width, height, _RATE) as writer:
        for _ in shifts:
            writer.write_frame(image)
    n = len(shifts)
    landmarks = np.repeat(face.landmarks[None], n, axis=0)
    write_faces(
        path,
        FaceTable(
            np.array(boxes, np.int32),
            np.array(crops, np.int32),
            landmarks,
            np.ones(n, np.uint8),
            np.array(float_boxes, np.float32),
        ),
    )
    write_info(path, AvatarInfo("preview", "", "", str(_RATE), width, height, n, (EMBEDDED.name,), usable_frames=n))
    bundle = Bundle(path)
    for row in range(n):
        write_mask(path, row, parser.mask(bundle, row))
    return bundle


def _points(face: FaceObservation) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns the [1, 68, 2] points that define the face box."""
    return box_points(face.landmarks[None], face.detector_offset[None])
