"""warmtalk enhance: a film with its faces made sharper, its sound untouched."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from contextlib import closing
from dataclasses import dataclass, fields
from fractions import Fraction
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from warmtalk.config import Config
from warmtalk.core.bundle import SEGMENT_FRAMES, write_json
from warmtalk.core.errors import BadMedia, InvalidInput, NotReady
from warmtalk.core.face_restoration import AREAS, RestoredFace, Restorer, VideoRestoration
from warmtalk.core.types import Box, Image
from warmtalk.media import remux
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS
from warmtalk.media.probe import probe_frame_rate
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.media.video_decode import SourceLimits, VideoReader, video_kind
from warmtalk.models.checkpoints import optional_weights
from warmtalk.models.faces.face_finder import FaceFinder, FoundFace

_LONGEST_S = 4 * 3600.0
_MOST_FACES = 4
_LEAST_SIZE = 1 / 3
"""Of the largest face's width: who stands far behind is not worth a second a frame."""
_RECIPE = 2
"""Raised when the same order gives another film than before."""
_EXAMPLES = """\
examples:
  warmtalk enhance anna.mp4 anna-sharp.mp4              before: an avatar is then made of the sharper film
  warmtalk enhance --only mouth talk.mp4 sharp.mp4      after: of a clip, or of an exported conversation

Stopped with Ctrl-C, it goes on when the same command is given again. It needs torch, the library spandrel and the
weights: make venv-full, then .venv-full/bin/warmtalk weights fetch gfpgan.
"""


@dataclass(frozen=True, slots=True)
class EnhanceRequest:
    """What is asked for."""

    source: Path
    out: Path
    area: str = "face"
    strength: float = 0.8


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    enhance = verbs.add_parser(
        "enhance",
        help="a film with its faces made sharper (GFPGAN), the sound untouched",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enhance.add_argument("source", type=Path, metavar="IN", help="mp4, mov, webm, mkv, avi or mpg")
    enhance.add_argument("out", type=Path, metavar="OUT", help="H.264 in .mp4, .mov or .mkv, with the sound of IN")
    enhance.add_argument("--only", choices=sorted(AREAS), default="face", help="what is made sharper (default: face)")
    enhance.add_argument("--strength", type=float, default=0.8, metavar="0..1", help="how much of it (default: 0.8)")
    enhance.set_defaults(run=_enhance)


async def _enhance(args: argparse.Namespace, config: Config) -> int:
    order = EnhanceRequest(args.source, args.out, args.only, args.strength)
    _check(order)
    if not (find_spec("torch") and find_spec("spandrel")):
        raise NotReady(
            "this needs torch and the library spandrel, which this environment does not have",
            "Run: make venv-full, then .venv-full/bin/warmtalk with the same arguments",
        )
    weights = optional_weights.find(config.models_dir, optional_weights.GFPGAN)
    from warmtalk.models.faces.gfpgan import Gfpgan  # torch: seconds, and not in every environment

    frames, faces = await enhance(order, Gfpgan(weights, config.musetalk.device))
    print(f"{order.out}  ({frames} frames, a face in {faces} of them)")
    return 0


async def enhance(order: EnhanceRequest, restorer: Restorer) -> tuple[int, int]:
    """Writes order.out; (frames, frames with a face). A cancelled or failed one goes on where it was when it is asked
    for again. Raises BadMedia, StorageFull, WarmtalkError.
    """
    kind = video_kind(order.source, order.source.name)
    remux.check_audio_copy(order.source, kind, order.out)
    rate = probe_frame_rate(order.source, kind)
    done = _Done(order)
    restoration = VideoRestoration(restorer, area=order.area, strength=order.strength)
    film = VideoReader(order.source, rate, SourceLimits(max_seconds=_LONGEST_S), align_to_audio=True)
    with closing(film), tqdm(unit="frame", desc="enhancing", leave=False, disable=None) as bar:
        try:
            frames = await _fill(film, rate, done, restoration, bar)
        except asyncio.CancelledError:
            bar.close()
            print(f"stopped; the same command goes on from there ({done.folder} holds what is done)", file=sys.stderr)
            raise
    segments = [done.segment(number) for number in range(done.segments)]
    remux.replace_video(order.source, kind, segments, order.out)  # moments: Ctrl-C waits for it
    shutil.rmtree(done.folder)
    return frames, done.faces


async def _fill(
    film: VideoReader, rate: Fraction, done: _Done, restoration: VideoRestoration, bar: tqdm[NoReturn]
) -> int:
    """Frames of all segments."""
    finder = FaceFinder()
    restoration.previous_faces, near = done.memories, done.near
    images, frames, number = iter(film), 0, 0
    while (first := next(images, None)) is not None:
        bar.total = film.expected_frames or None
        segment = chain([first], islice(images, SEGMENT_FRAMES - 1))
        if number < done.segments:
            frames += sum(1 for _ in segment)
            bar.update(frames - bar.n)
            number += 1
            continue
        faces = 0
        with SegmentWriter(done.segment(number), first.shape[1], first.shape[0], rate) as writer:
            for image in segment:
                found = _largest(finder, image, near)
                near, faces = (found[0].box, faces + 1) if found else (near, faces)
                writer.write_frame(restoration.frame(image, [face.landmarks for face in found]))
                frames += 1
                bar.update()
                await asyncio.sleep(0)  # where Ctrl-C is heard
        done.add(faces, near, restoration.previous_faces)
        number += 1
    return frames


def _largest(finder: FaceFinder, image: Image, near: Box | None) -> list[FoundFace]:
    """The faces to restore, the largest first."""
    found = sorted(finder.find(image, near=near), key=lambda face: -face.box.width)
    return [face for face in found[:_MOST_FACES] if face.box.width >= _LEAST_SIZE * found[0].box.width]


class _Done:
    """What of an order is done: finished segments, and what the next one has to know, in a folder beside the film."""

    def __init__(self, order: EnhanceRequest) -> None:
        """Finds what an earlier try of the same order left; what another order left there is removed."""
        self.folder = order.out.with_name(f"{order.out.name}.parts")
        self.segments = self.faces = 0
        self.memories: list[RestoredFace] = []
        self.near: Box | None = None
        about = order.source.stat()
        note = [str(order.source.resolve()), about.st_size, about.st_mtime_ns, order.area, order.strength, _RECIPE]
        try:
            if json.loads((self.folder / "order.json").read_text("utf-8")) == note:
                self._read()
                return
        except (OSError, ValueError, KeyError, SafetensorError):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_json(self.folder / "order.json", note)

    def segment(self, number: int) -> Path:
        return self.folder / f"{number:05d}.mp4"

    def add(self, faces: int, near: Box | None, memories: list[RestoredFace]) -> None:
        """The next segment is finished."""
        self.segments += 1
        self.faces += faces
        self.near, self.memories = near, memories
        held = {"counts": np.array([self.segments, self.faces, len(memories)], np.int64)}
        if near is not None:
            held["near"] = np.array(near.as_tuple(), np.int64)
        for number, memory in enumerate(memories):
            held |= {f"{number}.{one.name}": getattr(memory, one.name) for one in fields(RestoredFace)}
        temporary = self.folder / "state.tmp"
        save_file(held, temporary)
        temporary.replace(self.folder / "state.safetensors")

    def _read(self) -> None:
        path = self.folder / "state.safetensors"
        held: dict[str, Any] = load_file(path) if path.is_file() else {"counts": np.zeros(3, np.int64)}
        self.segments, self.faces, count = held.pop("counts").tolist()
        near = held.pop("near", None)
        self.near = None if near is None else Box(*near.tolist())
        names = [one.name for one in fields(RestoredFace)]
        self.memories = [RestoredFace(**{name: held[f"{number}.{name}"] for name in names}) for number in range(count)]


def _check(order: EnhanceRequest) -> None:
    """Raises InvalidInput, BadMedia."""
    if not 0 <= order.strength <= 1:
        raise InvalidInput(f"--strength is {order.strength:g}", "Use 0 to 1")
    remux.output_format(order.out)
    if order.out.resolve() == order.source.resolve():
        raise InvalidInput("IN and OUT are the same file", "Name another OUT")
    if sniff_file(order.source) in PHOTO_KINDS:
        raise BadMedia(
            f"{order.source.name} is a photo", "Enhance a film; an avatar of a photo: its exported conversation"
        )
    if not order.out.parent.is_dir():
        raise InvalidInput(f"there is no folder {order.out.parent}", "Make it first")
