"""Sheet of warmtalk avatar preview: the same frame rendered with several values of bbox_shift, one row per renderer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from warmtalk.avatar import from_config, preview
from warmtalk.avatar.detect.model_cache import ModelCache
from warmtalk.avatar.detect.person_tracking import FaceChoice
from warmtalk.avatar.track.bbox_shift import BboxShift
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import StorageFull
from warmtalk.core.mouth import MouthShape, to_features
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.ports import SpeechEncoder
from warmtalk.core.types import SPEECH_RATE_HZ, Box, Features, FrameClock, Image, Patch, Samples
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS, decode_photo
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.renderers import loading
from warmtalk.renderers.registry import spec_of

_OPEN_MOUTH = MouthShape(opening=0.28)
_TILE_PX = 320
_LABEL_PX = 30
_TEXT_BGR, _BACKGROUND_BGR, _HIGHLIGHT_BGR = (30, 30, 30), (250, 250, 250), (90, 160, 40)


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """Input and output of one preview."""

    source: Path
    """Video or photo."""
    out: Path
    shifts: Sequence[int] | None
    """Values of bbox_shift; None: the automatic value and others of the adjustable range."""
    face: int
    """Number of the face from the left, or 0; see FaceChoice."""
    at: tuple[int, int] | None


def write_preview(request: PreviewRequest, config: Config) -> BboxShift:
    """Writes the PNG and returns the shift that a build would choose."""
    params = from_config.params_from_config(config)
    models = ModelCache(config.models_dir, config.musetalk.device)
    with ExitStack() as stack:
        if sniff_file(request.source) in PHOTO_KINDS:
            frames: Sequence[Image] | VideoReader = [decode_photo(request.source)]
        else:
            limits = SourceLimits(config.prep.max_source_s, config.prep.max_source_pixels)
            frames = stack.enter_context(VideoReader(request.source, config.fps, limits))
        choice = FaceChoice(request.face, request.at)
        detectors = models.face_detectors(params.detector)
        image, face = preview.first_usable_face(frames, detectors, choice, request.source.name)
    advised = preview.suggested_shift(face)
    shifts = request.shifts or _default_shifts(advised)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preview"
        bundle = preview.preview_bundle(path, image, face, shifts, models.parser(params.parsing))
        for extension in loading.bundle_extensions(config):
            extension.extend(bundle, lambda done, total: None)
        rows = [_row(bundle, name, shifts, advised.used, config) for name in loading.available(config)]
    _, png = cv2.imencode(".png", np.concatenate(rows))
    try:
        request.out.write_bytes(png.tobytes())
    except OSError as error:
        raise StorageFull(
            f"{request.out} cannot be written ({error.strerror})", "Check the folder and the free space"
        ) from error
    return advised


def _default_shifts(advised: BboxShift) -> list[int]:
    """Returns the automatic shift, 0 (the default of MuseTalk), and visibly different shifts of the range."""
    shifts = {advised.used, 0}
    for one in (advised.low, advised.low // 2, advised.high // 2, advised.high):
        if all(abs(one - other) > 2 for other in shifts):
            shifts.add(one)
    return sorted(shifts)


def _row(bundle: Bundle, renderer: str, shifts: Sequence[int], automatic: int, config: Config) -> Image:
    """Renders all shifts with one renderer and an open mouth."""
    model = loading.load(renderer, config)
    if spec_of(renderer).takes_mouth_shapes:
        features = to_features(*[_OPEN_MOUTH] * len(bundle))
    else:
        features = _features(model.encoder, len(bundle))
    patches = WarmAvatar(bundle, model.renderer).render(0, 0, features)
    crop = _common_crop(bundle)
    tiles = [
        _tile(_pasted(bundle.frame(row), patch), bundle.box(row), crop, _label(renderer, shift, automatic))
        for row, (patch, shift) in enumerate(zip(patches, shifts, strict=True))
    ]
    return np.asarray(np.concatenate(tiles, 1), np.uint8)


def _pasted(frame: Image, patch: Patch) -> Image:
    box, result = patch.box, frame.copy()
    result[box.y1 : box.y2, box.x1 : box.x2] = patch.pixels
    return result


def _label(renderer: str, shift: int, automatic: int) -> str:
    notes = [note for note, true in (("automatic", shift == automatic), ("MuseTalk default", shift == 0)) if true]
    return f"{renderer} {shift}" + (f" ({', '.join(notes)})" if notes else "")


def _tile(frame: Image, face: Box, crop: Box, label: str) -> Image:
    """Returns the crop with the label and with marks at both sides at the height of the boundary (middle of `face`)."""
    part = frame[crop.y1 : crop.y2, crop.x1 : crop.x2]
    scale = _TILE_PX / part.shape[0]
    scaled = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    y = round(((face.y1 + face.y2) / 2 - crop.y1) * scale)
    for start, stop in ((0, 12), (scaled.shape[1] - 12, scaled.shape[1])):
        cv2.line(scaled, (start, y), (stop, y), _HIGHLIGHT_BGR, 2)
    tile = np.full((_TILE_PX + _LABEL_PX, scaled.shape[1] + 4, 3), _BACKGROUND_BGR, np.uint8)
    tile[: scaled.shape[0], : scaled.shape[1]] = scaled[:_TILE_PX]
    color = _HIGHLIGHT_BGR if "automatic" in label else _TEXT_BGR
    cv2.putText(tile, label, (4, _TILE_PX + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
    return tile


def _common_crop(bundle: Bundle) -> Box:
    """Returns the same part of the frame for all shifts: every face box with a margin."""
    boxes = bundle.faces.boxes
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    margin = int((high - low).max()) // 6
    box = Box(int(low[0]) - margin, int(low[1]) - margin, int(high[0]) + margin, int(high[1]) + margin)
    return box.clipped(bundle.info.width, bundle.info.height)


def _features(encoder: SpeechEncoder, count: int) -> Features:
    """Returns the features row in the middle of a long "ah", repeated `count` times."""
    stream = encoder.start_stream(FrameClock())
    rows = np.concatenate([stream.push_audio(_vowel_ah()), stream.finish()])
    return np.repeat(rows[len(rows) // 2][None], count, axis=0)


def _vowel_ah(seconds: float = 1.0) -> Samples:
    """Returns 16 kHz audio: a voice of 120 Hz with the formants of an open mouth (730, 1090 and 2440 Hz)."""
    time = np.arange(round(SPEECH_RATE_HZ * seconds)) / SPEECH_RATE_HZ
    harmonics = 120 * np.arange(1, 50)
    weights = sum(1 / (1 + ((harmonics - peak) / 90) ** 2) for peak in (730, 1090, 2440))
    audio = np.sin(2 * np.pi * harmonics[:, None] * time).T @ weights
    return np.asarray(0.3 * audio / np.abs(audio).max(), np.float32)
