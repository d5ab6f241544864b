"""Render videos of tracked mouths beside rendered faces, for speakers outside the network's training set.

python -m training.mouth.compare CORPUS_FOLDER FOLDS_FOLDER VIDEOS    # after train --folds FOLDS_FOLDER

Left: the speaker's tracked lips in eye coordinates. Right: a portrait driven by the network of the speaker's fold.
Below: the opening of both over time. The corpora hold no images, so the real mouth is a contour. Loosely cut clips are
shown at their best offset, with a note. A sheet of frames lies beside each video. Needs soundfile, not torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from training.mouth.align import LOOSE, best_move
from training.mouth.corpus import Clip, Floats, by_speaker, fold_of, load_corpus, moved
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.core.bundle import Bundle
from warmtalk.core.mouth import OPENING
from warmtalk.core.pipeline import WarmAvatar, render
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Image
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.resampler import Resampler
from warmtalk.media.video_decode import SourceLimits
from warmtalk.models.mesh.landmark_measures import INNER_LOWER, INNER_UPPER, OUTER_LOWER, OUTER_UPPER, eye_distance
from warmtalk.models.mesh.renderer import MeshRenderer
from warmtalk.models.mouth.net import TrainedMouth
from warmtalk.sample_photo import read_sample_photo
from warmtalk.store import AvatarStore

CLOCK = FrameClock()
SIDE, PLOT = 384, 120
"""Side of a panel, and height of the plot below. Pixels."""
EYES_PX = 300.0
"""Distance of the eyes in both panels. Pixels."""
REAL, OURS, LIPS = (60, 60, 60), (40, 40, 210), (150, 150, 225)
SHEET = 20
"""Frames of a sheet, evenly spaced over the clip."""
MIN_SEEN, MIN_S, MAX_S = 0.95, 0.9, 6.0


@dataclass(frozen=True, slots=True)
class PreparedClip:
    """One clip with its prediction, ready to be drawn."""

    clip: Clip
    points: npt.NDArray[np.float64]
    """[T, points, 2] tracked mouth in eye distances, relative to the mean position of the lips."""
    ours: Floats
    """[T] predicted opening."""
    move: int
    """Offset applied to the clip. Frames; 0 for clips that are not loose."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folds", type=Path, help="folder of fold_<k>.safetensors")
    parser.add_argument("out", type=Path, help="folder for the videos")
    parser.add_argument("--speakers", type=int, default=12)
    parser.add_argument("--avatar", type=Path, help="folder of a built avatar (default: a public-domain portrait)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clips = load_corpus(options.corpus)
    ids = {mesh: row for row, mesh in enumerate(json.loads((options.corpus / "landmark_ids.json").read_text()))}
    folds = fold_of([clip.speaker for clip in clips])
    with tempfile.TemporaryDirectory() as work:
        avatar = WarmAvatar(Bundle(options.avatar or portrait(Path(work))), MeshRenderer())
        for clip in select_clips(clips, options.speakers):
            network = TrainedMouth(options.folds / f"fold_{folds[clip.speaker]}.safetensors")
            one = prepare_clip(options.corpus, ids, clip, network)
            write(one, ids, list(frames(one, avatar, network)), options.out / clip.speaker)
            sys.stdout.write(f"{caption(one)}\n")
            sys.stdout.flush()


def portrait(folder: Path) -> Path:
    """Builds the avatar of the demo: Eileen Collins (NASA, public domain). Returns its folder."""
    photo = folder / "portrait.png"
    whole = read_sample_photo()
    cv2.imwrite(str(photo), cv2.resize(whole[0:320, 64:384], (720, 720), interpolation=cv2.INTER_CUBIC))
    order = BuildRequest("portrait", photo, photo.name, hashlib.sha256(photo.read_bytes()).hexdigest(), BuildParams())
    store = AvatarStore(folder / "avatars")
    AvatarBuilder(store, SourceLimits()).build(order, lambda progress: None)
    return store.path("portrait")


def select_clips(clips: list[Clip], speakers: int) -> list[Clip]:
    """Returns one clip for each of `speakers` speakers, from all corpora in turn."""
    fit = [c for c in clips if c.ok.mean() > MIN_SEEN and MIN_S < len(c.samples) / SPEECH_RATE_HZ < MAX_S]
    queues: dict[str, list[Clip]] = {}
    for of_speaker in by_speaker(fit).values():
        queues.setdefault(of_speaker[0].corpus, []).append(of_speaker[len(of_speaker) // 2])
    turns = max(map(len, queues.values()), default=0)
    in_turn = [queue[k] for k in range(turns) for queue in queues.values() if k < len(queue)]
    return in_turn[:speakers]


def prepare_clip(corpus: Path, ids: dict[int, int], clip: Clip, network: TrainedMouth) -> PreparedClip:
    stream = network.start_stream(CLOCK)
    predicted = np.concatenate([stream.push_audio(clip.samples), stream.finish()])[:, OPENING]
    move = best_move(predicted, clip.opening)[0] if clip.corpus in LOOSE else 0
    clip = moved(clip, move)
    with np.load(corpus / f"{clip.name}.npz") as data:
        points = in_eye_axes(data["lm"].astype(np.float64)[..., :2], ids)
    count = min(len(predicted), len(clip.opening), len(points))
    at = np.clip(np.arange(count) + clip.late, 0, len(points) - 1)
    return PreparedClip(clip, points[at], predicted[:count], move)


def in_eye_axes(points: npt.NDArray[np.float64], ids: dict[int, int]) -> npt.NDArray[np.float64]:
    """Returns [T, points, 2] points, upright, in eye distances, relative to the mean middle of the mouth."""
    left, right = (points[:, [ids[a], ids[b]]].mean(1) for a, b in ((33, 133), (362, 263)))
    across = (right - left) / np.linalg.norm(right - left, axis=1, keepdims=True)
    scale = np.linalg.norm(right - left, axis=1)[:, None, None]
    axes = np.stack([across, np.stack([-across[:, 1], across[:, 0]], 1)], 2)
    upright = np.einsum("tpi,tij->tpj", points - ((left + right) / 2)[:, None], axes) / scale
    return np.asarray(upright - upright[:, [ids[13], ids[14]]].mean((0, 1)), np.float64)


def frames(one: PreparedClip, avatar: WarmAvatar, network: TrainedMouth) -> Iterator[Image]:
    """Yields the portrait's frames, cropped around the mouth, driven by the clip's audio."""
    bundle = avatar.bundle
    points = bundle.landmarks(0)
    middle, scale = points[[13, 14]].mean(0), EYES_PX / float(eye_distance(points))
    view = np.array([[scale, 0, SIDE / 2 - scale * middle[0]], [0, scale, SIDE / 2 - scale * middle[1]]])
    for patch in render(avatar, network, [one.clip.samples], CLOCK):
        image = bundle.frame(patch.row).copy()
        image[patch.box.y1 : patch.box.y2, patch.box.x1 : patch.box.x2] = patch.pixels
        yield np.asarray(cv2.warpAffine(image, view, (SIDE, SIDE), flags=cv2.INTER_CUBIC), np.uint8)


def contour(points: npt.NDArray[np.float64], ids: dict[int, int]) -> Image:
    """Draws the tracked lips of one frame in the same crop as the portrait."""
    panel = np.full((SIDE, SIDE, 3), 245, np.uint8)
    positions = points * EYES_PX + (SIDE / 2, SIDE / 2)

    def ring(upper: tuple[int, ...], lower: tuple[int, ...]) -> npt.NDArray[np.int32]:
        return np.round(positions[[ids[i] for i in (*upper, *lower[::-1])]] * 8).astype(np.int32)

    cv2.fillPoly(panel, [ring(OUTER_UPPER, OUTER_LOWER)], LIPS, cv2.LINE_AA, 3)
    cv2.fillPoly(panel, [ring(INNER_UPPER, INNER_LOWER)], REAL, cv2.LINE_AA, 3)
    return panel


def plot(one: PreparedClip, now: int) -> Image:
    """Plots the tracked and the predicted opening over time, with a mark at frame `now`."""
    count = len(one.ours)
    panel = np.full((PLOT, 2 * SIDE, 3), 255, np.uint8)
    across = np.linspace(4, 2 * SIDE - 4, count)
    for line, colour in ((one.clip.opening[:count], REAL), (one.ours, OURS)):
        down = PLOT - 8 - np.clip(line, 0, 0.3) / 0.3 * (PLOT - 32)
        cv2.polylines(panel, [np.stack([across, down], 1).astype(np.int32)], False, colour, 2, cv2.LINE_AA)
    cv2.line(panel, (int(across[now]), 20), (int(across[now]), PLOT), (0, 170, 0), 1)
    cv2.putText(panel, caption(one), (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def caption(one: PreparedClip) -> str:
    count = len(one.ours)
    r = float(np.corrcoef(one.ours, one.clip.opening[:count])[0, 1])
    placed = f", placed by {one.move} frames" if one.clip.corpus in LOOSE else ""
    return f"{one.clip.speaker}: opening real (grey), ours (red), r {r:.2f}{placed}"


def write(one: PreparedClip, ids: dict[int, int], faces: list[Image], path: Path) -> None:
    """Writes PATH.mp4 and PATH.jpg."""
    count = min(len(faces), len(one.ours))
    images = [
        np.vstack([np.hstack([contour(one.points[k], ids), faces[k]]), plot(one, k)]).astype(np.uint8)
        for k in range(count)
    ]
    writer = ClipWriter(path.with_suffix(".mp4"), 2 * SIDE, SIDE + PLOT, CLOCK)
    for image in images:
        writer.write_bgr(image)
    resampler = Resampler(SPEECH_RATE_HZ, CLIP_RATE_HZ)
    writer.write_audio(np.concatenate([resampler.resample(one.clip.samples), resampler.flush()]))
    writer.finish()
    picked = [images[int(k)] for k in np.linspace(0, count - 1, min(SHEET, count))]
    small = [cv2.resize(image, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA) for image in picked]
    lines = [np.hstack(small[k : k + 5]) for k in range(0, len(small) - len(small) % 5, 5)]
    cv2.imwrite(str(path.with_suffix(".jpg")), np.vstack(lines))


if __name__ == "__main__":
    main()
