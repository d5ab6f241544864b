"""python -m benchmarks.smoothing: jitter and lag of a pasted face on its head, compared with unfiltered boxes.

A photo moves along a known path and gets camera noise, and is analysed like any video. The generated face is the same
in every frame and at rest in its square, so all jitter of the box is visible. The position of the mouth in the
composited frame is measured in the pixels and compared with the known position of the head.
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
from warmtalk.avatar.detect.source_scan import SourceScan, VideoSource, scan_source
from warmtalk.avatar.track.frame_table import FrameTableParams, build_frame_table
from warmtalk.avatar.track.smoothing import SmoothingParams
from warmtalk.core.blend import BlendRegion
from warmtalk.core.bundle_files import FaceTable
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
"""Standard deviation in grey levels: a webcam indoors."""
_SLOW_SIGMA = 2.0
"""Frames. Faster changes, above about 2 Hz, count as jitter."""
_GRAIN = 3.0
"""Standard deviation in grey levels of the noise of a generated face."""
_STEPS = ((8, 40, 0), (30, -60, 12), (52, 30, -24), (70, 0, 20), (76, 0, -20), (82, 0, 20))
"""Movements of the head: first frame, and pixels to the right and down within the next eight frames."""
MOUTH = (13, 14)


class SyntheticVideo:
    """A source of frames that are rendered on demand from one photo."""

    expected_frames = _FRAMES
    warnings: tuple[str, ...] = ()

    def __init__(self, photo: Image, moves: Array) -> None:
        """`moves` is [n, 2, 3]: the transform from the photo to each frame."""
        self.photo, self.moves = photo, moves

    def __iter__(self) -> Iterator[Image]:
        random = np.random.default_rng(5)
        for index in range(len(self.moves)):
            clean = self.clean(index)
            grain = random.normal(0, _NOISE, (*clean.shape[:2], 1)) + random.normal(0, _NOISE / 3, clean.shape)
            yield np.clip(clean + grain, 0, 255).astype(np.uint8)

    def clean(self, index: int) -> Image:
        """Returns frame `index` without noise."""
        height, width = self.photo.shape[:2]
        moved = cv2.warpAffine(
            self.photo, self.moves[index], (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(moved, np.uint8)


def at_rest() -> Array:
    """Returns the transforms of a head that does not move."""
    return np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (_FRAMES, 1, 1))


def moving() -> Array:
    """Returns the transforms of a head that jerks and nods, a third of a second each, and comes 8 % nearer."""
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
    """Returns the rows of the report card."""
    with tempfile.TemporaryDirectory() as folder:
        whole = cv2.imread(str(inputs.write_photo(Path(folder))))
        assert whole is not None
        photo = np.asarray(cv2.resize(whole, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        rest = _scanned(SyntheticVideo(photo, at_rest()), Path(folder) / "rest")
        move = _scanned(SyntheticVideo(photo, moving()), Path(folder) / "move")
        near = _scanned(SyntheticVideo(_nearer(photo), at_rest()), Path(folder) / "near")
    unfiltered, default = SmoothingParams("reference"), SmoothingParams()
    jitters = {params.filter: jitter(mouth_shifts(*rest, params)[1]) for params in (unfiltered, default)}
    frames, shifts = mouth_shifts(*move, default)
    lag_px, off_px = lag(shifts, move[0].moves[frames])
    plain, sharp = (noisy_face(*near, default, sharpen) for sharpen in (False, True))
    return [
        (
            "jitter_ratio",
            jitters["tracked"] / jitters["reference"],
            "head at rest, unfiltered boxes 1 (target 0.5)",
        ),
        ("jitter_px", jitters["tracked"], f"pixels of a face 200 wide; unfiltered {jitters['reference']:.3f}"),
        ("lag_px", lag_px, "pixels by which the mouth lags behind a jerking head (at most 0.5)"),
        ("off_px", off_px, "pixels between head and mouth during motion, 95th percentile"),
        (
            "sharp_flicker_ratio",
            sharp[1] / plain[1],
            "change per frame of a sharpened close-up, unsharpened 1 (target 1)",
        ),
        ("sharp_jitter_ratio", sharp[0] / plain[0], "jitter of the position, likewise; accurate to 5 %"),
    ]


def _nearer(photo: Image) -> Image:
    """Returns a close-up: the face is larger than the square of the renderers."""
    height, width = photo.shape[:2]
    half = photo[: height * 2 // 3, width // 6 : width * 5 // 6]
    return np.asarray(cv2.resize(half, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _scanned(video: SyntheticVideo, work: Path) -> tuple[SyntheticVideo, SourceScan]:
    for part in ("frames", "parts"):
        (work / part).mkdir(parents=True)
    finder = FaceFinder()
    source = VideoSource(video, FaceDetectorPair(finder, finder))
    return video, scan_source(source, work, _RATE, lambda done, expected: None)


def mouth_shifts(video: SyntheticVideo, scan: SourceScan, smoothing: SmoothingParams) -> tuple[range, Array]:
    """Returns the frames of the loop, and [n, 2] the pixels by which each mouth is off its position on the head in the
    first frame."""
    faces, first = _face_table(scan, smoothing)
    face = crop_face(video.clean(first), paste_box(faces, 0))
    mouth = faces.landmarks[0, MOUTH].mean(0)
    frames = range(first, first + len(faces.usable))
    pasted = [_head(video, first, i, paste(video.clean(i), faces, i - first, face)) for i in frames]
    return frames, np.array([_shift(pasted[0], one, mouth) for one in pasted])


def noisy_face(
    video: SyntheticVideo, scan: SourceScan, smoothing: SmoothingParams, sharpen: bool
) -> tuple[float, float]:
    """Returns the jitter in pixels and the change in grey levels per frame of the mouth of a head at rest.

    The face has new noise in each frame, like the face of a renderer that generates each frame independently.
    """
    faces, first = _face_table(scan, smoothing)
    face, sharpening, random = (
        crop_face(video.clean(first), paste_box(faces, 0)),
        Sharpening(),
        np.random.default_rng(6),
    )
    pasted = []
    for row in range(len(faces.usable)):
        generated = np.clip(face + random.normal(0, _GRAIN, face.shape), 0, 255).astype(np.uint8)
        if sharpen:
            box = paste_box(faces, row)
            generated = sharpening(generated, max(box.width, box.height) / FACE_SIZE)
        pasted.append(paste(video.clean(first + row), faces, row, generated))
    centre = faces.landmarks[0, MOUTH].mean(0)
    x, y = np.rint(centre).astype(int).tolist()
    mouth = np.stack([one[y - 24 : y + 24, x - 40 : x + 40] for one in pasted]).astype(np.float32)
    change = float(np.abs(np.diff(mouth, axis=0)).mean())
    return jitter(np.array([_shift(pasted[0], one, centre) for one in pasted])), change


def _face_table(scan: SourceScan, smoothing: SmoothingParams) -> tuple[FaceTable, int]:
    """Returns the rows of the loop, and the first frame of the loop."""
    params = FrameTableParams(_RATE, bbox_shift=0, extra_margin=10, choice=FaceChoice())
    table = build_frame_table(scan, params, "the photo", smoothing)
    return table.faces, table.first_frame


def paste_box(faces: FaceTable, row: int) -> Box | FloatBox:
    """Returns the face box of a row, with sub-pixels where the table has any."""
    if faces.float_boxes is None:
        return Box(*faces.boxes[row].tolist())
    return FloatBox(*faces.float_boxes[row].tolist())


def paste(frame: Image, faces: FaceTable, row: int, face: Image) -> Image:
    """Returns the frame with the generated face blended into the face box of the row."""
    target, crop = paste_box(faces, row), Box(*faces.crop_boxes[row].tolist())
    box, pixels = BlendRegion(frame, mesh_mask(faces.landmarks[row], target, crop), target, crop).blend(face)
    result = frame.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = pixels
    return result


def _head(video: SyntheticVideo, first: int, index: int, frame: Image) -> Image:
    """Returns the frame, moved so that the head has its position in the first frame."""
    current, reference = (np.vstack([video.moves[i], [0, 0, 1]]) for i in (index, first))
    transform = current @ np.linalg.inv(reference)
    size = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, transform[:2], size, flags=flags), np.uint8)


def _shift(first: Image, image: Image, centre: npt.NDArray[np.float32]) -> Sequence[float]:
    """Returns the pixels by which the area around `centre` moved."""
    x, y = np.rint(centre).astype(int).tolist()
    around = np.s_[y - 24 : y + 24, x - 40 : x + 40]
    template, moved = (cv2.cvtColor(one[around], cv2.COLOR_BGR2GRAY) for one in (first, image))
    start = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-5)
    _, matrix = cv2.findTransformECC(
        template, moved, start, cv2.MOTION_TRANSLATION, criteria, np.ones_like(template), 3
    )
    return [float(v) for v in np.asarray(matrix)[:, 2]]


def low_pass(values: Array) -> Array:
    """Returns the slow part of [n, 2] values."""
    smooth = cv2.GaussianBlur(values, (1, 0), 1, sigmaY=_SLOW_SIGMA, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.float64)


def jitter(shifts: Array) -> float:
    """Returns the root mean square of the fast part, pixels."""
    return float(np.sqrt(np.square(shifts - low_pass(shifts)).sum(1).mean()))


def lag(shifts: Array, moves: Array) -> tuple[float, float]:
    """Returns the lag in pixels at the highest speed, positive when late, and the 95th percentile of the distance."""
    speed = np.gradient(moves @ np.array([SIZE[0] / 2, SIZE[1] / 2, 1.0]), axis=0)
    off = shifts - shifts.mean(0)
    frames = -float((off * speed).sum() / np.square(speed).sum())
    return frames * float(np.linalg.norm(speed, axis=1).max()), float(np.percentile(np.linalg.norm(off, axis=1), 95))


if __name__ == "__main__":
    card.print_card("steadiness of a pasted face", measure())
