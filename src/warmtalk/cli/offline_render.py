"""Offline rendering of an audio file in this process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from warmtalk.avatar.source_frames import SourceFrames
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import InvalidInput, NotReady
from warmtalk.core.pipeline import RenderModel, WarmAvatar, render
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Samples
from warmtalk.media.audio_decode import AudioReader
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.media.resampler import Resampler
from warmtalk.renderers import loading
from warmtalk.store import AvatarStore

_MAX_AUDIO_S = 4 * 3600.0


def render_file(avatar_id: str, audio: Path, out: Path, renderer: str, config: Config) -> None:
    """Writes the MP4 file `out` and shows a progress bar on stderr. `renderer` "" chooses the configured renderer.

    Raises NotFound, NotReady, InvalidInput, BadMedia, StorageFull.
    """
    bundle = AvatarStore(config.avatars_dir).open(avatar_id)
    model = _model(bundle, renderer, config)
    _write(bundle, model, _read(audio), out, config)


def _model(bundle: Bundle, requested: str, config: Config) -> RenderModel:
    """Loads the requested renderer ("": the first common one). Raises NotReady when the avatar or this machine has
    no such renderer."""
    available = loading.available(config)
    name = requested or next((one for one in available if one in bundle.info.renderers), "")
    if name not in available or name not in bundle.info.renderers:
        raise NotReady(
            f"avatar {bundle.info.avatar_id!r} was built for {', '.join(bundle.info.renderers)};"
            f" renderers on this machine: {', '.join(available)}",
            f"Build the avatar again: warmtalk avatar create {bundle.info.avatar_id} SOURCE --replace",
        )
    return loading.load(name, config)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})", "Check the path") from error


def _write(bundle: Bundle, model: RenderModel, data: bytes, out: Path, config: Config) -> None:
    clock = FrameClock(bundle.info.rate)
    quality = X264Settings(config.session.x264_preset, config.session.x264_crf)
    writer = ClipWriter(out, bundle.info.width, bundle.info.height, clock, x264=quality)
    try:
        source_frames = SourceFrames(bundle, config.session.cache_mb << 20)
        with (
            closing(_split_audio(data, writer, clock)) as chunks,
            tqdm(unit="frame", desc="rendering", leave=False, disable=None) as bar,
        ):
            for patch in render(WarmAvatar(bundle, model.renderer, model.blending), model.encoder, chunks, clock):
                writer.write_i420(source_frames.composite(patch))
                bar.update()
        writer.finish()
    except BaseException:
        writer.abort()
        raise


def _split_audio(data: bytes, writer: ClipWriter, clock: FrameClock) -> Generator[Samples]:
    """Yields 16 kHz chunks for the encoder, padded to whole frames, and writes 48 kHz chunks to the clip."""
    model_samples = clip_samples = 0
    with closing(AudioReader(data, max_s=_MAX_AUDIO_S)) as reader:
        to_model, to_clip = (Resampler(reader.rate_hz, rate) for rate in (SPEECH_RATE_HZ, CLIP_RATE_HZ))
        for chunk in reader.chunks():
            clip_chunk, model_chunk = to_clip.resample(chunk), to_model.resample(chunk)
            writer.write_audio(clip_chunk)
            model_samples, clip_samples = model_samples + len(model_chunk), clip_samples + len(clip_chunk)
            yield model_chunk
        rest = to_clip.flush()
        writer.write_audio(rest)
        frames = clock.frames_for(clip_samples + len(rest), CLIP_RATE_HZ)
        missing = clock.samples_at(frames, SPEECH_RATE_HZ) - model_samples
        last = to_model.flush()[:missing]
        yield np.pad(last, (0, missing - len(last)))
