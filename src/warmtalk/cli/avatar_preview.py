"""warmtalk avatar preview: one frame at several bbox_shifts, side by side."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from warmtalk.avatar import from_config, preview
from warmtalk.avatar.detect.model_cache import ModelCache
from warmtalk.avatar.detect.person_tracking import FaceChoice
from warmtalk.avatar.track.bbox_shift import BboxShift
from warmtalk.cli.avatar_choice import add_choice_arguments
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle, write_latents
from warmtalk.core.errors import StorageFull
from warmtalk.core.mouth import MouthShape, to_features
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.ports import SpeechEncoder
from warmtalk.core.types import SPEECH_RATE_HZ, Box, Features, FrameClock, Image, Patch, Samples
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS, decode_photo
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.renderers import registry

_EXAMPLES = """\
examples:
  warmtalk avatar preview anna.mp4                                the automatic shift and others of its range
  warmtalk avatar preview anna.mp4 --shifts=-9,-6,-3,0 --out anna.png
"""
_OPEN = MouthShape(opening=0.28)
_SIDE = 320
_LABEL = 30
_INK, _PAPER, _CHOSEN = (30, 30, 30), (250, 250, 250), (90, 160, 40)


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "preview",
        help="the first usable frame of a source at several bbox_shifts, side by side",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="video or photo")
    parser.add_argument("--shifts", type=_numbers, metavar="PX,PX,...", help="write --shifts=-9,0 (default: the range)")
    parser.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="FILE", help="PNG (default: %(default)s)"
    )
    add_choice_arguments(parser)
    parser.set_defaults(run=_preview)


def _numbers(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no shifts; write whole numbers, as -9,-3,0") from None


async def _preview(args: argparse.Namespace, config: Config) -> int:
    advised = await asyncio.to_thread(_write, args, config)
    print(f"automatic: bbox_shift {advised.used}; adjustable range {advised.low} to {advised.high}")
    print(args.out)
    return 0


def _write(args: argparse.Namespace, config: Config) -> BboxShift:
    params = from_config.params_from_config(config)
    models = ModelCache(config.models_dir, config.musetalk.device)
    with ExitStack() as stack:
        if sniff_file(args.source) in PHOTO_KINDS:
            frames: Sequence[Image] | VideoReader = [decode_photo(args.source)]
        else:
            limits = SourceLimits(config.prep.max_source_s, config.prep.max_source_pixels)
            frames = stack.enter_context(VideoReader(args.source, config.fps, limits))
        choice = FaceChoice(args.face, args.at)
        image, face = preview.first_usable_face(
            frames, models.face_detectors(params.detector), choice, args.source.name
        )
    advised = preview.suggested_shift(face)
    shifts = args.shifts or _spread(advised)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preview"
        bundle = preview.preview_bundle(path, image, face, shifts, models.parser(params.parsing))
        maker = from_config.latent_maker(config)
        if maker is not None:
            write_latents(path, maker(bundle, lambda done, total: None))
        rows = [_row(bundle, name, shifts, advised.used, config) for name in registry.renderers(config)]
    _, picture = cv2.imencode(".png", np.concatenate(rows))
    try:
        args.out.write_bytes(picture.tobytes())
    except OSError as error:
        raise StorageFull(
            f"{args.out} cannot be written ({error.strerror})", "Check its folder and the space there"
        ) from error
    return advised


def _spread(advised: BboxShift) -> list[int]:
    """The automatic shift, the reference's 0, and others of the range that differ from both to the eye."""
    shifts = {advised.used, 0}
    for one in (advised.low, advised.low // 2, advised.high // 2, advised.high):
        if all(abs(one - other) > 2 for other in shifts):
            shifts.add(one)
    return sorted(shifts)


def _row(bundle: Bundle, renderer: str, shifts: Sequence[int], automatic: int, config: Config) -> Image:
    """All shifts with one renderer, mouth open."""
    model = registry.model(renderer, config)
    features = _features(model.encoder, len(bundle)) if renderer != "mesh" else to_features(*[_OPEN] * len(bundle))
    patches = WarmAvatar(bundle, model.renderer).render(0, 0, features)
    around = _around(bundle)
    tiles = [
        _tile(_pasted(bundle.frame(row), patch), bundle.box(row), around, _label(renderer, shift, automatic))
        for row, (patch, shift) in enumerate(zip(patches, shifts, strict=True))
    ]
    return np.asarray(np.concatenate(tiles, 1), np.uint8)


def _pasted(picture: Image, patch: Patch) -> Image:
    box, result = patch.box, picture.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = patch.pixels
    return result


def _label(renderer: str, shift: int, automatic: int) -> str:
    words = [word for word, true in (("automatic", shift == automatic), ("the reference's", shift == 0)) if true]
    return f"{renderer} {shift}" + (f" ({', '.join(words)})" if words else "")


def _tile(picture: Image, face: Box, around: Box, label: str) -> Image:
    """The face, with marks at both sides where the boundary lies."""
    part = picture[around.y1 : around.y2, around.x1 : around.x2]
    scale = _SIDE / part.shape[0]
    shown = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    y = round(((face.y1 + face.y2) / 2 - around.y1) * scale)
    for start, stop in ((0, 12), (shown.shape[1] - 12, shown.shape[1])):
        cv2.line(shown, (start, y), (stop, y), _CHOSEN, 2)
    tile = np.full((_SIDE + _LABEL, shown.shape[1] + 4, 3), _PAPER, np.uint8)
    tile[: shown.shape[0], : shown.shape[1]] = shown[:_SIDE]
    ink = _CHOSEN if "automatic" in label else _INK
    cv2.putText(tile, label, (4, _SIDE + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
    return tile


def _around(bundle: Bundle) -> Box:
    """The same part of the picture for all shifts: every face box, and a little around."""
    boxes = bundle.faces.boxes
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    room = int((high - low).max()) // 6
    box = Box(int(low[0]) - room, int(low[1]) - room, int(high[0]) + room, int(high[1]) + room)
    return box.clipped(bundle.info.width, bundle.info.height)


def _features(encoder: SpeechEncoder, count: int) -> Features:
    """Of one moment within a long "ah", `count` times."""
    stream = encoder.start_stream(FrameClock())
    heard = np.concatenate([stream.push_audio(_ah()), stream.finish()])
    return np.repeat(heard[len(heard) // 2][None], count, axis=0)


def _ah(seconds: float = 1.0) -> Samples:
    """A voice of 120 Hz through the resonances of an open mouth (730, 1090 and 2440 Hz)."""
    time = np.arange(round(SPEECH_RATE_HZ * seconds)) / SPEECH_RATE_HZ
    tones = 120 * np.arange(1, 50)
    weights = sum(1 / (1 + ((tones - peak) / 90) ** 2) for peak in (730, 1090, 2440))
    sound = np.sin(2 * np.pi * tones[:, None] * time).T @ weights
    return np.asarray(0.3 * sound / np.abs(sound).max(), np.float32)
