"""Builds an avatar bundle from a source file. Blocking; independent of gRPC and of threads."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Sequence
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
from warmtalk.avatar.detect.source_scan import ScanSource, SourceScan, VideoSource, scan_source
from warmtalk.avatar.photo.idle_motion import IdleMotion
from warmtalk.avatar.report import footage_report
from warmtalk.avatar.report.contact_sheet import contact_sheet
from warmtalk.avatar.track.frame_quality import MIN_FACE_PX, NO_FACE, OUTSIDE_LOOP
from warmtalk.avatar.track.frame_table import FrameTable, build_frame_table
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import (
    AvatarInfo,
    write_faces,
    write_info,
    write_json,
    write_mask,
)
from warmtalk.core.errors import BadMedia
from warmtalk.core.ports import FaceParser
from warmtalk.media.file_types import sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS, decode_photo
from warmtalk.media.storage import storage_full_error
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.models.faces.network_files import NETWORKS_VERSION
from warmtalk.renderers.loading import BundleExtension
from warmtalk.renderers.registry import RENDERERS
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_VOLUME_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Progress of a build. Counts are frames or rows of the current stage."""

    stage: str = "queued"
    """One of "queued", "reading", "finding faces", "writing" and "encoding faces"."""
    done: int = 0
    total: int = 0
    """0 while unknown."""
    seconds_left: float = -1.0
    """Negative while unknown."""


ProgressCallback = Callable[[BuildProgress], None]
"""Called after every frame; may raise to stop the build."""


class AvatarBuilder:
    """Builds one avatar at a time, in the thread that created the builder."""

    def __init__(
        self,
        store: AvatarStore,
        limits: SourceLimits,
        extensions: Sequence[BundleExtension] = (),
        models: ModelCache | None = None,
    ) -> None:
        """`extensions` prepare the avatars for renderers with additional files in the bundle."""
        self._store = store
        self._limits = limits
        self._extensions = tuple(extensions)
        self._models = models or ModelCache()

    def build(self, request: BuildRequest, on_progress: ProgressCallback) -> AvatarInfo:
        """Builds the bundle and publishes it in place of an older one.

        Reuses the segments of an interrupted build of the same request. Raises BadMedia, NotReady (no ffmpeg, no
        networks), StorageFull, or the exception of `on_progress`.
        """
        start = time.monotonic()
        work = self._store.building_path(request.avatar_id)
        on_progress(BuildProgress("reading"))
        try:
            prepare(work, request)
            info = self._write_bundle(request, work, on_progress)
            publish(work, self._store.path(request.avatar_id))
        except Exception as error:
            if _is_full(error):
                raise storage_full_error(f"building {request.avatar_id}") from error
            raise
        log.info("built %s: %d frames in %.1f s", request.avatar_id, info.frames, time.monotonic() - start)
        return info

    def _write_bundle(self, request: BuildRequest, work: Path, on_progress: ProgressCallback) -> AvatarInfo:
        with ExitStack() as stack:
            source = self._open_source(request, stack)
            scan = scan_source(source, work, request.params.fps, _stage_progress("finding faces", on_progress))
        table = self._frame_table(request, source, scan)
        write_faces(work, table.faces)
        info = _info(request, scan, table)
        write_info(work, info)
        _write_masks(work, self._models.parser(request.params.parsing), _stage_progress("writing", on_progress))
        _write_report(work, request, table, _description(request, source, scan))
        for extension in self._extensions:
            extension.extend(Bundle(work), _stage_progress("encoding faces", on_progress))
            info = replace(info, renderers=(*info.renderers, extension.renderer))
            write_info(work, info)
        return info

    def _frame_table(self, request: BuildRequest, source: ScanSource, scan: SourceScan) -> FrameTable:
        """Raises BadMedia when no frame has a usable face."""
        if not scan.frames:
            raise BadMedia(f"{request.source_name} has no frames", "Use a video of at least one second")
        if missed := int(np.isnan(scan.faces.detector_offset).any((1, 2)).sum()):
            text = "%s: %s missed %d of %d faces; the mesh's points are used instead"
            log.warning(text, request.avatar_id, request.params.detector, missed, len(scan.faces))
        smoothing = None if source.synthetic else request.params.smoothing
        params = request.params.frame_table_params
        margins = [one.margin_px for one in self._extensions if one.margin_px is not None]
        if margins and params.extra_margin is None:  # the automatic margin is larger, as the embedded renderer prefers
            params = replace(params, extra_margin=min(margins))
        table = build_frame_table(scan, params, request.source_name, smoothing)
        if not table.faces.usable.any():
            raise _no_face_error(request.source_name, scan.width, scan.height, table)
        return table

    def _open_source(self, request: BuildRequest, stack: ExitStack) -> ScanSource:
        detectors = self._models.face_detectors(request.params.detector)
        if sniff_file(request.source) not in PHOTO_KINDS:
            frames = VideoReader(request.source, request.params.fps, self._limits, name=request.source_name)
            return VideoSource(stack.enter_context(frames), detectors)
        image = decode_photo(request.source, name=request.source_name)
        faces = detectors.detect(image)
        if not faces:
            raise _no_face_error(request.source_name, image.shape[1], image.shape[0], None)
        count = max(round(request.params.still_seconds * request.params.fps), 2)
        face = select_face(faces, request.params.frame_table_params.choice, request.source_name)
        return IdleMotion(image, face, count, float(request.params.fps))


def _description(request: BuildRequest, source: ScanSource, scan: SourceScan) -> footage_report.SourceDescription:
    return footage_report.SourceDescription(
        request.params.fps, scan.width, scan.height, not source.synthetic, source.warnings
    )


def _write_masks(work: Path, parser: FaceParser, on_frame: Callable[[int, int], None]) -> None:
    bundle = Bundle(work)
    usable = np.flatnonzero(bundle.faces.usable).tolist()
    for done, row in enumerate(usable, start=1):
        write_mask(work, row, parser.mask(bundle, row))
        on_frame(done, len(usable))


def _write_report(
    work: Path, request: BuildRequest, table: FrameTable, source: footage_report.SourceDescription
) -> None:
    report = footage_report.footage_report(table, source)
    write_json(work / footage_report.REPORT_FILE, report)
    sheet = contact_sheet(work, table, report, request.source_name)
    if not cv2.imwrite(str(work / footage_report.CONTACT_SHEET_FILE), sheet):
        raise OSError(f"could not write {work / footage_report.CONTACT_SHEET_FILE}")


def _info(request: BuildRequest, scan: SourceScan, table: FrameTable) -> AvatarInfo:
    return AvatarInfo(
        avatar_id=request.avatar_id,
        source_name=request.source_name,
        source_sha256=request.source_sha256,
        fps=str(request.params.fps),
        width=scan.width,
        height=scan.height,
        frames=len(table.faces.usable),
        renderers=tuple(spec.name for spec in RENDERERS if not spec.extends_bundle),
        params=request.params.record(),
        tools={"warmtalk": warmtalk.__version__, "opencv": cv2.__version__, "faces": NETWORKS_VERSION},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        usable_frames=int(table.faces.usable.sum()),
        first_frame=table.first_frame,
        stored_frames=scan.frames,
        bbox_shift_used=table.bbox_shift.used,
    )


def _stage_progress(stage: str, on_progress: ProgressCallback) -> Callable[[int, int], None]:
    start = time.monotonic()

    def on_frame(done: int, total: int) -> None:
        each = (time.monotonic() - start) / max(done, 1)
        on_progress(BuildProgress(stage, done, total, each * max(total - done, 0) if total else -1.0))

    return on_frame


def _is_full(error: Exception) -> bool:
    """Returns whether the volume is full. The safetensors writer reports the error number in its text only."""
    if isinstance(error, OSError) and error.errno in _VOLUME_FULL_ERRNOS:
        return True
    return any(f"os error {number}" in str(error) for number in _VOLUME_FULL_ERRNOS)


def _no_face_error(source_name: str, width: int, height: int, table: FrameTable | None) -> BadMedia:
    reasons = sorted({frame.reason for frame in table.frames} - {"", NO_FACE, OUTSIDE_LOOP}) if table else []
    details = f": {'; '.join(reasons)}" if reasons else ""
    if not details and min(width, height) < 2 * MIN_FACE_PX:
        return BadMedia(
            f"no face is visible in {source_name}: the image has {width} x {height} pixels",
            "Use a larger photo or video",
        )
    return BadMedia(
        f"no usable face in {source_name}{details}",
        "Use a photo or video in which one face looks at the camera and is at least a tenth of the image's height",
    )
