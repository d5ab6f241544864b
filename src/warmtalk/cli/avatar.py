"""warmtalk avatar create | list | show | delete. The other actions are separate modules."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

from warmtalk.cli import avatar_folder, avatar_inspect, avatar_preview, clients
from warmtalk.cli.face_arguments import add_face_arguments
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput, WarmtalkError
from warmtalk.v1 import prep_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub

_EXAMPLES = """\
examples:
  warmtalk avatar create anna anna.mp4                    10 to 60 s of one person who looks at the camera
  warmtalk avatar create anna group.mp4 --face 2          with several people, the second from the left
  warmtalk avatar create anna better.mp4 --replace        the same ID from another source
"""
_CHUNK_BYTES = 1 << 20


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `avatar` with all actions."""
    actions = commands.add_parser("avatar", help="build, list, show and delete avatars").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = actions.add_parser(
        "create",
        help="build an avatar from a video (mp4, mov, webm, mkv, avi, mpg) or a photo (jpg, png, webp)",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    create.add_argument("id", help="1 to 63 of a-z, 0-9, '_' and '-'")
    create.add_argument("source", type=Path, help="video or photo of one person who faces the camera")
    _add_build_arguments(create)
    create.add_argument(
        "--replace",
        action="store_true",
        help="replace an existing avatar with this ID, with the models and options of now",
    )
    create.set_defaults(run=_create)
    actions.add_parser("list", help="list all avatars").set_defaults(run=_list)
    show = actions.add_parser("show", help="show one avatar")
    show.add_argument("id")
    show.add_argument("--watch", action="store_true", help="follow the build until the end")
    show.set_defaults(run=_show)
    delete = actions.add_parser("delete", help="delete an avatar, or stop the build")
    delete.add_argument("id")
    delete.set_defaults(run=_delete)
    avatar_inspect.add_arguments(actions)
    avatar_preview.add_arguments(actions)
    avatar_folder.add_arguments(actions)


def _add_build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bbox-shift",
        type=int,
        metavar="PX",
        help="positive opens the mouth more (default: derived from the landmarks)",
    )
    parser.add_argument(
        "--extra-margin", type=int, metavar="PX", help="room under the chin (default: 8 %% of the face)"
    )
    add_face_arguments(parser)


async def _create(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.rpc import convert  # imports OpenCV

    params = prep_pb2.AvatarParams(
        bbox_shift=config.bbox_shift if args.bbox_shift is None else args.bbox_shift,
        extra_margin=config.prep.extra_margin if args.extra_margin is None else args.extra_margin,
        still_seconds=config.prep.still_seconds,
        frame_rate=convert.frame_rate_message(config.fps),
        face=args.face,
        at=args.at and prep_pb2.Point(x=args.at[0], y=args.at[1]),
    )
    with _hint_on_interrupt(args.id):
        avatar = await create(config, args.id, args.source, params, replace=args.replace)
    print(_summary(avatar))
    for line in avatar_inspect.summary_lines(avatar):
        print(line)
    return 0


async def create(
    config: Config, avatar_id: str, source: Path, params: prep_pb2.AvatarParams, *, replace: bool = False
) -> prep_pb2.Avatar:
    """Uploads the source, starts the build and waits for the end, with progress bars on stderr.

    Raises WarmtalkError with the reason when the build fails.
    """
    async with clients.prep_client(config) as prep:
        with tqdm(total=_size(source), unit="B", unit_scale=True, desc="upload", leave=False, disable=None) as bar:
            upload = await prep.UploadSource(_upload_requests(source, bar))
        request = prep_pb2.CreateAvatarRequest(
            avatar_id=avatar_id, upload_id=upload.upload_id, params=params, replace=replace
        )
        await prep.CreateAvatar(request)
        return await _watch(prep, avatar_id)


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read ({error.strerror})", "Check the path") from error


async def _upload_requests(source: Path, bar: tqdm[Never]) -> AsyncIterator[prep_pb2.UploadSourceRequest]:
    header = prep_pb2.UploadHeader(file_name=source.name, size_bytes=_size(source))
    yield prep_pb2.UploadSourceRequest(header=header)
    with open(source, "rb") as file:
        while data := file.read(_CHUNK_BYTES):
            bar.update(len(data))
            yield prep_pb2.UploadSourceRequest(data=data)


@contextlib.contextmanager
def _hint_on_interrupt(avatar_id: str) -> Iterator[None]:
    """Prints a hint on Ctrl-C, which ends this command but not the build in the prep service."""
    try:
        yield
    except asyncio.CancelledError:
        print(
            f"A build that has started continues. Follow the build: warmtalk avatar show {avatar_id} --watch. "
            f"Stop the build: warmtalk avatar delete {avatar_id}",
            file=sys.stderr,
        )
        raise


async def _watch(prep: PrepServiceAsyncStub, avatar_id: str) -> prep_pb2.Avatar:
    avatar = prep_pb2.Avatar()
    with tqdm(unit="frame", desc="build", leave=False, disable=None) as bar:
        async for response in prep.WatchAvatar(prep_pb2.WatchAvatarRequest(avatar_id=avatar_id)):
            avatar = response.avatar
            bar.set_description(avatar.progress.stage or "build", refresh=False)
            bar.total = avatar.progress.frames_total or None
            bar.update(max(0, avatar.progress.frames_done - bar.n))
    if avatar.state == prep_pb2.Avatar.STATE_FAILED:
        raise WarmtalkError(f"the build of avatar {avatar_id!r} failed: {avatar.error}")
    return avatar


async def _list(args: argparse.Namespace, config: Config) -> int:
    request = prep_pb2.ListAvatarsRequest()
    count = 0
    async with clients.prep_client(config) as prep:
        while True:
            page = await prep.ListAvatars(request)
            for avatar in page.avatars:
                print(_summary(avatar))
            count += len(page.avatars)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if not count:
        print("no avatars yet. Create one: warmtalk avatar create ID SOURCE")
    return 0


async def _show(args: argparse.Namespace, config: Config) -> int:
    async with clients.prep_client(config) as prep:
        if args.watch:
            with _hint_on_interrupt(args.id):
                avatar = await _watch(prep, args.id)
        else:
            avatar = (await prep.GetAvatar(prep_pb2.GetAvatarRequest(avatar_id=args.id))).avatar
    print(_summary(avatar))
    rows = {
        "source": f"{avatar.source_name} ({avatar.source_sha256[:12]})",
        "params": _params(avatar.params),
        "size": f"{avatar.size_bytes / 1e6:.1f} MB" if avatar.size_bytes else "",
    }
    for name, value in rows.items():
        if value:
            print(f"  {name:8} {value}")
    for line in avatar_inspect.summary_lines(avatar):
        print(line)
    return 0


async def _delete(args: argparse.Namespace, config: Config) -> int:
    async with clients.prep_client(config) as prep:
        await prep.DeleteAvatar(prep_pb2.DeleteAvatarRequest(avatar_id=args.id))
    print(f"avatar {args.id} was deleted")
    return 0


def _summary(avatar: prep_pb2.Avatar) -> str:
    state = prep_pb2.Avatar.State.Name(avatar.state).removeprefix("STATE_").lower()
    if avatar.state != prep_pb2.Avatar.STATE_READY:
        return f"{avatar.avatar_id:24} {state:9} {avatar.error}".rstrip()
    shape = f"{avatar.width}x{avatar.height}, {avatar.frames} frames, {avatar.usable_frames} usable"
    return f"{avatar.avatar_id:24} {state:9} {shape}, for {', '.join(avatar.renderers)}"


def _params(params: prep_pb2.AvatarParams) -> str:
    from warmtalk.rpc import convert

    rate = convert.frame_rate(params.frame_rate, Fraction(25))
    still = f", {params.still_seconds:g} s of idle motion for a photo" if params.HasField("still_seconds") else ""
    shift = params.bbox_shift if params.HasField("bbox_shift") else "automatic"
    margin = params.extra_margin if params.HasField("extra_margin") else "automatic"
    face = f", face {params.face}" if params.face else ""
    position = f", face at {params.at.x},{params.at.y}" if params.HasField("at") else ""
    return f"{rate} fps, bbox_shift {shift}, extra_margin {margin}{still}{face}{position}"
