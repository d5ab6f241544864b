"""Source file to avatar bundle. Blocks; knows neither gRPC nor threads."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

import warmtalk
from warmtalk.avatar.build_dir import prepare, publish
from warmtalk.avatar.build_request import BuildRequest
from warmtalk.avatar.detect.model_cache import ModelCache
from warmtalk.avatar.detect.person_tracking import select_face
from warmtalk.avatar.detect.source_scan import ScanSource, SourceScan, VideoSource, scan
from warmtalk.avatar.photo.idle_motion import IdleMotion
from warmtalk.avatar.report import footage_report
from warmtalk.avatar.report.contact_sheet import contact_sheet
from warmtalk.avatar.track.frame_quality import NO_FACE, PASSTHROUGH, SMALLEST_FACE
from warmtalk.avatar.track.frame_table import FrameTable, build_frame_table
from warmtalk.core.bundle import (
    AvatarInfo,
    Bundle,
    Latents,
    write_faces,
    write_info,
    write_json,
    write_latents,
    write_mask,
)
from warmtalk.core.errors import BadMedia
from warmtalk.core.ports import FaceParser
from warmtalk.media.ffmpeg_process import storage_full_error
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS, decode_photo
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.models.faces.network_files import NETWORKS_VERSION
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

RENDERERS = ("mesh",)
REFERENCE_MARGIN = 10
"""Pixels. MuseTalk knows faces with so much room under the chin; only the embedded renderer gains by more."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class BuildProgress:
    stage: str = "queued"
    """ "queued", "reading", "finding faces", "writing" or "encoding faces"."""
    done: int = 0
    total: int = 0
    """0 while unknown."""
    seconds_left: float = -1.0
    """Negative while unknown."""


LatentMaker = Callable[[Bundle, Callable[[int, int], None]], Latents]
"""Latents of a bundle's rows; calls back with rows done and all. May raise NotReady or Damaged: its weights."""

Report = Callable[[BuildProgress], None]
"""Called often; may raise to stop the build."""


class AvatarBuilder:
    """Builds one avatar at a time, in the thread that made it."""

    def __init__(
        self,
        store: AvatarStore,
        limits: SourceLimits,
        latents: LatentMaker | None = None,
        tools: ModelCache | None = None,
    ) -> None:
        """With `latents` the avatars are prepared for MuseTalk too."""
        self._store = store
        self._limits = limits
        self._latents = latents
        self._tools = tools or ModelCache()

    def build(self, order: BuildRequest, tell: Report) -> AvatarInfo:
        """Puts the finished bundle in its place, instead of an older one. Reuses what an earlier try of the same
        order left.

        Raises BadMedia, NotReady (no ffmpeg, no networks), StorageFull, or what `tell` raises.
        """
        began = time.monotonic()
        work = self._store.building_path(order.avatar_id)
        tell(BuildProgress("reading"))
        try:
            prepare(work, order)
            info = self._fill(order, work, tell)
            publish(work, self._store.path(order.avatar_id))
        except Exception as error:
            if _is_full(error):
                raise storage_full_error(f"building {order.avatar_id}") from error
            raise
        log.info("built %s: %d frames in %.1f s", order.avatar_id, info.frames, time.monotonic() - began)
        return info

    def _fill(self, order: BuildRequest, work: Path, tell: Report) -> AvatarInfo:
        with ExitStack() as stack:
            source = self._open(order, stack)
            found = scan(source, work, order.params.fps, _counter("finding faces", tell))
        if not found.frames:
            raise BadMedia(f"{order.source_name} holds no frames", "Use a video of at least one second")
        if missed := int(np.isnan(found.seen.apart).any((1, 2)).sum()):
            text = "%s: %s missed %d of %d faces; the mesh's points stand in for its own"
            log.warning(text, order.avatar_id, order.params.detector, missed, len(found.seen))
        how = None if source.drawn else order.params.steadiness
        wanted = order.params.wanted
        if self._latents is not None and wanted.extra_margin is None:
            wanted = replace(wanted, extra_margin=REFERENCE_MARGIN)
        kept = build_frame_table(found, wanted, order.source_name, how)
        if not kept.faces.usable.any():
            raise _no_face(order.source_name, found.width, found.height, kept)
        write_faces(work, kept.faces)
        info = _info(order, found, kept)
        write_info(work, info)
        _write_masks(work, self._tools.parser(order.params.parsing), _counter("writing", tell))
        _write_report(
            work,
            order,
            kept,
            footage_report.SourceDescription(
                order.params.fps, found.width, found.height, not source.drawn, source.remarks
            ),
        )
        if self._latents is None:
            return info
        write_latents(work, self._latents(Bundle(work), _counter("encoding faces", tell)))
        info = replace(info, renderers=(*RENDERERS, "musetalk"))
        write_info(work, info)
        return info

    def _open(self, order: BuildRequest, stack: ExitStack) -> ScanSource:
        spotter = self._tools.spotter(order.params.detector)
        if sniff_file(order.source) not in PHOTO_KINDS:
            frames = VideoReader(order.source, order.params.fps, self._limits, name=order.source_name)
            return VideoSource(stack.enter_context(frames), spotter)
        image = decode_photo(order.source, name=order.source_name)
        found = spotter.spot(image)
        if not found:
            raise _no_face(order.source_name, image.shape[1], image.shape[0], None)
        count = max(round(order.params.still_seconds * order.params.fps), 2)
        return IdleMotion(
            image, select_face(found, order.params.wanted.choice, order.source_name), count, float(order.params.fps)
        )


def _write_masks(work: Path, parser: FaceParser, on_frame: Callable[[int, int], None]) -> None:
    bundle = Bundle(work)
    usable = np.flatnonzero(bundle.faces.usable).tolist()
    for done, row in enumerate(usable, start=1):
        write_mask(work, row, parser.mask(bundle, row))
        on_frame(done, len(usable))


def _write_report(work: Path, order: BuildRequest, kept: FrameTable, about: footage_report.SourceDescription) -> None:
    words = footage_report.footage_report(kept, about)
    write_json(work / footage_report.REPORT, words)
    sheet = contact_sheet(work, kept, words, order.source_name)
    if not cv2.imwrite(str(work / footage_report.SHEET), sheet):
        raise OSError(f"could not write {work / footage_report.SHEET}")


def _info(order: BuildRequest, found: SourceScan, kept: FrameTable) -> AvatarInfo:
    return AvatarInfo(
        avatar_id=order.avatar_id,
        source_name=order.source_name,
        source_sha256=order.source_sha256,
        fps=str(order.params.fps),
        width=found.width,
        height=found.height,
        frames=len(kept.faces.usable),
        renderers=RENDERERS,
        params=order.params.record(),
        tools={"warmtalk": warmtalk.__version__, "opencv": cv2.__version__, "faces": NETWORKS_VERSION},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        usable_frames=int(kept.faces.usable.sum()),
        first_frame=kept.first,
        stored_frames=found.frames,
        bbox_shift_used=kept.shift.used,
    )


def _counter(stage: str, tell: Report) -> Callable[[int, int], None]:
    began = time.monotonic()

    def on_frame(done: int, total: int) -> None:
        each = (time.monotonic() - began) / max(done, 1)
        tell(BuildProgress(stage, done, total, each * max(total - done, 0) if total else -1.0))

    return on_frame


def _is_full(error: Exception) -> bool:
    """Every way in which a full volume shows; the safetensors writer has the number in its text only."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(f"os error {number}" in str(error) for number in _FULL)


def _no_face(name: str, width: int, height: int, found: FrameTable | None) -> BadMedia:
    reasons = sorted({frame.reason for frame in found.frames} - {"", NO_FACE, PASSTHROUGH}) if found else []
    seen = f": {'; '.join(reasons)}" if reasons else ""
    if not seen and min(width, height) < 2 * SMALLEST_FACE:
        return BadMedia(
            f"no face can be seen in {name}: it is {width} x {height} pixels", "Use a larger picture or video"
        )
    return BadMedia(
        f"no usable face in {name}{seen}",
        "Use a picture or video in which one face looks at the camera and is at least a tenth of the picture's height",
    )
