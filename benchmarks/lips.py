"""python -m benchmarks.lips FOLDER [--out VIDEOS]: our lips against the real ones, on talking clips of your own.

Each clip is reduced to the frame in which its mouth is most closed, which is then driven by the clip's own sound. The
same face mesh tracks the mouth in the clip and in what we draw. With --out, videos: real left, ours right. An
alignment beside a clip (CLIP.align or CLIP.TextGrid, see benchmarks/alignment.py) tells where lips should shut.
Any renderer of this machine: --renderer musetalk wants torch and its weights, as `warmtalk doctor` says, and the face
finder as well: the full environment (make venv-full) has all of them.
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
from warmtalk.core.bundle import (
    Bundle,
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
from warmtalk.media.audio_decode import AudioReader, Resampler
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.file_types import find_ffmpeg
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.landmark_measures import lip_gap
from warmtalk.renderers import registry
from warmtalk.store import AvatarStore

KINDS = {".mp4", ".mov", ".webm", ".mkv", ".mpg"}
_LOUD = 0.1
"""Of the clip's loudest frames: below it a frame is silent."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="one talking person each, with sound: mp4, mov, webm, mkv or mpg")
    parser.add_argument("--out", type=Path, help="folder for side-by-side videos")
    parser.add_argument("--renderer", default="mesh")
    parser.add_argument("--config", type=Path, help="configuration file (default: the defaults and WARMTALK_*)")
    args = parser.parse_args()
    config = load(args.config)
    model = registry.model(args.renderer, config)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    tracks = []
    for clip in sorted(path for path in args.folder.iterdir() if path.suffix.lower() in KINDS):
        with tempfile.TemporaryDirectory() as work:
            track = follow(clip, model, config, Path(work), args.out)
        tracks.append(track)
        one = {key: figure for key, figure, _ in figures([track])}
        print(f"{clip.name:40} " + "  ".join(f"{key} {figure:.2f}" for key, figure in one.items()), flush=True)
    if not tracks:
        parser.error(f"there is no clip in {args.folder}")
    card.show(f"lips of {len(tracks)} clips, renderer {args.renderer}", figures(tracks))


def follow(clip: Path, model: RenderModel, config: Config, work: Path, out: Path | None) -> LipTrack:
    """Draws the clip's stillest face with its own sound and tracks both."""
    source = built(_readable(clip, work), config, work)
    sound = _sound(clip)
    frames = min(len(source), FrameClock().frames_for(len(sound), SPEECH_RATE_HZ))
    sound = sound[: frames * SPEECH_RATE_HZ // FPS]
    still = still_of(source, source.path.with_name("still"))
    ours_drawn = list(drawn(still, model, sound))
    seen = enumerate(_seen(ours_drawn[:frames]))
    tracked = {i: points for i, points in seen if points is not None and source.usable(i)}
    both = list(tracked)
    if out:
        _side_by_side([source.frame(i) for i in range(frames)], ours_drawn, sound, out / f"{clip.stem}.mp4")
    real = np.stack([source.landmarks(i) for i in both])
    ours = np.stack(list(tracked.values()))
    shut = alignment.closures(clip, frames, FPS)
    return LipTrack(clip.stem, real, ours, _loud(sound, frames)[both], shut[both])


def built(film: Path, config: Config, work: Path) -> Bundle:
    """The avatar of a whole clip, under `work`."""
    store = AvatarStore(work / "avatars")
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    order = BuildRequest("clip", film, film.name, digest, BuildParams())
    from_config.builder_from_config(config, store).build(order, lambda progress: None)
    return store.open("clip")


def _readable(clip: Path, work: Path) -> Path:
    """GRID's own clips are MPEG-1, which prep does not take."""
    if clip.suffix.lower() != ".mpg":
        return clip
    made = work / f"{clip.stem}.mp4"
    codec = ["-an", "-c:v", "libx264", "-crf", "14", "-pix_fmt", "yuv420p"]
    subprocess.run([find_ffmpeg(), "-v", "error", "-i", str(clip), *codec, str(made)], check=True)
    return made


def _sound(clip: Path) -> Samples:
    """The clip's sound at 16 kHz."""
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


def still_of(source: Bundle, path: Path) -> Bundle:
    """A bundle of the one frame in which the mouth is most closed."""
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
    places = None if faces.float_boxes is None else faces.float_boxes[one]
    write_faces(
        path, FaceTable(faces.boxes[one], faces.crop_boxes[one], faces.landmarks[one], faces.usable[one], places)
    )
    if (source.path / "latents.safetensors").exists():
        latents = read_latents(source.path)
        write_latents(path, Latents(latents.values[one], latents.vae, latents.version))
    alone: dict[str, Any] = {"frames": 1, "usable_frames": 1, "first_frame": 0, "stored_frames": 1}
    write_info(path, replace(read_info(source.path), avatar_id="still", **alone))
    return Bundle(path)


def drawn(still: Bundle, model: RenderModel, sound: Samples) -> Iterator[Image]:
    for patch in render(WarmAvatar(still, model.renderer), model.encoder, [sound], FrameClock()):
        frame = still.frame(0).copy()
        frame[patch.box.y1 : patch.box.y2, patch.box.x1 : patch.box.x2] = patch.pixels
        yield frame


def _seen(images: list[Image]) -> list[Array | None]:
    finder = FaceFinder()
    found = [finder.find(image) for image in images]
    return [max(faces, key=lambda face: face.box.width).landmarks if faces else None for faces in found]


def _loud(sound: Samples, frames: int) -> npt.NDArray[np.bool_]:
    step = SPEECH_RATE_HZ // FPS
    level = np.array([np.sqrt(np.mean(sound[i * step : (i + 1) * step] ** 2) + 1e-12) for i in range(frames)])
    level = np.convolve(level, np.ones(5) / 5, "same")  # lips take 100 ms to close
    return np.asarray(level > _LOUD * np.percentile(level, 95))


def _side_by_side(real: list[Image], ours: list[Image], sound: Samples, path: Path) -> None:
    height, width = real[0].shape[:2]
    writer = ClipWriter(path, 2 * width, height, FrameClock())
    for left, right in zip(real, ours, strict=True):
        writer.write_bgr(np.hstack([left, right]))
    writer.write_audio(_resampled(sound, SPEECH_RATE_HZ, CLIP_RATE_HZ))
    writer.finish()


if __name__ == "__main__":
    main()
