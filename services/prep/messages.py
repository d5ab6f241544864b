"""Builds and bundles as messages, and parameters out of them."""

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
from warmtalk.avatar.from_config import _open, configured, renderers
from warmtalk.avatar.report.footage_report import REPORT
from warmtalk.config import Config
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.convert import frame_rate, frame_rate_message
from warmtalk.services.prep.jobs import Build, BuildState
from warmtalk.v1 import prep_pb2

HIGHEST_FPS = 60


def params(message: prep_pb2.AvatarParams, config: Config) -> BuildParams:
    """What is unset is taken from the configuration. Raises InvalidInput outside the proto's ranges."""
    shift = message.bbox_shift if message.HasField("bbox_shift") else config.bbox_shift
    margin = message.extra_margin if message.HasField("extra_margin") else config.prep.extra_margin
    seconds = message.still_seconds if message.HasField("still_seconds") else config.prep.still_seconds
    return replace(
        configured(config),
        bbox_shift=None if shift is None else int(_within(shift, -100, 100, "bbox_shift")),
        extra_margin=None if margin is None else int(_within(margin, 0, 200, "extra_margin")),
        fps=frame_rate(message.frame_rate, config.fps, highest=HIGHEST_FPS),
        still_seconds=_within(seconds, 1, 30, "still_seconds"),
        face=int(_within(message.face, 0, 100, "face")),
        at=(message.at.x, message.at.y) if message.HasField("at") else None,
    )


def of_build(build: Build) -> prep_pb2.Avatar:
    """CREATING with its progress, or FAILED with its error."""
    avatar = prep_pb2.Avatar(
        avatar_id=build.order.avatar_id,
        source_name=build.order.source_name,
        source_sha256=build.order.source_sha256,
        params=_params_message(build.order.params),
        create_time=_timestamp(datetime.fromtimestamp(build.asked, UTC)),
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


def of_bundle(info: AvatarInfo, path: Path, config: Config) -> prep_pb2.Avatar:
    """READY. Reads its report and the sizes of its files."""
    about = _report(path)
    shift = about.get("bbox_shift") or {}
    return prep_pb2.Avatar(
        avatar_id=info.avatar_id,
        state=prep_pb2.Avatar.STATE_READY,
        source_name=info.source_name,
        source_sha256=info.source_sha256,
        params=_params_of(info),
        renderers=info.renderers,
        width=info.width,
        height=info.height,
        frames=info.frames,
        usable_frames=info.usable_frames,
        size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        create_time=_created(info),
        summary=about.get("summary", ""),
        grade=about.get("grade", ""),
        advice=[*about.get("advice", ()), *_outdated(info, config)],
        bbox_shift_used=shift.get("used", 0),
        bbox_shift_low=shift.get("low", 0),
        bbox_shift_high=shift.get("high", 0),
    )


def _outdated(info: AvatarInfo, config: Config) -> list[str]:
    """A line of advice when this service would make it better now than it was made."""
    found = available_upgrades(info, _open(config), renderers(config))
    if not found:
        return []
    be = "is" if len(found) == 1 else "are"
    return [f"{' and '.join(found)} {be} ready here and not used yet: create it again with --replace"]


def _within(value: float, least: float, most: float, field: str) -> float:
    if not least <= value <= most:
        raise InvalidInput(f"{field} is {value:g}", f"Use {least:g} to {most:g}", field=f"params.{field}")
    return value


def _params_of(info: AvatarInfo) -> prep_pb2.AvatarParams | None:
    """None for an avatar that other means made: its record is theirs."""
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


def _report(path: Path) -> dict[str, Any]:
    """{} where there is none that can be read."""
    try:
        about = json.loads((path / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _created(info: AvatarInfo) -> Timestamp | None:
    try:
        return _timestamp(datetime.fromisoformat(info.created))
    except ValueError:
        return None


def _timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message
