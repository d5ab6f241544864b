"""Restoration of the faces of a video, segment by segment, with a checkpoint after each segment."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import closing
from fractions import Fraction
from itertools import chain, islice
from typing import NoReturn

from tqdm import tqdm

from warmtalk.cli.enhance_checkpoint import EnhanceCheckpoint, EnhanceRequest
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.face_restoration import Restorer, VideoRestoration
from warmtalk.core.types import Box, Image
from warmtalk.media import remux
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS
from warmtalk.media.probe import probe_frame_rate
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.media.video_decode import SourceLimits, VideoReader, video_kind
from warmtalk.models.faces.face_finder import FaceFinder, FoundFace

_MAX_SOURCE_S = 4 * 3600.0
_MAX_FACES = 4
_MIN_RELATIVE_WIDTH = 1 / 3
"""Minimum width of a face relative to the largest face. Smaller faces in the background are not worth the second that
one face takes."""
_ALGORITHM_VERSION = 2
"""Version of the algorithm, increased with every change of the output. A run does not continue files of another
version."""


async def enhance_video(request: EnhanceRequest, restorer: Restorer) -> tuple[int, int]:
    """Writes request.out and returns (frames, frames with a face).

    A cancelled or failed run continues with the next segment when the same request is repeated. Raises BadMedia,
    StorageFull, WarmtalkError.
    """
    kind = video_kind(request.source, request.source.name)
    remux.check_audio_copy(request.source, kind, request.out)
    rate = probe_frame_rate(request.source, kind)
    checkpoint = EnhanceCheckpoint(request, _ALGORITHM_VERSION)
    restoration = VideoRestoration(restorer, area=request.area, strength=request.strength)
    video = VideoReader(request.source, rate, SourceLimits(max_seconds=_MAX_SOURCE_S), align_to_audio=True)
    with closing(video), tqdm(unit="frame", desc="enhancing", leave=False, disable=None) as bar:
        try:
            frames = await _restore_segments(video, rate, checkpoint, restoration, bar)
        except asyncio.CancelledError:
            bar.close()
            print(
                f"stopped. The same command continues the work; finished parts are in {checkpoint.folder}",
                file=sys.stderr,
            )
            raise
    segments = [checkpoint.segment_path(number) for number in range(checkpoint.segments)]
    remux.replace_video(request.source, kind, segments, request.out)  # takes less than a second, so Ctrl-C may wait
    shutil.rmtree(checkpoint.folder)
    return frames, checkpoint.faces


async def _restore_segments(
    video: VideoReader,
    rate: Fraction,
    checkpoint: EnhanceCheckpoint,
    restoration: VideoRestoration,
    bar: tqdm[NoReturn],
) -> int:
    """Restores all segments that the checkpoint lacks. Returns the number of frames of the video."""
    finder = FaceFinder()
    restoration.previous_faces, near = checkpoint.previous_faces, checkpoint.near
    images, frames, number = iter(video), 0, 0
    while (first := next(images, None)) is not None:
        bar.total = video.expected_frames or None
        segment = chain([first], islice(images, SEGMENT_FRAMES - 1))
        if number < checkpoint.segments:
            frames += sum(1 for _ in segment)
            bar.update(frames - bar.n)
            number += 1
            continue
        frames_with_face = 0
        with SegmentWriter(checkpoint.segment_path(number), first.shape[1], first.shape[0], rate) as writer:
            for image in segment:
                faces = _largest_faces(finder, image, near)
                near, frames_with_face = (faces[0].box, frames_with_face + 1) if faces else (near, frames_with_face)
                writer.write_frame(restoration.frame(image, [face.landmarks for face in faces]))
                frames += 1
                bar.update()
                await asyncio.sleep(0)  # lets the event loop cancel this task on Ctrl-C
        checkpoint.add(frames_with_face, near, restoration.previous_faces)
        number += 1
    return frames


def _largest_faces(finder: FaceFinder, image: Image, near: Box | None) -> list[FoundFace]:
    """Returns the faces to restore, the largest first."""
    faces = sorted(finder.find(image, near=near), key=lambda face: -face.box.width)
    return [face for face in faces[:_MAX_FACES] if face.box.width >= _MIN_RELATIVE_WIDTH * faces[0].box.width]


def check_request(request: EnhanceRequest) -> None:
    """Raises InvalidInput or BadMedia for a request that cannot succeed."""
    if not 0 <= request.strength <= 1:
        raise InvalidInput(f"--strength is {request.strength:g}", "Use 0 to 1")
    remux.output_format(request.out)
    if request.out.resolve() == request.source.resolve():
        raise InvalidInput("IN and OUT are the same file", "Name another OUT")
    if sniff_file(request.source) in PHOTO_KINDS:
        raise BadMedia(
            f"{request.source.name} is a photo",
            "Enhance a video; for an avatar from a photo, enhance the exported conversation",
        )
    if not request.out.parent.is_dir():
        raise InvalidInput(f"there is no folder {request.out.parent}", "Create the folder first")
