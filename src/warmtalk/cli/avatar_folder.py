"""warmtalk avatar import | export: the folders that MuseTalk's realtime program keeps its avatars in."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli.requirements import requires_torch
from warmtalk.config import Config
from warmtalk.core.errors import AlreadyExists
from warmtalk.store import AvatarStore


def add_arguments(avatar: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    take = avatar.add_parser("import", help="take over an avatar folder of MuseTalk (results/v15/avatars/ID)")
    take.add_argument("id", help="1 to 63 of a-z, 0-9, '_' and '-'")
    take.add_argument("folder", type=Path)
    take.add_argument("--replace", action="store_true", help="replace an avatar of this id")
    take.set_defaults(run=_import)
    give = avatar.add_parser("export", help="write an avatar as such a folder")
    give.add_argument("id")
    give.add_argument("folder", type=Path, help="must not exist yet")
    give.set_defaults(run=_export)


@requires_torch
async def _import(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.avatar.import_musetalk import import_musetalk_avatar

    store = AvatarStore(config.avatars_dir)
    info = await asyncio.to_thread(
        import_musetalk_avatar, args.folder, args.id, store, fps=config.fps, replace=args.replace
    )
    print(f"{info.avatar_id}: {info.width}x{info.height}, {info.frames} frames, {info.usable_frames} usable")
    return 0


@requires_torch
async def _export(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.models.musetalk import reference_cache

    bundle = AvatarStore(config.avatars_dir).open(args.id)
    if args.folder.exists():
        raise AlreadyExists(f"{args.folder} exists", "Take another folder")
    given = bundle.info.params.get("bbox_shift")
    shift = bundle.info.bbox_shift_used if given is None else int(given)
    await asyncio.to_thread(reference_cache.write, bundle, args.folder, bbox_shift=shift)
    print(args.folder)
    return 0
