"""The mesh finder with a second detector: matching of faces, and faces that only one of both detects."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.footage import portrait
from warmtalk.avatar.detect.appearance import SAMPLE_POINTS
from warmtalk.avatar.detect.face_detection import FaceDetectorPair, box_points
from warmtalk.avatar.detect.person_tracking import FaceChoice, FaceObservations
from warmtalk.avatar.detect.source_scan import SourceScan
from warmtalk.avatar.track.frame_table import FrameTableParams, build_frame_table
from warmtalk.core.faces import IBUG_68, float_face_box, ibug68
from warmtalk.core.ports import DetectedFace
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder, FoundFace


class FakeDetector:
    """A detector with fixed results."""

    name = "fake"

    def __init__(self, *points: Points) -> None:
        self.points = points
        self.hints: list[Box] = []

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        self.hints = list(hints)
        return [DetectedFace(0.9, points) for points in self.points]


class MissingFinder(FaceFinder):
    """A mesh finder whose search misses every face."""

    def find(self, image: Image, *, near: Box | None = None, previous: Sequence[Points] = ()) -> list[FoundFace]:
        return []


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def pair() -> Image:
    """Returns an image of two different faces, the larger on the right."""
    face = portrait()[20:260, 90:350]
    canvas = np.full((400, 700, 3), 128, np.uint8)
    canvas[20:260, 20:280] = face
    canvas[20:380, 300:690] = cv2.resize(face[:, ::-1], (390, 360))
    return canvas


def test_the_mesh_as_detector_has_no_offset(finder: FaceFinder) -> None:
    image = portrait()
    (one,) = FaceDetectorPair(finder, finder).detect(image)
    assert not one.detector_offset.any()
    detections = FaceFinder().detect(image)
    assert len(detections) == 1 and np.allclose(detections[0].points, ibug68(one.landmarks), atol=1e-3)


def test_the_offset_of_the_detector_is_kept(finder: FaceFinder) -> None:
    image = portrait()
    truth = ibug68(finder.find(image)[0].landmarks)
    detector = FakeDetector(truth + np.float32(3))
    (one,) = FaceDetectorPair(finder, detector).detect(image)
    assert np.allclose(one.detector_offset, 3, atol=1e-3)
    assert len(detector.hints) == 1 and detector.hints[0].x1 <= truth[:, 0].min()


def test_two_faces_are_not_swapped_in_any_order(finder: FaceFinder, pair: Image) -> None:
    faces = sorted(finder.find(pair), key=lambda face: face.landmarks[0, 0])
    left, right = (ibug68(face.landmarks) for face in faces)
    for order in ([left + 2, right - 2], [right - 2, left + 2]):
        large, small = FaceDetectorPair(finder, FakeDetector(*order)).detect(pair)
        assert np.allclose(large.detector_offset, -2, atol=1e-3) and np.allclose(small.detector_offset, 2, atol=1e-3)
        assert large.landmarks[0, 0] > small.landmarks[0, 0]


def test_a_face_of_the_mesh_alone_is_kept(finder: FaceFinder) -> None:
    (one,) = FaceDetectorPair(finder, FakeDetector()).detect(portrait())
    assert np.isnan(one.detector_offset).all()


def test_a_face_of_the_detector_alone_gets_a_mesh(finder: FaceFinder) -> None:
    image = portrait()
    truth = finder.find(image)[0].landmarks
    (one,) = FaceDetectorPair(MissingFinder(), FakeDetector(ibug68(truth))).detect(image)
    width = np.ptp(truth[:, 0])
    assert np.linalg.norm(one.landmarks - truth, axis=1).mean() < 0.03 * width
    assert np.abs(one.detector_offset).max() < 0.1 * width


def test_a_false_detection_is_dropped(finder: FaceFinder) -> None:
    image = portrait()
    truth = ibug68(finder.find(image)[0].landmarks)
    noise = np.random.default_rng(1).integers(0, 255, image.shape).astype(np.uint8)
    assert FaceDetectorPair(finder, FakeDetector(truth)).detect(noise) == []
    beside = truth + np.array([2 * np.ptp(truth[:, 0]), 0], np.float32)
    assert len(FaceDetectorPair(finder, FakeDetector(truth, beside)).detect(image)) == 1


def test_a_double_detection_is_one_face(finder: FaceFinder) -> None:
    image = portrait()
    truth = ibug68(finder.find(image)[0].landmarks)
    assert len(FaceDetectorPair(finder, FakeDetector(truth, truth + 5)).detect(image)) == 1
    assert len(FaceDetectorPair(MissingFinder(), FakeDetector(truth, truth + 5)).detect(image)) == 1


def mesh_of(size: float, x: float) -> Points:
    shape = np.random.default_rng(2).random((468, 2)).astype(np.float32)
    return shape * np.float32(size) + np.array([x, 50], np.float32)


def test_missing_offsets_are_interpolated() -> None:
    meshes = np.stack([mesh_of(100 + 100 * i, 5 * i) for i in range(4)])
    widths = np.ptp(meshes[:, IBUG_68, 0], axis=1)
    offset = np.full((4, 68, 2), np.nan, np.float32)
    offset[0], offset[2] = 0.02 * widths[0], 0.04 * widths[2]
    offsets = (box_points(meshes, offset) - meshes[:, IBUG_68]) / widths[:, None, None]
    assert np.allclose(offsets, np.array([0.02, 0.03, 0.04, 0.04])[:, None, None], atol=1e-5)


def test_without_any_offset_the_mesh_is_used() -> None:
    meshes = np.stack([mesh_of(100, 0)] * 3)
    assert np.array_equal(box_points(meshes, np.full((3, 68, 2), np.nan, np.float32)), meshes[:, IBUG_68])


def test_the_face_box_follows_the_detector(finder: FaceFinder) -> None:
    image = portrait()
    height, width = image.shape[:2]
    truth = finder.find(image)[0].landmarks
    detected = ibug68(truth) + np.array([6, 4], np.float32)
    unknown = np.full((68, 2), np.nan, np.float32)
    observations = FaceObservations(
        frame=np.arange(3, dtype=np.int32),
        score=np.ones(3, np.float32),
        sharpness=np.ones(3, np.float32),
        exposure=np.ones(3, np.float32),
        colours=np.zeros((3, SAMPLE_POINTS, 3), np.uint8),
        landmarks=np.stack([truth] * 3),
        detector_offset=np.stack([detected - ibug68(truth), unknown, detected - ibug68(truth)]),
        motion=np.full((3, 2, 3), np.nan, np.float32),
    )
    found = SourceScan(3, width, height, observations, np.zeros(3, np.float32))
    faces = build_frame_table(found, FrameTableParams(Fraction(25), 0, 10, FaceChoice()), "a.mp4", None).faces
    expected = float_face_box(detected, height)
    assert expected is not None and faces.float_boxes is not None
    assert (
        np.allclose(faces.float_boxes, expected.as_tuple(), atol=1e-3)
        and (faces.boxes == expected.box().as_tuple()).all()
    )
    assert np.array_equal(faces.landmarks[0], truth)  # the embedded renderer still uses the mesh
