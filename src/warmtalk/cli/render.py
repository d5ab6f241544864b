"""warmtalk render: renders a video offline in this process, with the same frames as the live path."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from warmtalk.avatar.source_frames import SourceFrames
from warmtalk.cli import formatting
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
_EXAMPLES = """\
examples:
  warmtalk render --avatar anna --audio long.wav --out long.mp4
  warmtalk render --avatar anna --audio long.wav --out long.mp4 --renderer musetalk
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `render`."""
    offline = commands.add_parser(
        "render", help="render a video of an audio file, without the services", epilog=_EXAMPLES
    )
    offline.add_argument("--avatar", required=True, metavar="ID", help="an avatar in the avatars folder of data_dir")
    offline.add_argument("--audio", type=Path, required=True, metavar="FILE", help="wav, mp3, flac or ogg")
    offline.add_argument("--out", type=Path, required=True, metavar="FILE", help="MP4 with H.264 and FLAC")
    offline.add_argument(
        "--renderer", default="", help="default: infer.renderer, else any renderer for which the avatar was built"
    )
    offline.set_defaults(run=_render)


async def _render(args: argparse.Namespace, config: Config) -> int:
    formatting.check_writable(args.out)
    bundle = AvatarStore(config.avatars_dir).open(args.avatar)
    model = _model(bundle, args.renderer, config)
    await asyncio.to_thread(_write, bundle, model, _read(args.audio), args.out, config)
    print(args.out)
    return 0


def _model(bundle: Bundle, requested: str, config: Config) -> RenderModel:
    """Loads the requested renderer ("": the first common one). Raises NotReady when the avatar or this machine has
    no such renderer."""
    available = loading.available(config)
    name = requested or next((one for one in available if one in bundle.info.renderers), "")
    if name not in available or name not in bundle.info.renderers:
        raise NotReady(
            f"avatar {bundle.info.avatar_id!r} was built for {', '.join(bundle.info.renderers)};"
            f" renderers on this machine: {', '.join(available)}",
            "Choose a renderer with --renderer, or build the avatar again",
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
