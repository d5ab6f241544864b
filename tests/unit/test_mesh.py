"""The mesh renderer on a real photo: a smile with visible teeth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import footage
from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.bundle_files import AvatarInfo, FaceTable, write_faces, write_info
from warmtalk.core.errors import NotReady
from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, WIDTH, MouthShape, to_features
from warmtalk.core.types import Box, Features, Image
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh import renderer
from warmtalk.models.mesh.face_crop import extract_face, face_pixels
from warmtalk.models.mesh.landmark_measures import eye_distance, lip_gap, mouth_width
from warmtalk.models.mesh.landmark_smoothing import smooth_landmarks
from warmtalk.models.mesh.mouth_profile import MAX_CHANGE_BY_LIPS, mouth_profile
from warmtalk.models.mesh.renderer import MeshAvatar, MeshRenderer
from warmtalk.models.mesh.shape import measure_shape
from warmtalk.models.mesh.source_teeth import SourceTeeth
from warmtalk.models.mesh.warp import warp

RENDERER = MeshRenderer()
OUTLINE = (234, 127, 132, 58, 172, 150, 152, 379, 397, 288, 361, 356, 454)
"""Mesh points around the lower face, whose bounding box is similar to the face box of a real build."""


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def portrait() -> Image:
    return footage.portrait()


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory, portrait: Image, finder: FaceFinder) -> MeshAvatar:
    return RENDERER.prepare(make_bundle(tmp_path_factory.mktemp("photo") / "photo", [portrait], finder))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, portrait: Image, finder: FaceFinder) -> MeshAvatar:
    """A head that sways and rolls slightly."""
    turns = [
        cv2.getRotationMatrix2D((225, 140 + i / 3), 2 * np.sin(i / 3), 1 + 0.02 * np.cos(i / 4)) for i in range(14)
    ]
    frames = [cv2.warpAffine(portrait, turn, (512, 512), flags=cv2.INTER_CUBIC) for turn in turns]
    frames = [np.asarray(frame, np.uint8) for frame in frames]
    return RENDERER.prepare(make_bundle(tmp_path_factory.mktemp("video") / "video", frames, finder))


def make_bundle(path: Path, frames: Sequence[Image], finder: FaceFinder) -> Bundle:
    """Writes a bundle like the avatar builder, but with the video codec of OpenCV."""
    assert len(frames) <= SEGMENT_FRAMES
    (path / "frames").mkdir(parents=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path / "frames" / "00000.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    landmarks = np.stack([finder.find(frame)[0].landmarks for frame in frames])
    boxes = np.stack([face_box(points) for points in landmarks])
    write_faces(path, FaceTable(boxes, np.zeros_like(boxes), landmarks, np.ones(len(frames), np.uint8)))
    write_info(path, AvatarInfo(path.name, "test", "", "25", width, height, len(frames), ("mesh",)))
    return Bundle(path)


def face_box(landmarks: np.ndarray) -> np.ndarray:
    """Returns a box with the bridge of the nose in the middle row and ten pixels below the chin."""
    low, high = landmarks[list(OUTLINE)].min(0), landmarks[list(OUTLINE)].max(0)
    return np.array([low[0], 2 * landmarks[5, 1] - high[1], high[0], high[1] + 10]).astype(np.int32)


def render(avatar: MeshAvatar, *shapes: MouthShape, row: int = 0) -> list[Image]:
    return RENDERER.render(avatar, [row] * len(shapes), to_features(*shapes))


def source(avatar: MeshAvatar, row: int = 0) -> Image:
    return extract_face(avatar.bundle.frame(row), avatar.bundle.box(row))


def teeth_and_depth(face: Image, avatar: MeshAvatar) -> tuple[int, int]:
    """Returns the numbers of tooth pixels (light, not red) and of dark pixels between the corners of the mouth."""
    points = face_pixels(avatar.bundle.landmarks(0), avatar.bundle.box(0)).astype(int)
    mouth = face[points[0, 1] + 4 : points[17, 1] + 40, points[61, 0] + 25 : points[291, 0] - 25]
    light, red, _ = cv2.split(cv2.cvtColor(mouth, cv2.COLOR_BGR2LAB))
    return int(((red < 134) & (light > 120)).sum()), int((light < 105).sum())


def pasted(avatar: MeshAvatar, face: Image) -> Image:
    box, frame = avatar.bundle.box(0), avatar.bundle.frame(0).copy()
    frame[box.y1 : box.y2, box.x1 : box.x2] = cv2.resize(face, (box.width, box.height))
    return frame


def test_a_smile_can_close(avatar: MeshAvatar) -> None:
    (closed,) = render(avatar, MouthShape(opening=0))
    before = teeth_and_depth(source(avatar), avatar)[0]
    assert before > 300 and teeth_and_depth(closed, avatar)[0] < 0.2 * before


def test_the_inside_grows_with_the_opening(avatar: MeshAvatar) -> None:
    openings = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
    areas = [sum(teeth_and_depth(face, avatar)) for face in render(avatar, *map(MouthShape, openings))]
    assert areas == sorted(areas) and areas[-1] > 10 * areas[0]


def test_the_face_mesh_measures_the_requested_opening(avatar: MeshAvatar, finder: FaceFinder) -> None:
    openings = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
    faces = render(avatar, *map(MouthShape, openings))
    measured = [float(lip_gap(finder.find(pasted(avatar, face))[0].landmarks)) for face in faces]
    assert np.corrcoef(openings, measured)[0, 1] > 0.95
    assert max(np.abs(np.subtract(measured, openings))[1:5]) < 0.05


def test_the_face_mesh_measures_the_requested_width(avatar: MeshAvatar, finder: FaceFinder) -> None:
    faces = render(avatar, MouthShape(0.1, width=-0.25), MouthShape(0.1), MouthShape(0.1, width=0.15))
    measured = [float(mouth_width(finder.find(pasted(avatar, face))[0].landmarks)) for face in faces]
    assert 1.05 * measured[0] < measured[1] < measured[2]


@pytest.mark.parametrize("extreme", [MIN_SHAPE, MAX_SHAPE, MAX_SHAPE * 9, MIN_SHAPE - 9])
def test_only_the_lower_face_inside_the_box_changes(avatar: MeshAvatar, extreme: Features) -> None:
    (face,) = RENDERER.render(avatar, [0], extreme[None])
    tip = int(face_pixels(avatar.bundle.landmarks(0), avatar.bundle.box(0))[4, 1])
    before = source(avatar)
    assert face.shape == (256, 256, 3) and face.dtype == np.uint8
    assert np.array_equal(face[:tip], before[:tip])
    for edge in (np.s_[:, :4], np.s_[:, -4:], np.s_[-2:]):
        assert np.array_equal(face[edge], before[edge])
    assert not np.array_equal(face, before)


def test_batches_and_repeats_give_the_same_pixels(video: MeshAvatar) -> None:
    features = np.random.default_rng(1).uniform(MIN_SHAPE, MAX_SHAPE, (14, 4)).astype(np.float32)
    batch = RENDERER.render(video, range(14), features)
    video.rows.clear()
    singles = [RENDERER.render(video, [row], features[row : row + 1])[0] for row in reversed(range(14))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(batch, singles, strict=True))


def test_the_source_is_not_modified(avatar: MeshAvatar) -> None:
    before = avatar.bundle.frame(0).copy()
    first = render(avatar, MouthShape(0.2))[0]
    first[:] = 0
    assert render(avatar, MouthShape(0.2))[0].any()
    assert np.array_equal(before, avatar.bundle.frame(0))


@pytest.mark.parametrize("opening", [0.0, 0.12])
def test_a_constant_shape_does_not_jitter_on_a_moving_head(video: MeshAvatar, opening: float) -> None:
    """The mouth must not jitter more than the moving source."""
    features = to_features(*[MouthShape(opening)] * 14)
    rendered = np.stack(
        [mouth_patch(video, row, face) for row, face in enumerate(RENDERER.render(video, range(14), features))]
    )
    unchanged = np.stack([mouth_patch(video, row, source(video, row)) for row in range(14)])
    assert jitter(rendered) < 1.5 * jitter(unchanged) + 0.5


def mouth_patch(avatar: MeshAvatar, row: int, face: Image) -> np.ndarray:
    """Returns the mouth aligned by the smoothed landmarks. All patches are equal when nothing jitters."""
    points = face_pixels(avatar.landmarks[row], avatar.bundle.box(row))[[33, 263, 1]].astype(np.float32)
    matrix = cv2.getAffineTransform(points, np.array([[20, 10], [108, 10], [64, 50]], np.float32))
    return np.asarray(cv2.warpAffine(face, matrix, (128, 128))[60:110, 24:104], np.float32)


def jitter(patches: np.ndarray) -> float:
    """Returns the mean second difference over time, which ignores smooth changes of the image."""
    return float(np.abs(patches[2:] - 2 * patches[1:-1] + patches[:-2]).mean())


def test_the_number_of_prepared_rows_is_limited(video: MeshAvatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "MAX_PREPARED_ROWS", 3)
    video.rows.clear()
    RENDERER.render(video, range(14), to_features(*[MouthShape()] * 14))
    assert list(video.rows) == [11, 12, 13]


def test_a_face_cut_by_the_frame_is_rendered(tmp_path: Path, portrait: Image, finder: FaceFinder) -> None:
    bundle = make_bundle(tmp_path / "cut", [np.ascontiguousarray(portrait[:170, 176:])], finder)
    assert bundle.box(0).clipped(336, 170) != bundle.box(0)
    (face,) = RENDERER.render(RENDERER.prepare(bundle), [0], to_features(MouthShape(0.2)))
    assert face.shape == (256, 256, 3)


def test_an_avatar_without_a_face_is_not_ready(tmp_path: Path, portrait: Image, finder: FaceFinder) -> None:
    bundle = make_bundle(tmp_path / "none", [portrait], finder)
    bundle.faces.usable[:] = 0
    with pytest.raises(NotReady):
        RENDERER.prepare(bundle)


def test_smoothing_removes_jitter_and_keeps_motion_and_cuts() -> None:
    rng = np.random.default_rng(0)
    shape = rng.uniform(0, 100, (468, 2)).astype(np.float32)
    shape[[33, 133]], shape[[362, 263]] = (0, 0), (100, 0)
    times = np.arange(60, dtype=np.float32)
    path = np.stack([30 * np.sin(times / 8), times], 1) + np.where(times < 30, 0, 500)[:, None]
    true = shape + path[:, None].astype(np.float32)
    usable = np.ones(60, bool)
    usable[10] = False
    smoothed = smooth_landmarks((true + rng.normal(0, 1, true.shape)).astype(np.float32), usable)
    assert np.std(smoothed[usable] - true[usable]) < 0.75
    assert np.abs(smoothed[29] - true[29]).max() < 6 and np.abs(smoothed[30] - true[30]).max() < 6


@pytest.mark.parametrize("roll", [0, 40, 100, 180])
@pytest.mark.parametrize("turn", [1.0, 0.3, 0.0, -0.5])
def test_extreme_poses_give_finite_maps(portrait: Image, avatar: MeshAvatar, turn: float, roll: float) -> None:
    """The result may look strange, but an unusual row must not end a conversation."""
    points = avatar.bundle.landmarks(0)
    centre, angle = points.mean(0), np.deg2rad(roll)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = (((points - centre) * (turn, 1)) @ rotation.T + centre).astype(np.float32)
    low, high = turned.min(0).astype(int), turned.max(0).astype(int)
    box = Box(int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 11)
    shape = measure_shape(extract_face(portrait, box), turned, box, rest_width=0.8)
    for features in (MIN_SHAPE, MAX_SHAPE):
        warped = warp(shape, features)
        assert np.isfinite(warped.map_x).all() and np.isfinite(warped.map_y).all()


@pytest.fixture(scope="module")
def talker(
    tmp_path_factory: pytest.TempPathFactory, avatar: MeshAvatar, finder: FaceFinder
) -> tuple[MeshAvatar, MeshAvatar]:
    """A speaking avatar with green teeth, and the same avatar with synthetic teeth."""
    openings = [0.0, 0.0, 0.0, 0.04, 0.08, 0.12, 0.16, 0.16, 0.16, 0.12, 0.08, 0.04, 0.0, 0.0]
    faces = render(avatar, *map(MouthShape, openings))
    frames = [pasted(avatar, green_teeth(face, avatar)) for face in faces]
    bundle = make_bundle(tmp_path_factory.mktemp("talker") / "talker", frames, finder)
    talks = RENDERER.prepare(bundle)
    return talks, MeshAvatar(bundle, talks.landmarks, talks.profile, SourceTeeth(None, None))


def green_teeth(face: Image, avatar: MeshAvatar) -> Image:
    points = face_pixels(avatar.bundle.landmarks(0), avatar.bundle.box(0)).astype(int)
    mouth = np.s_[points[0, 1] + 4 : points[17, 1], points[61, 0] + 25 : points[291, 0] - 25]
    light, red, _ = cv2.split(cv2.cvtColor(face[mouth], cv2.COLOR_BGR2LAB))
    teeth = ((red < 134) & (light > 105)).astype(np.float32)[..., None]
    painted = face.copy()
    painted[mouth] = np.round(face[mouth] * (1 - teeth * np.float32([0.3, 0.0, 0.3]))).astype(np.uint8)
    return painted


def greenness(face: Image) -> float:
    """Returns the surplus of green over red and blue, summed over the mouth; 0 for skin."""
    blue, green, red = (plane.astype(np.int32) for plane in cv2.split(face[150:200, 78:178]))
    return float(np.clip(green - np.maximum(blue, red), 0, None).sum())


def test_teeth_are_taken_from_a_speaking_source(talker: tuple[MeshAvatar, MeshAvatar]) -> None:
    """Renders a frame with closed lips, so the green teeth come from another frame."""
    own, synthetic = talker
    assert own.teeth.upper is not None
    shape = MouthShape(0.12)
    assert greenness(render(own, shape)[0]) > 10 * greenness(render(synthetic, shape)[0]) + 500
    assert greenness(render(own, MouthShape(0))[0]) < 0.05 * greenness(render(own, shape)[0])


def test_source_teeth_are_fixed_to_the_head(talker: tuple[MeshAvatar, MeshAvatar]) -> None:
    """The upper teeth end at the same height for every opening and every source row."""
    own, _ = talker
    ends = []
    for row, opening in ((0, 0.12), (0, 0.2), (4, 0.17), (7, 0.2), (13, 0.14)):
        (face,) = render(own, MouthShape(opening), row=row)
        blue, green, red = (plane.astype(np.int32) for plane in cv2.split(face[128:, 118:138]))
        end = 128 + int(np.flatnonzero((green - np.maximum(blue, red)).mean(1) > 0)[-1])
        box = own.bundle.box(row)
        ends.append(box.y1 + end * box.height / 256)
    assert max(ends) - min(ends) < 0.02 * float(eye_distance(own.landmarks[0]))


def test_strength_scales_the_opening_and_closed_stays_closed(avatar: MeshAvatar, finder: FaceFinder) -> None:
    gaps = []
    for strength in (0.5, 1.0, 1.6):
        renderer = MeshRenderer(strength)
        closed, opened = renderer.render(avatar, [0, 0], to_features(MouthShape(press=1), MouthShape(0.12)))
        assert np.array_equal(closed, render(avatar, MouthShape(press=1))[0])
        gaps.append(float(lip_gap(finder.find(pasted(avatar, opened))[0].landmarks)))
    assert gaps[0] < 0.75 * gaps[1] and gaps[2] > 1.3 * gaps[1]


def test_the_profile_is_measured_in_the_source(talker: tuple[MeshAvatar, MeshAvatar], avatar: MeshAvatar) -> None:
    smile, talks = avatar.profile, talker[0].profile
    assert smile.own_teeth_weight == 1 and smile.opening_scale == 1
    assert talks.own_teeth_weight == 0 and talks.opening_scale != 1
    points = talker[0].landmarks.copy()
    still = mouth_profile(points[:3])
    points[:, 17, 1] += 0.2 * float(eye_distance(points[0]))  # a thicker lower lip
    assert still.opening_scale < mouth_profile(points[:3]).opening_scale == pytest.approx(1 + MAX_CHANGE_BY_LIPS)


def test_an_opening_mouth_releases_a_smile(avatar: MeshAvatar) -> None:
    shapes = renderer.apply_profile(to_features(MouthShape(0), MouthShape(0.06), MouthShape(0.2)), avatar.profile, 1.0)
    assert (
        shapes[0, WIDTH] == 0 > shapes[1, WIDTH] > shapes[2, WIDTH] == pytest.approx(-avatar.profile.speech_narrowing)
    )
    assert avatar.profile.speech_narrowing > 0.05


def test_a_rounded_mouth_releases_a_smile_further(avatar: MeshAvatar) -> None:
    wide, rounded, limit = MouthShape(0.2), MouthShape(0.2, 0, 1), MouthShape(0.2, MIN_SHAPE[WIDTH], 1)
    shapes = renderer.apply_profile(to_features(wide, rounded, limit), avatar.profile, 1.0)
    assert shapes[1, WIDTH] == pytest.approx(shapes[0, WIDTH] - avatar.profile.speech_narrowing)
    assert shapes[2, WIDTH] == renderer.MIN_WIDTH
    relaxed = replace(avatar.profile, speech_narrowing=0.0)
    assert renderer.apply_profile(to_features(limit), relaxed, 1.0)[0, WIDTH] == MIN_SHAPE[WIDTH]
