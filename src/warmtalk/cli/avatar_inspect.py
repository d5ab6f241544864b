"""warmtalk avatar inspect: what was found in an avatar's footage, again."""

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
  warmtalk avatar inspect anna                      how good the footage is, and what to do about it
  warmtalk avatar inspect anna --sheet anna.png     its frames with boxes, the mask's outline and verdicts
  warmtalk avatar inspect anna --json > anna.json   every frame: pose, sharpness, verdict and reason
"""


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = actions.add_parser(
        "inspect",
        help="what was found in an avatar's footage",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument("id")
    inspect.add_argument("--sheet", type=Path, metavar="FILE", help="write the contact sheet, a PNG")
    inspect.add_argument("--json", action="store_true", help="print the whole report instead of its summary")
    inspect.set_defaults(run=_inspect)


def lines(avatar: prep_pb2.Avatar) -> Iterator[str]:
    """The footage of a finished avatar in words; nothing for one that is not finished."""
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
    async with clients.prep(config) as prep:
        avatar = (await prep.GetAvatar(prep_pb2.GetAvatarRequest(avatar_id=args.id))).avatar
        if avatar.state != prep_pb2.Avatar.STATE_READY:
            state = prep_pb2.Avatar.State.Name(avatar.state).removeprefix("STATE_").lower()
            raise WarmtalkError(f"avatar {args.id!r} is {state}: {avatar.error or 'its report comes with its end'}")
        if args.sheet:
            args.sheet.write_bytes(await _file(prep, args.id, prep_pb2.GetReportRequest.FILE_CONTACT_SHEET))
        if args.json:
            sys.stdout.write((await _file(prep, args.id, prep_pb2.GetReportRequest.FILE_JSON)).decode())
            return 0
    for line in lines(avatar):
        print(line.removeprefix("  "))
    if args.sheet:
        print(args.sheet)
    return 0


async def _file(prep: PrepServiceAsyncStub, avatar_id: str, file: prep_pb2.GetReportRequest.File.ValueType) -> bytes:
    request = prep_pb2.GetReportRequest(avatar_id=avatar_id, file=file)
    return b"".join([piece.data async for piece in prep.GetReport(request)])
