"""warmtalk avatar import | export: reads and writes avatar folders of MuseTalk's realtime program."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli.requirements import requires_torch
from warmtalk.config import Config
from warmtalk.core.errors import AlreadyExists


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the actions `import` and `export` of the command `avatar`."""
    importer = actions.add_parser("import", help="import an avatar folder of MuseTalk (results/v15/avatars/ID)")
    importer.add_argument("id", help="1 to 63 of a-z, 0-9, '_' and '-'")
    importer.add_argument("folder", type=Path)
    importer.add_argument("--replace", action="store_true", help="replace an existing avatar with this ID")
    importer.set_defaults(run=_import)
    exporter = actions.add_parser("export", help="write an avatar as an avatar folder of MuseTalk")
    exporter.add_argument("id")
    exporter.add_argument("folder", type=Path, help="must not exist yet")
    exporter.set_defaults(run=_export)


@requires_torch
async def _import(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.avatar.import_musetalk import import_musetalk_avatar
    from warmtalk.store import AvatarStore

    store = AvatarStore(config.avatars_dir)
    info = await asyncio.to_thread(
        import_musetalk_avatar, args.folder, args.id, store, fps=config.fps, replace=args.replace
    )
    print(f"{info.avatar_id}: {info.width}x{info.height}, {info.frames} frames, {info.usable_frames} usable")
    return 0


@requires_torch
async def _export(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.models.musetalk import reference_cache
    from warmtalk.store import AvatarStore

    bundle = AvatarStore(config.avatars_dir).open(args.id)
    if args.folder.exists():
        raise AlreadyExists(f"{args.folder} exists already", "Name another folder")
    configured = bundle.info.params.get("bbox_shift")
    shift = bundle.info.bbox_shift_used if configured is None else int(configured)
    await asyncio.to_thread(reference_cache.write, bundle, args.folder, bbox_shift=shift)
    print(args.folder)
    return 0
