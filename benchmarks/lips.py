"""python -m benchmarks.lips FOLDER [--out VIDEOS]: rendered lips against real lips, on your own talking clips.

Each clip is reduced to the frame with the most closed mouth. That frame is then animated with the audio of the clip.
The same face mesh tracks the mouth in the clip and in the rendered frames. With --out, videos are written: real left,
rendered right. An alignment beside a clip (CLIP.align or CLIP.TextGrid, see benchmarks/alignment.py) marks the sounds
with closed lips. All renderers of this machine can be tested: --renderer musetalk needs torch and weights, as `warmtalk
doctor` reports, and the face detector; the full environment (make venv-full) contains all.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import alignment, card
from benchmarks.lip_figures import FPS, Array, LipTrack, figures
from warmtalk.avatar import from_config
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.config import Config
from warmtalk.config_loader import load
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import (
    FaceTable,
    Latents,
    read_faces,
    read_info,
    read_latents,
    write_faces,
    write_info,
    write_latents,
)
from warmtalk.core.pipeline import RenderModel, WarmAvatar, render
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media.audio_decode import AudioReader
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.resampler import Resampler
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.landmark_measures import lip_gap
from warmtalk.renderers import loading
from warmtalk.renderers.registry import EMBEDDED
from warmtalk.store import AvatarStore

KINDS = {".mp4", ".mov", ".webm", ".mkv", ".mpg"}
_SPEECH_LEVEL = 0.1
"""Audio level relative to the loudest frames of the clip below which a frame is silent."""


def main() -> None:
    """Runs the benchmark on all clips of a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="clips of one talking person with audio: mp4, mov, webm, mkv or mpg")
    parser.add_argument("--out", type=Path, help="folder for side-by-side videos")
    parser.add_argument("--renderer", default=EMBEDDED.name)
    parser.add_argument("--config", type=Path, help="configuration file (default: the defaults and WARMTALK_*)")
    args = parser.parse_args()
    config = load(args.config)
    model = loading.load(args.renderer, config)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    tracks = []
    for clip in sorted(path for path in args.folder.iterdir() if path.suffix.lower() in KINDS):
        with tempfile.TemporaryDirectory() as work:
            track = track_clip(clip, model, config, Path(work), args.out)
        tracks.append(track)
        one = {key: figure for key, figure, _ in figures([track])}
        print(f"{clip.name:40} " + "  ".join(f"{key} {figure:.2f}" for key, figure in one.items()), flush=True)
    if not tracks:
        parser.error(f"there is no clip in {args.folder}")
    card.print_card(f"lips of {len(tracks)} clips, renderer {args.renderer}", figures(tracks))


def track_clip(clip: Path, model: RenderModel, config: Config, work: Path, out: Path | None) -> LipTrack:
    """Renders the most closed frame of the clip with the audio of the clip, and tracks both mouths."""
    source = build_avatar(_converted(clip, work), config, work)
    audio = _read_audio(clip)
    frames = min(len(source), FrameClock().frames_for(len(audio), SPEECH_RATE_HZ))
    audio = audio[: frames * SPEECH_RATE_HZ // FPS]
    still = closed_frame_bundle(source, source.path.with_name("still"))
    images = list(render_frames(still, model, audio))
    landmarks = enumerate(_track_landmarks(images[:frames]))
    tracked = {i: points for i, points in landmarks if points is not None and source.usable(i)}
    common = list(tracked)
    if out:
        _write_side_by_side([source.frame(i) for i in range(frames)], images, audio, out / f"{clip.stem}.mp4")
    real = np.stack([source.landmarks(i) for i in common])
    rendered = np.stack(list(tracked.values()))
    closures = alignment.closures(clip, frames, FPS)
    return LipTrack(clip.stem, real, rendered, _speech_frames(audio, frames)[common], closures[common])


def build_avatar(video: Path, config: Config, work: Path) -> Bundle:
    """Builds the avatar of a whole clip in `work`."""
    store = AvatarStore(work / "avatars")
    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    request = BuildRequest("clip", video, video.name, digest, BuildParams())
    from_config.builder_from_config(config, store).build(request, lambda progress: None)
    return store.open("clip")


def _converted(clip: Path, work: Path) -> Path:
    """Returns the clip as a file that prep accepts. The clips of the GRID corpus are MPEG-1 and get converted."""
    if clip.suffix.lower() != ".mpg":
        return clip
    converted = work / f"{clip.stem}.mp4"
    codec = ["-an", "-c:v", "libx264", "-crf", "14", "-pix_fmt", "yuv420p"]
    subprocess.run([find_ffmpeg(), "-v", "error", "-i", str(clip), *codec, str(converted)], check=True)
    return converted


def _read_audio(clip: Path) -> Samples:
    """Returns the audio of the clip at 16 kHz."""
    done = subprocess.run(
        [find_ffmpeg(), "-v", "error", "-i", str(clip), "-vn", "-f", "wav", "-c:a", "pcm_s16le", "-bitexact", "pipe:1"],
        capture_output=True,
        check=True,
    )
    reader = AudioReader(done.stdout, max_s=3600)
    return _resampled(np.concatenate(list(reader.chunks())), reader.rate_hz, SPEECH_RATE_HZ)


def _resampled(samples: Samples, rate_hz: int, to_hz: int) -> Samples:
    resampler = Resampler(rate_hz, to_hz)
    return np.concatenate([resampler.resample(samples), resampler.flush()])


def closed_frame_bundle(source: Bundle, path: Path) -> Bundle:
    """Writes a bundle of the one frame with the most closed mouth to `path`."""
    rows = np.flatnonzero(source.faces.usable)
    row = int(rows[np.argmin(lip_gap(source.faces.landmarks[rows]))])
    (path / "frames").mkdir(parents=True)
    (path / "masks").mkdir()
    with SegmentWriter(
        path / "frames" / "00000.mp4", source.info.width, source.info.height, source.info.rate
    ) as writer:
        writer.write_frame(source.frame(row))
    shutil.copy(source.path / "masks" / f"{row:08d}.png", path / "masks" / "00000000.png")
    faces = read_faces(source.path)
    one = slice(row, row + 1)
    float_boxes = None if faces.float_boxes is None else faces.float_boxes[one]
    write_faces(
        path, FaceTable(faces.boxes[one], faces.crop_boxes[one], faces.landmarks[one], faces.usable[one], float_boxes)
    )
    if (source.path / "latents.safetensors").exists():
        latents = read_latents(source.path)
        write_latents(path, Latents(latents.values[one], latents.vae, latents.version))
    counts: dict[str, Any] = {"frames": 1, "usable_frames": 1, "first_frame": 0, "stored_frames": 1}
    write_info(path, replace(read_info(source.path), avatar_id="still", **counts))
    return Bundle(path)


def render_frames(still: Bundle, model: RenderModel, audio: Samples) -> Iterator[Image]:
    """Yields the frame of `still` with the rendered face, one image per frame of the audio."""
    for patch in render(WarmAvatar(still, model.renderer), model.encoder, [audio], FrameClock()):
        frame = still.frame(0).copy()
        frame[patch.box.y1 : patch.box.y2, patch.box.x1 : patch.box.x2] = patch.pixels
        yield frame


def _track_landmarks(images: list[Image]) -> list[Array | None]:
    """Returns the landmarks of the largest face of each image; None without a face."""
    finder = FaceFinder()
    faces_of_images = [finder.find(image) for image in images]
    return [max(faces, key=lambda face: face.box.width).landmarks if faces else None for faces in faces_of_images]


def _speech_frames(audio: Samples, frames: int) -> npt.NDArray[np.bool_]:
    """Returns [frames] True where the audio contains speech."""
    step = SPEECH_RATE_HZ // FPS
    level = np.array([np.sqrt(np.mean(audio[i * step : (i + 1) * step] ** 2) + 1e-12) for i in range(frames)])
    level = np.convolve(level, np.ones(5) / 5, "same")  # lips take 100 ms to close
    return np.asarray(level > _SPEECH_LEVEL * np.percentile(level, 95))


def _write_side_by_side(real: list[Image], rendered: list[Image], audio: Samples, path: Path) -> None:
    height, width = real[0].shape[:2]
    writer = ClipWriter(path, 2 * width, height, FrameClock())
    for left, right in zip(real, rendered, strict=True):
        writer.write_bgr(np.hstack([left, right]))
    writer.write_audio(_resampled(audio, SPEECH_RATE_HZ, CLIP_RATE_HZ))
    writer.finish()


if __name__ == "__main__":
    main()
