"""Converts builds and bundles to messages, and messages to build parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from warmtalk.avatar.build_match import available_upgrades
from warmtalk.avatar.build_request import BuildParams
from warmtalk.avatar.from_config import auto_params, params_from_config
from warmtalk.avatar.report.footage_report import REPORT_FILE
from warmtalk.config import Config
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.core.errors import InvalidInput
from warmtalk.renderers import loading
from warmtalk.rpc.convert import frame_rate, frame_rate_message
from warmtalk.services.prep.build_state import Build, BuildState
from warmtalk.v1 import prep_pb2

MAX_FPS = 60


def build_params(message: prep_pb2.AvatarParams, config: Config) -> BuildParams:
    """Returns the parameters; unset fields come from the configuration.

    Raises InvalidInput for a value outside the proto's ranges.
    """
    shift = message.bbox_shift if message.HasField("bbox_shift") else config.bbox_shift
    margin = message.extra_margin if message.HasField("extra_margin") else config.prep.extra_margin
    seconds = message.still_seconds if message.HasField("still_seconds") else config.prep.still_seconds
    return replace(
        params_from_config(config),
        bbox_shift=None if shift is None else int(_in_range(shift, -100, 100, "bbox_shift")),
        extra_margin=None if margin is None else int(_in_range(margin, 0, 200, "extra_margin")),
        fps=frame_rate(message.frame_rate, config.fps, highest=MAX_FPS),
        still_seconds=_in_range(seconds, 1, 30, "still_seconds"),
        face=int(_in_range(message.face, 0, 100, "face")),
        at=(message.at.x, message.at.y) if message.HasField("at") else None,
    )


def build_message(build: Build) -> prep_pb2.Avatar:
    """Returns the message of a build: CREATING with the progress, or FAILED with the error."""
    avatar = prep_pb2.Avatar(
        avatar_id=build.request.avatar_id,
        source_name=build.request.source_name,
        source_sha256=build.request.source_sha256,
        params=_params_message(build.request.params),
        create_time=_timestamp(datetime.fromtimestamp(build.requested_s, UTC)),
    )
    if build.state is BuildState.FAILED:
        avatar.state, avatar.error = prep_pb2.Avatar.STATE_FAILED, build.error
    else:
        avatar.state = prep_pb2.Avatar.STATE_CREATING
        progress = build.progress
        avatar.progress.CopyFrom(
            prep_pb2.BuildProgress(
                stage=progress.stage,
                frames_done=progress.done,
                frames_total=progress.total,
                seconds_left=progress.seconds_left,
            )
        )
    return avatar


def bundle_message(info: AvatarInfo, path: Path, config: Config) -> prep_pb2.Avatar:
    """Returns the message of a finished avatar, READY. Reads the report and the sizes of the files at `path`."""
    report = _read_report(path)
    shift = report.get("bbox_shift") or {}
    return prep_pb2.Avatar(
        avatar_id=info.avatar_id,
        state=prep_pb2.Avatar.STATE_READY,
        source_name=info.source_name,
        source_sha256=info.source_sha256,
        params=_recorded_params(info),
        renderers=info.renderers,
        width=info.width,
        height=info.height,
        frames=info.frames,
        usable_frames=info.usable_frames,
        size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        create_time=_create_time(info),
        summary=report.get("summary", ""),
        grade=report.get("grade", ""),
        advice=[*report.get("advice", ()), *_upgrade_advice(info, config)],
        bbox_shift_used=shift.get("used", 0),
        bbox_shift_low=shift.get("low", 0),
        bbox_shift_high=shift.get("high", 0),
    )


def _upgrade_advice(info: AvatarInfo, config: Config) -> list[str]:
    """Returns a line of advice when a new build on this service would improve the avatar."""
    upgrades = available_upgrades(info, auto_params(config), loading.prepared_renderers(config))
    if not upgrades:
        return []
    verb = "is" if len(upgrades) == 1 else "are"
    return [f"{' and '.join(upgrades)} {verb} available but not used: create the avatar again with --replace"]


def _in_range(value: float, low: float, high: float, field: str) -> float:
    if not low <= value <= high:
        raise InvalidInput(f"{field} is {value:g}", f"Use {low:g} to {high:g}", field=f"params.{field}")
    return value


def _recorded_params(info: AvatarInfo) -> prep_pb2.AvatarParams | None:
    """Returns None for an avatar of another program, whose parameters have another form."""
    try:
        return _params_message(BuildParams.from_record(info.params))
    except (KeyError, ValueError, TypeError):
        return None


def _params_message(params: BuildParams) -> prep_pb2.AvatarParams:
    return prep_pb2.AvatarParams(
        bbox_shift=params.bbox_shift,
        extra_margin=params.extra_margin,
        frame_rate=frame_rate_message(Fraction(params.fps)),
        still_seconds=params.still_seconds,
        face=params.face,
        at=params.at and prep_pb2.Point(x=params.at[0], y=params.at[1]),
    )


def _read_report(path: Path) -> dict[str, Any]:
    """Returns the content of report.json; {} for a missing or damaged file."""
    try:
        report = json.loads((path / REPORT_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _create_time(info: AvatarInfo) -> Timestamp | None:
    try:
        return _timestamp(datetime.fromisoformat(info.created))
    except ValueError:
        return None


def _timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message
