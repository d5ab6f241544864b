"""python -m benchmarks.lips FOLDER [--out VIDEOS]: our lips against the real ones, on talking clips of your own.

Each clip is reduced to the frame in which its mouth is most closed, which is then driven by the clip's own sound. The
same face mesh tracks the mouth in the clip and in what we draw. With --out, videos: real left, ours right.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import card
from services.infer.wiring import models
from services.prep.builder import Builder, BuildParams, Order
from warmtalk.core.bundle import Bundle, Faces, read_faces, read_info, write_faces, write_info
from warmtalk.core.pipeline import Model, WarmAvatar, render
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media.decode import Limits
from warmtalk.media.ffmpeg import ffmpeg
from warmtalk.media.segments import SegmentWriter
from warmtalk.media.sound import Resampler, SoundReader
from warmtalk.models.face import FaceFinder
from warmtalk.models.mesh_shape import (
    INNER_LOWER,
    INNER_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
    eye_distance,
    lip_gap,
    mouth_width,
)
from warmtalk.store import AvatarStore

Array = npt.NDArray[np.float32]

_LIPS = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
_ANCHORS = (33, 133, 362, 263, 168, 6)
"""Eye corners and the bridge of the nose: what does not move with speech."""
_FPS = 25
_MOST_LAG = 5
_LOUD = 0.1
"""Of the clip's loudest frames: below it a frame is silent."""


@dataclass(frozen=True, slots=True)
class Track:
    """One clip, real and ours, frame by frame; frames in which either has no face are left out."""

    name: str
    real: Array
    """[n, 468, 2] pixels."""
    ours: Array
    loud: npt.NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lips", description=__doc__)
    parser.add_argument("folder", type=Path, help="mp4, mov, webm or mkv, one talking person each, with sound")
    parser.add_argument("--out", type=Path, help="folder for side-by-side videos")
    parser.add_argument("--renderer", default="mesh")
    args = parser.parse_args()
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    clips = sorted(path for path in args.folder.iterdir() if path.suffix in {".mp4", ".mov", ".webm", ".mkv"})
    tracks = []
    for clip in clips:
        with tempfile.TemporaryDirectory() as work:
            track = follow(clip, models()[args.renderer], Path(work), args.out)
        tracks.append(track)
        one = {key: figure for key, figure, _ in figures([track])}
        print(f"{clip.name:40} " + "  ".join(f"{key} {figure:.2f}" for key, figure in one.items()), flush=True)
    card.show(f"lips of {len(tracks)} clips, renderer {args.renderer}", figures(tracks))


def follow(clip: Path, model: Model, work: Path, out: Path | None) -> Track:
    """Draws the clip's stillest face with its own sound and tracks both."""
    store = AvatarStore(work / "avatars")
    order = Order("clip", clip, clip.name, hashlib.sha256(clip.read_bytes()).hexdigest(), BuildParams())
    Builder(store, Limits()).build(order, lambda progress: None)
    source = store.open("clip")
    sound = _sound(clip)
    frames = min(len(source), FrameClock().frames_for(len(sound), SPEECH_RATE_HZ))
    still = _still(source, store.path("still"))
    drawn = list(_drawn(still, model, sound[: frames * SPEECH_RATE_HZ // _FPS]))
    seen = _seen(drawn)
    both = [i for i in range(frames) if source.usable(i) and seen[i] is not None]
    if out:
        _side_by_side(clip, [source.frame(i) for i in range(frames)], drawn, out / f"{clip.stem}.mp4")
    real = np.stack([source.landmarks(i) for i in both])
    ours = np.stack([seen[i] for i in both])  # type: ignore[arg-type]  # `both` leaves out None
    return Track(clip.stem, real, ours, _loud(sound, frames)[both])


def figures(tracks: list[Track]) -> list[tuple[str, float, str]]:
    """Pooled over the clips; each clip's own mean is taken away first, since resting lips differ between people."""
    gaps = [(_gap(track.real), _gap(track.ours)) for track in tracks]
    widths = [(_width(track.real), _width(track.ours)) for track in tracks]
    lags = [_lag_ms(real, ours) for real, ours in gaps]
    opening = [
        (_level(ours, track.loud), _level(ours, ~track.loud)) for track, (_, ours) in zip(tracks, gaps, strict=True)
    ]
    silent = [quiet / speaking for speaking, quiet in opening if speaking > 0 and not np.isnan(quiet)]
    return [
        ("r_open", _pooled_r(gaps), "correlation of the opening, pooled"),
        ("r_open_speakers", float(np.mean([_pooled_r([pair]) for pair in gaps])), "the same, mean over clips"),
        ("r_width", _pooled_r(widths), "correlation of the width, pooled"),
        ("size_ratio", _ratio(gaps, np.std), "spread of our opening over the real one"),
        (
            "silence_ratio",
            float(np.mean(silent)) if silent else float("nan"),
            "our opening in silence over that in speech",
        ),
        ("lmd", float(np.mean([_lmd(track) for track in tracks])), "mean distance of lip points, in eye distances"),
        ("jitter_ratio", _ratio(gaps, _shake), "change of speed of our opening over the real one's"),
        ("lag_ms", float(np.median(lags)), "median lag, positive when ours is late"),
    ]


def _sound(clip: Path) -> Samples:
    """The clip's sound at 16 kHz."""
    done = subprocess.run(
        [ffmpeg(), "-v", "error", "-i", str(clip), "-vn", "-f", "wav", "-c:a", "pcm_s16le", "-bitexact", "pipe:1"],
        capture_output=True,
        check=True,
    )
    reader = SoundReader(done.stdout, max_s=3600)
    resampler = Resampler(reader.rate_hz, SPEECH_RATE_HZ)
    return np.concatenate([*(resampler.accept(piece) for piece in reader.pieces()), resampler.finish()])


def _still(source: Bundle, path: Path) -> Bundle:
    """A bundle of the one frame in which the mouth is most closed."""
    rows = np.flatnonzero(source.faces.usable)
    row = int(rows[np.argmin(lip_gap(source.faces.landmarks[rows]) / eye_distance(source.faces.landmarks[rows]))])
    (path / "frames").mkdir(parents=True)
    (path / "masks").mkdir()
    with SegmentWriter(
        path / "frames" / "00000.mp4", source.info.width, source.info.height, source.info.rate
    ) as writer:
        writer.write(source.frame(row))
    shutil.copy(source.path / "masks" / f"{row:08d}.png", path / "masks" / "00000000.png")
    faces = read_faces(source.path)
    one = slice(row, row + 1)
    write_faces(path, Faces(faces.boxes[one], faces.crop_boxes[one], faces.landmarks[one], faces.usable[one]))
    write_info(path, replace(read_info(source.path), avatar_id="still", frames=1, usable_frames=1))
    return Bundle(path)


def _drawn(still: Bundle, model: Model, sound: Samples) -> Iterator[Image]:
    for patch in render(WarmAvatar(still, model.renderer), model.encoder, [sound], FrameClock()):
        frame = still.frame(0).copy()
        frame[patch.box.y1 : patch.box.y2, patch.box.x1 : patch.box.x2] = patch.pixels
        yield frame


def _seen(images: list[Image]) -> list[Array | None]:
    finder = FaceFinder()
    found = [finder.find(image) for image in images]
    return [max(faces, key=lambda face: face.box.width).landmarks if faces else None for faces in found]


def _loud(sound: Samples, frames: int) -> npt.NDArray[np.bool_]:
    step = SPEECH_RATE_HZ // _FPS
    level = np.array([np.sqrt(np.mean(sound[i * step : (i + 1) * step] ** 2) + 1e-12) for i in range(frames)])
    level = np.convolve(level, np.ones(5) / 5, "same")  # lips take 100 ms to close
    return np.asarray(level > _LOUD * np.percentile(level, 95))


def _gap(landmarks: Array) -> Array:
    return np.asarray(lip_gap(landmarks) / eye_distance(landmarks), np.float32)


def _width(landmarks: Array) -> Array:
    return np.asarray(mouth_width(landmarks) / eye_distance(landmarks), np.float32)


def _pooled_r(pairs: list[tuple[Array, Array]]) -> float:
    real = np.concatenate([real - real.mean() for real, _ in pairs])
    ours = np.concatenate([ours - ours.mean() for _, ours in pairs])
    return float(np.corrcoef(real, ours)[0, 1])


def _lag_ms(real: Array, ours: Array) -> float:
    """Where the correlation is highest, between frames by a parabola."""
    lags = range(-_MOST_LAG, _MOST_LAG + 1)
    n = len(real)
    r = [np.corrcoef(real[max(0, -k) : n - max(0, k)], ours[max(0, k) : n - max(0, -k)])[0, 1] for k in lags]
    best = int(np.clip(np.argmax(r), 1, len(r) - 2))
    low, top, high = r[best - 1 : best + 2]
    bend = low - 2 * top + high
    between = float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0
    return (best - _MOST_LAG + between) * 1000 / _FPS


def _level(gap: Array, where: npt.NDArray[np.bool_]) -> float:
    """Mean opening above the most closed frames."""
    return float(np.mean(gap[where]) - np.percentile(gap, 5)) if where.any() else float("nan")


def _ratio(pairs: list[tuple[Array, Array]], measure: object) -> float:
    assert callable(measure)
    return float(np.mean([measure(ours) / measure(real) for real, ours in pairs]))


def _shake(gap: Array) -> float:
    return float(np.mean(np.abs(np.diff(gap, 2))))


def _lmd(track: Track) -> float:
    """Lip points, both faces laid on each other by the points that do not speak."""
    distances = []
    for real, ours in zip(track.real, track.ours, strict=True):
        move, _ = cv2.estimateAffinePartial2D(ours[list(_ANCHORS)], real[list(_ANCHORS)], method=cv2.LMEDS)
        if move is not None:
            laid = ours[_LIPS] @ move[:, :2].T + move[:, 2]
            distances.append(np.linalg.norm(laid - real[_LIPS], axis=1).mean() / float(eye_distance(real[None])[0]))
    return float(np.mean(distances))


def _side_by_side(clip: Path, real: list[Image], ours: list[Image], path: Path) -> None:
    height, width = real[0].shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{2 * width}x{height}", "-r", str(_FPS), "-i", "pipe:0"]
    codec = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-c:a", "aac"]
    child = subprocess.Popen(
        [ffmpeg(), "-v", "error", *source, "-i", str(clip), *codec, "-shortest", "-y", str(path)], stdin=subprocess.PIPE
    )
    assert child.stdin
    for left, right in zip(real, ours, strict=True):
        child.stdin.write(np.hstack([left, right]).tobytes())
    child.stdin.close()
    child.wait()


if __name__ == "__main__":
    main()
