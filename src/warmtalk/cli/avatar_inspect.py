"""warmtalk avatar inspect: shows the report on the footage of an avatar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from warmtalk.cli import clients
from warmtalk.config import Config
from warmtalk.core.errors import WarmtalkError
from warmtalk.v1 import prep_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub

_EXAMPLES = """\
examples:
  warmtalk avatar inspect anna                      quality of the footage, and advice
  warmtalk avatar inspect anna --sheet anna.png     frames with face boxes, mask outlines and verdicts
  warmtalk avatar inspect anna --json > anna.json   every frame: pose, sharpness, verdict and reason
"""


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the action `inspect` of the command `avatar`."""
    inspect = actions.add_parser(
        "inspect",
        help="show the report on the footage of an avatar",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument("id")
    inspect.add_argument("--sheet", type=Path, metavar="FILE", help="write the contact sheet, a PNG")
    inspect.add_argument("--json", action="store_true", help="print the complete report instead of the summary")
    inspect.set_defaults(run=_inspect)


def summary_lines(avatar: prep_pb2.Avatar) -> Iterator[str]:
    """Yields the summary of the footage of a finished avatar; yields nothing before the build has finished."""
    if avatar.summary:
        yield f"  footage  {avatar.grade + ': ' if avatar.grade else ''}{avatar.summary}"
    for advice in avatar.advice:
        yield f"           - {advice}"
    if avatar.bbox_shift_low or avatar.bbox_shift_high:
        kind = "given" if avatar.params.HasField("bbox_shift") else "automatic"
        yield (
            f"  shift    bbox_shift {avatar.bbox_shift_used} ({kind}),"
            f" adjustable range {avatar.bbox_shift_low} to {avatar.bbox_shift_high}"
        )


async def _inspect(args: argparse.Namespace, config: Config) -> int:
    async with clients.prep_client(config) as prep:
        avatar = (await prep.GetAvatar(prep_pb2.GetAvatarRequest(avatar_id=args.id))).avatar
        if avatar.state != prep_pb2.Avatar.STATE_READY:
            state = prep_pb2.Avatar.State.Name(avatar.state).removeprefix("STATE_").lower()
            raise WarmtalkError(
                f"avatar {args.id!r} is {state}: {avatar.error or 'the report is written at the end of the build'}"
            )
        if args.sheet:
            args.sheet.write_bytes(await _download(prep, args.id, prep_pb2.GetReportRequest.FILE_CONTACT_SHEET))
        if args.json:
            sys.stdout.write((await _download(prep, args.id, prep_pb2.GetReportRequest.FILE_JSON)).decode())
            return 0
    for line in summary_lines(avatar):
        print(line.removeprefix("  "))
    if args.sheet:
        print(args.sheet)
    return 0


async def _download(
    prep: PrepServiceAsyncStub, avatar_id: str, file: prep_pb2.GetReportRequest.File.ValueType
) -> bytes:
    request = prep_pb2.GetReportRequest(avatar_id=avatar_id, file=file)
    return b"".join([chunk.data async for chunk in prep.GetReport(request)])
