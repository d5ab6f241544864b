"""warmtalk weights fetch | verify | import | export-lean"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
from pathlib import Path

from warmtalk.cli.requirements import requires_hub, requires_torch
from warmtalk.config import Config
from warmtalk.core.errors import Damaged, NotReady, WarmtalkError
from warmtalk.models.checkpoints import optional_weights
from warmtalk.models.checkpoints.fetch import fetch_part, fetch_weight_file, import_parts, import_weight_file, size
from warmtalk.models.checkpoints.optional_weights import GROUPS, WEIGHT_FILES, WeightFile
from warmtalk.models.checkpoints.weights import (
    UNETS,
    VAE,
    WHISPER,
    CheckpointPart,
    FoundPart,
    find,
    missing_libraries,
    unet_part,
)
from warmtalk.renderers.registry import MUSETALK

_MUSETALK = MUSETALK.name
_NAMES = (_MUSETALK, *GROUPS, "all")
_EXAMPLES = """\
examples:
  warmtalk weights fetch                       weights of the renderer musetalk, 3.9 GB
  warmtalk weights fetch dwpose bisenet        weights that prepare avatars as the reference program does
  warmtalk weights fetch all                   everything that warmtalk can use, 4.7 GB
  HF_ENDPOINT=https://MIRROR warmtalk weights fetch
Ctrl-C stops; the same command continues the download.
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `weights` with all actions."""
    actions = commands.add_parser("weights", help="MuseTalk's weights in models_dir").add_subparsers(
        required=True, metavar="ACTION"
    )
    fetch = actions.add_parser(
        "fetch",
        help="download missing files; HF_ENDPOINT names a mirror of the hub",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_names(fetch, f"any of: {', '.join(_NAMES)} (default: {_MUSETALK})")
    _add_version(fetch)
    fetch.set_defaults(run=_fetch)
    verify = actions.add_parser("verify", help="list present and missing files, and the features that are disabled")
    verify.set_defaults(run=_verify)
    copy = actions.add_parser("import", help="copy weights from another folder, in any nesting")
    copy.add_argument("folder", type=Path, metavar="DIR")
    _add_names(copy, f"any of: {', '.join(_NAMES)} (default: {_MUSETALK}, and all other files in the folder)")
    _add_version(copy)
    copy.set_defaults(run=_import)
    export = actions.add_parser("export-lean", help="write the weights of streaming alone: safetensors, half precision")
    export.add_argument("out", type=Path, metavar="OUT")
    _add_version(export)
    export.set_defaults(run=_export_lean)


def _add_names(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("what", nargs="*", choices=[*_NAMES, []], metavar="WHAT", help=text)


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", choices=tuple(UNETS), help="version of MuseTalk (default: musetalk.version)")


def _parts(args: argparse.Namespace, config: Config) -> list[CheckpointPart]:
    """Returns the renderer's parts, if requested by name or by no name at all."""
    if args.what and not {_MUSETALK, "all"} & set(args.what):
        return []
    return [unet_part(args.version or config.musetalk.version), VAE, WHISPER]


def _weight_files(args: argparse.Namespace) -> list[WeightFile]:
    return list(WEIGHT_FILES) if "all" in args.what else optional_weights.files_of_groups(args.what)


async def _fetch(args: argparse.Namespace, config: Config) -> int:
    if _parts(args, config):
        await _fetch_musetalk(args, config)
    hub = os.environ.get("HF_ENDPOINT") or optional_weights.HUB
    stop = threading.Event()
    try:
        for weight_file in _weight_files(args):
            path = await asyncio.to_thread(
                fetch_weight_file, weight_file, config.models_dir, hub=hub, stopped=stop.is_set
            )
            print(f"{weight_file.group:16} {path}")
    finally:
        stop.set()
    return 0


@requires_hub
async def _fetch_musetalk(args: argparse.Namespace, config: Config) -> int:
    for part in _parts(args, config):
        try:
            paths = [find(config.models_dir, part).weights]
        except NotReady:
            paths = await asyncio.to_thread(fetch_part, part, config.models_dir)
        print(f"{part.name:16} {', '.join(str(path) for path in paths)}")
    return 0


async def _verify(args: argparse.Namespace, config: Config) -> int:
    required = (unet_part(config.musetalk.version), VAE, WHISPER)
    parts = {part.name: _verify_part(part, config) for part in (*UNETS.values(), VAE, WHISPER)}
    files = [_verify_file(weight_file, config) for weight_file in WEIGHT_FILES]
    if missing := missing_libraries():
        print(
            f"only names and sizes of the renderer's weights were checked: this environment has no {', '.join(missing)}"
        )
    return 0 if all(files) and all(parts[part.name] for part in required) else 1


def _verify_part(part: CheckpointPart, config: Config) -> bool:
    """Prints a line, and returns False when the part is missing or broken."""
    try:
        found = find(config.models_dir, part)
        if not missing_libraries():
            _load(found, config.models_dir)
    except WarmtalkError as error:
        print(f"MISSING  {part.name:16} disables: {part.enables}\n         {error}")
        return False
    print(f"ok       {part.name:16} {found.weights} ({size(found) / 1e6:.0f} MB)")
    return True


def _verify_file(weight_file: WeightFile, config: Config) -> bool:
    """Prints a line, and returns False when the file is present and damaged; a missing file disables one feature."""
    try:
        path = optional_weights.find(config.models_dir, weight_file)
        optional_weights.check_contents(path, weight_file)
    except NotReady as error:
        print(f"optional {weight_file.group:16} disables: {weight_file.enables}\n         {error}")
    except Damaged as error:
        print(f"DAMAGED  {weight_file.group:16} disables: {weight_file.enables}\n         {error}")
        return False
    else:
        print(f"ok       {weight_file.group:16} {path} ({weight_file.size / 1e6:.0f} MB)")
    return True


def _load(found: FoundPart, models_dir: Path) -> None:
    """Checks presence and shape of every tensor; the files are memory-mapped, not read."""
    from warmtalk.models.checkpoints import load

    if found.part is VAE:
        load.vae(models_dir, None, encoder=False)
    elif found.part is WHISPER:
        load.whisper(models_dir, None)
        load.feature_extractor(models_dir)
    else:
        load.unet(models_dir, next(version for version, part in UNETS.items() if part is found.part), None)


async def _import(args: argparse.Namespace, config: Config) -> int:
    if not args.folder.is_dir():
        raise NotReady(f"there is no folder {args.folder}", "Name the folder that holds the weights")
    for path in await asyncio.to_thread(import_parts, args.folder, _parts(args, config), config.models_dir):
        print(path)
    for weight_file in _weight_files(args) or (WEIGHT_FILES if not args.what else ()):
        try:
            print(await asyncio.to_thread(import_weight_file, args.folder, weight_file, config.models_dir))
        except (NotReady, Damaged) as error:
            if args.what:
                raise
            if isinstance(error, Damaged):
                print(f"not copied: {error}")
    return 0


@requires_torch
async def _export_lean(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.models.musetalk.export_fp16 import export

    version = args.version or config.musetalk.version
    for path in await asyncio.to_thread(export, config.models_dir, args.out, version):
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")
    return 0
