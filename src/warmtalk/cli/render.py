"""warmtalk render: offline, in this process, the same frames as the live path."""

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
from warmtalk.media.audio_decode import AudioReader, Resampler
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.renderers import registry
from warmtalk.store import AvatarStore

_LONGEST_S = 4 * 3600.0
_EXAMPLES = """\
examples:
  warmtalk render --avatar anna --audio long.wav --out long.mp4
  warmtalk render --avatar anna --audio long.wav --out long.mp4 --renderer musetalk
"""


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    offline = verbs.add_parser("render", help="a video of a sound, without the services", epilog=_EXAMPLES)
    offline.add_argument("--avatar", required=True, metavar="ID", help="in the avatars folder of data_dir")
    offline.add_argument("--audio", type=Path, required=True, metavar="FILE", help="wav, mp3, flac or ogg")
    offline.add_argument("--out", type=Path, required=True, metavar="FILE", help="MP4 with H.264 and FLAC")
    offline.add_argument(
        "--renderer", default="", help="default: infer.renderer, else any that the avatar is prepared for"
    )
    offline.set_defaults(run=_render)


async def _render(args: argparse.Namespace, config: Config) -> int:
    formatting.writable(args.out)
    bundle = AvatarStore(config.avatars_dir).open(args.avatar)
    model = _model(bundle, args.renderer, config)
    await asyncio.to_thread(_write, bundle, model, _read(args.audio), args.out, config)
    print(args.out)
    return 0


def _model(bundle: Bundle, wanted: str, config: Config) -> RenderModel:
    here = registry.renderers(config)
    name = wanted or next((one for one in here if one in bundle.info.renderers), "")
    if name not in here or name not in bundle.info.renderers:
        raise NotReady(
            f"avatar {bundle.info.avatar_id!r} is prepared for {', '.join(bundle.info.renderers)};"
            f" this machine renders {', '.join(here)}",
            "Choose one with --renderer, or build the avatar again",
        )
    return registry.model(name, config)


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
        footage = SourceFrames(bundle, config.session.cache_mb << 20)
        with (
            closing(_sound(data, writer, clock)) as sound,
            tqdm(unit="frame", desc="rendering", leave=False, disable=None) as bar,
        ):
            for patch in render(WarmAvatar(bundle, model.renderer, model.blending), model.encoder, sound, clock):
                writer.write_i420(footage.composite(patch))
                bar.update()
        writer.finish()
    except BaseException:
        writer.abort()
        raise


def _sound(data: bytes, writer: ClipWriter, clock: FrameClock) -> Generator[Samples]:
    """16 kHz pieces; the 48 kHz ones go to the clip on the way. Padded to whole frames of the clock."""
    heard = said = 0
    with closing(AudioReader(data, max_s=_LONGEST_S)) as reader:
        speech, clip = (Resampler(reader.rate_hz, rate) for rate in (SPEECH_RATE_HZ, CLIP_RATE_HZ))
        for piece in reader.chunks():
            high, low = clip.resample(piece), speech.resample(piece)
            writer.write_audio(high)
            heard, said = heard + len(low), said + len(high)
            yield low
        rest = clip.flush()
        writer.write_audio(rest)
        frames = clock.frames_for(said + len(rest), CLIP_RATE_HZ)
        missing = clock.samples_at(frames, SPEECH_RATE_HZ) - heard
        last = speech.flush()[:missing]
        yield np.pad(last, (0, missing - len(last)))
