"""python -m benchmarks.steady: how steady a pasted face lies on its head, against boxes of each frame's own landmarks.

A photograph moves in a known way and gets the noise of a camera. Prep looks at it as at any film. The generated face is
the same in every frame, at rest in its square, as that of a renderer that draws the square anew from sound: every
tremble of the box shows. Where the mouth came to lie in the pasted frame is measured in the picture, and compared with
where the head was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import card, inputs
from warmtalk.avatar.detect.face_detection import FaceDetectorPair
from warmtalk.avatar.detect.person_tracking import FaceChoice
from warmtalk.avatar.detect.source_scan import SourceScan, VideoSource, scan
from warmtalk.avatar.track.frame_table import FrameTableParams, build_frame_table
from warmtalk.avatar.track.smoothing import SmoothingParams
from warmtalk.core.blend import BlendRegion
from warmtalk.core.bundle import FaceTable
from warmtalk.core.faces import crop_face
from warmtalk.core.masks import mesh_mask
from warmtalk.core.sharpen import Sharpening
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image
from warmtalk.models.faces.face_finder import FaceFinder

Array = npt.NDArray[np.float64]
SIZE = (640, 360)
_FRAMES = 100
_RATE = Fraction(25)
_NOISE = 4.0
"""Levels of grey, standard deviation: a webcam indoors."""
_SLOW_FRAMES = 2.0
"""Sigma. What is faster is tremble: above about 2 Hz."""
_GRAIN = 3.0
"""The same, of a face that is drawn anew."""
_STEPS = ((8, 40, 0), (30, -60, 12), (52, 30, -24), (70, 0, 20), (76, 0, -20), (82, 0, 20))
"""Of the moving head: first frame, pixels to the right and down within the next eight."""
MOUTH = (13, 14)


class SyntheticVideo:
    """Frames made as they are asked for."""

    expected_frames = _FRAMES
    warnings: tuple[str, ...] = ()

    def __init__(self, photo: Image, moves: Array) -> None:
        """`moves` is [n, 2, 3]: the photo to each frame."""
        self.photo, self.moves = photo, moves

    def __iter__(self) -> Iterator[Image]:
        random = np.random.default_rng(5)
        for index in range(len(self.moves)):
            clean = self.clean(index)
            grain = random.normal(0, _NOISE, (*clean.shape[:2], 1)) + random.normal(0, _NOISE / 3, clean.shape)
            yield np.clip(clean + grain, 0, 255).astype(np.uint8)

    def clean(self, index: int) -> Image:
        height, width = self.photo.shape[:2]
        moved = cv2.warpAffine(
            self.photo, self.moves[index], (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(moved, np.uint8)


def at_rest() -> Array:
    return np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (_FRAMES, 1, 1))


def moving() -> Array:
    """Jerks of the head and nods, each a third of a second, while it comes 8 % nearer."""
    frame = np.arange(_FRAMES)
    moves = at_rest()
    zoom = 1 + 0.08 * np.clip(frame / 50 - 0.5, 0, 1)
    for start, right, down in _STEPS:
        u = np.clip((frame - start) / 8, 0, 1)
        moves[:, :, 2] += (u**3 * (10 - 15 * u + 6 * u * u))[:, None] * (right, down)
    moves[:, :, :2] *= zoom[:, None, None]
    moves[:, :, 2] += (1 - zoom)[:, None] * (SIZE[0] / 2, SIZE[1] / 2)
    return moves


def measure() -> list[tuple[str, float, str]]:
    with tempfile.TemporaryDirectory() as folder:
        whole = cv2.imread(str(inputs.photo(Path(folder))))
        assert whole is not None
        photo = np.asarray(cv2.resize(whole, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        rest = _watched(SyntheticVideo(photo, at_rest()), Path(folder) / "rest")
        move = _watched(SyntheticVideo(photo, moving()), Path(folder) / "move")
        near = _watched(SyntheticVideo(_nearer(photo), at_rest()), Path(folder) / "near")
    unfiltered, default = SmoothingParams("reference"), SmoothingParams()
    trembles = {how.filter: tremble(mouths(*rest, how)[1]) for how in (unfiltered, default)}
    frames, shifts = mouths(*move, default)
    late, far = lag(shifts, move[0].moves[frames])
    (jitter, flicker), (sharp_jitter, sharp_flicker) = (drawn_anew(*near, default, sharp) for sharp in (False, True))
    return [
        (
            "jitter_ratio",
            trembles["tracked"] / trembles["reference"],
            "head at rest, unfiltered boxes 1 (target 0.5)",
        ),
        ("jitter_px", trembles["tracked"], f"pixels of a face 200 wide; unfiltered {trembles['reference']:.3f}"),
        ("lag_px", late, "pixels that a jerking head is ahead of its mouth (at most 0.5)"),
        ("off_px", far, "pixels between head and mouth on the way, 95 of 100 frames below"),
        ("sharp_flicker_ratio", sharp_flicker / flicker, "levels a frame of a close-up sharpened, not so 1 (target 1)"),
        ("sharp_jitter_ratio", sharp_jitter / jitter, "its place, the same; known to 5 of 100"),
    ]


def _nearer(photo: Image) -> Image:
    """A close-up: the face is larger than the square that renderers draw."""
    height, width = photo.shape[:2]
    half = photo[: height * 2 // 3, width // 6 : width * 5 // 6]
    return np.asarray(cv2.resize(half, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _watched(film: SyntheticVideo, work: Path) -> tuple[SyntheticVideo, SourceScan]:
    for part in ("frames", "parts"):
        (work / part).mkdir(parents=True)
    finder = FaceFinder()
    return film, scan(VideoSource(film, FaceDetectorPair(finder, finder)), work, _RATE, lambda done, expected: None)


def mouths(film: SyntheticVideo, found: SourceScan, how: SmoothingParams) -> tuple[range, Array]:
    """Frames of the loop, and [n, 2] pixels by which the mouth of each is off its place on the head in the first."""
    wanted = FrameTableParams(_RATE, bbox_shift=0, extra_margin=10, choice=FaceChoice())
    found_rows = build_frame_table(found, wanted, "the photograph", how)
    faces, first = found_rows.faces, found_rows.first
    face = crop_face(film.clean(first), place(faces, 0))
    where = faces.landmarks[0, MOUTH].mean(0)
    frames = range(first, first + len(faces.usable))
    pasted = [_head(film, first, i, paste(film.clean(i), faces, i - first, face)) for i in frames]
    return frames, np.array([_shift(pasted[0], one, where) for one in pasted])


def drawn_anew(film: SyntheticVideo, found: SourceScan, how: SmoothingParams, sharp: bool) -> tuple[float, float]:
    """(tremble in pixels, change in levels a frame) of the mouth of a head at rest, whose face has grain of its own in
    each frame, as that of a renderer that draws it anew."""
    found_rows = build_frame_table(
        found, FrameTableParams(_RATE, bbox_shift=0, extra_margin=10, choice=FaceChoice()), "the photograph", how
    )
    faces, first = found_rows.faces, found_rows.first
    face, sharpening, random = crop_face(film.clean(first), place(faces, 0)), Sharpening(), np.random.default_rng(6)
    pasted = []
    for row in range(len(faces.usable)):
        drawn = np.clip(face + random.normal(0, _GRAIN, face.shape), 0, 255).astype(np.uint8)
        if sharp:
            box = place(faces, row)
            drawn = sharpening(drawn, max(box.width, box.height) / FACE_SIZE)
        pasted.append(paste(film.clean(first + row), faces, row, drawn))
    where = faces.landmarks[0, MOUTH].mean(0)
    x, y = np.rint(where).astype(int).tolist()
    mouth = np.stack([one[y - 24 : y + 24, x - 40 : x + 40] for one in pasted]).astype(np.float32)
    change = float(np.abs(np.diff(mouth, axis=0)).mean())
    return tremble(np.array([_shift(pasted[0], one, where) for one in pasted])), change


def place(faces: FaceTable, row: int) -> Box | FloatBox:
    if faces.float_boxes is None:
        return Box(*faces.boxes[row].tolist())
    return FloatBox(*faces.float_boxes[row].tolist())


def paste(frame: Image, faces: FaceTable, row: int, face: Image) -> Image:
    where, crop = place(faces, row), Box(*faces.crop_boxes[row].tolist())
    box, pixels = BlendRegion(frame, mesh_mask(faces.landmarks[row], where, crop), where, crop).blend(face)
    result = frame.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = pixels
    return result


def _head(film: SyntheticVideo, first: int, index: int, frame: Image) -> Image:
    """The frame moved so that the head is where it was in the first."""
    here, before = (np.vstack([film.moves[i], [0, 0, 1]]) for i in (index, first))
    there = here @ np.linalg.inv(before)
    size = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, there[:2], size, flags=flags), np.uint8)


def _shift(first: Image, now: Image, where: npt.NDArray[np.float32]) -> Sequence[float]:
    """Pixels that the picture around `where` moved."""
    x, y = np.rint(where).astype(int).tolist()
    around = np.s_[y - 24 : y + 24, x - 40 : x + 40]
    here, there = (cv2.cvtColor(one[around], cv2.COLOR_BGR2GRAY) for one in (first, now))
    start = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-5)
    _, matrix = cv2.findTransformECC(here, there, start, cv2.MOTION_TRANSLATION, criteria, np.ones_like(here), 3)
    return [float(v) for v in np.asarray(matrix)[:, 2]]


def slow(values: Array) -> Array:
    """[n, 2] without what is fast."""
    smooth = cv2.GaussianBlur(values, (1, 0), 1, sigmaY=_SLOW_FRAMES, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.float64)


def tremble(shifts: Array) -> float:
    """Root mean square of what is fast in it, pixels."""
    return float(np.sqrt(np.square(shifts - slow(shifts)).sum(1).mean()))


def lag(shifts: Array, moves: Array) -> tuple[float, float]:
    """Pixels at the highest speed, positive when late; and what 95 of 100 frames are not further off than."""
    speed = np.gradient(moves @ np.array([SIZE[0] / 2, SIZE[1] / 2, 1.0]), axis=0)
    off = shifts - shifts.mean(0)
    frames = -float((off * speed).sum() / np.square(speed).sum())
    return frames * float(np.linalg.norm(speed, axis=1).max()), float(np.percentile(np.linalg.norm(off, axis=1), 95))


if __name__ == "__main__":
    card.show("steadiness of a pasted face", measure())
