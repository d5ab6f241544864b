"""warmtalk weights fetch | verify | import | export-lean"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
from importlib.util import find_spec
from pathlib import Path

from warmtalk.cli.requirements import requires_hub, requires_torch
from warmtalk.config import Config
from warmtalk.core.errors import Damaged, NotReady, WarmtalkError
from warmtalk.models.checkpoints import optional_weights
from warmtalk.models.checkpoints.fetch import adopt, adopt_extra, fetch, fetch_extra, size
from warmtalk.models.checkpoints.optional_weights import GROUPS, WEIGHT_FILES, WeightFile
from warmtalk.models.checkpoints.weights import UNETS, VAE, WHISPER, CheckpointPart, FoundPart, find, unet_part

_MUSETALK = "musetalk"
_WHAT = (_MUSETALK, *GROUPS, "all")
_EXAMPLES = """\
examples:
  warmtalk weights fetch                       what the renderer musetalk needs, 3.9 GB
  warmtalk weights fetch dwpose bisenet        and what makes avatars as its own program does
  warmtalk weights fetch all                   everything that warmtalk can use, 4.7 GB
  HF_ENDPOINT=https://MIRROR warmtalk weights fetch
Ctrl-C stops; the same command goes on where it stopped.
"""


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    weights = verbs.add_parser("weights", help="MuseTalk's weights in models_dir").add_subparsers(
        required=True, metavar="ACTION"
    )
    get = weights.add_parser(
        "fetch",
        help="download what is missing; HF_ENDPOINT names a mirror of the hub",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(get, f"any of: {', '.join(_WHAT)} (default: {_MUSETALK})")
    _version(get)
    get.set_defaults(run=_fetch)
    check = weights.add_parser("verify", help="what is there, what is missing, what that disables")
    check.set_defaults(run=_verify)
    take = weights.add_parser("import", help="copy weights from another folder, whatever its nesting")
    take.add_argument("folder", type=Path, metavar="DIR")
    _what(take, f"any of: {', '.join(_WHAT)} (default: {_MUSETALK}, and whatever else is there)")
    _version(take)
    take.set_defaults(run=_import)
    lean = weights.add_parser("export-lean", help="write only what streaming needs: safetensors, half precision")
    lean.add_argument("out", type=Path, metavar="OUT")
    _version(lean)
    lean.set_defaults(run=_export_lean)


def _what(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("what", nargs="*", choices=[*_WHAT, []], metavar="WHAT", help=text)


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", choices=tuple(UNETS), help="of MuseTalk (default: musetalk.version)")


def _parts(args: argparse.Namespace, config: Config) -> list[CheckpointPart]:
    """What of the renderer was asked for, by name or by naming nothing."""
    if args.what and not {_MUSETALK, "all"} & set(args.what):
        return []
    return [unet_part(args.version or config.musetalk.version), VAE, WHISPER]


def _extras(args: argparse.Namespace) -> list[WeightFile]:
    return list(WEIGHT_FILES) if "all" in args.what else optional_weights.of_groups(args.what)


async def _fetch(args: argparse.Namespace, config: Config) -> int:
    if _parts(args, config):
        await _fetch_musetalk(args, config)
    hub = os.environ.get("HF_ENDPOINT") or optional_weights.HUB
    stop = threading.Event()
    try:
        for extra in _extras(args):
            path = await asyncio.to_thread(fetch_extra, extra, config.models_dir, hub=hub, stopped=stop.is_set)
            print(f"{extra.group:16} {path}")
    finally:
        stop.set()
    return 0


@requires_hub
async def _fetch_musetalk(args: argparse.Namespace, config: Config) -> int:
    for part in _parts(args, config):
        try:
            paths = [find(config.models_dir, part).weights]
        except NotReady:
            paths = await asyncio.to_thread(fetch, part, config.models_dir)
        print(f"{part.name:16} {', '.join(str(path) for path in paths)}")
    return 0


async def _verify(args: argparse.Namespace, config: Config) -> int:
    asked = unet_part(config.musetalk.version)
    broken = [
        part for part in (*UNETS.values(), VAE, WHISPER) if not _good(part, config) and part in (asked, VAE, WHISPER)
    ]
    damaged = [extra for extra in WEIGHT_FILES if not _right(extra, config)]
    if not find_spec("torch"):
        print("of the renderer's weights only names and sizes were checked: this environment has no torch")
    return 1 if broken or damaged else 0


def _good(part: CheckpointPart, config: Config) -> bool:
    try:
        found = find(config.models_dir, part)
        if find_spec("torch") and find_spec("diffusers"):
            _load(found, config.models_dir)
    except WarmtalkError as error:
        print(f"MISSING  {part.name:16} disables: {part.enables}\n         {error}")
        return False
    print(f"ok       {part.name:16} {found.weights} ({size(found) / 1e6:.0f} MB)")
    return True


def _right(extra: WeightFile, config: Config) -> bool:
    """False when it is there and wrong; one that is missing only disables its feature."""
    try:
        path = optional_weights.find(config.models_dir, extra)
        optional_weights.check(path, extra)
    except NotReady as error:
        print(f"optional {extra.group:16} disables: {extra.enables}\n         {error}")
    except Damaged as error:
        print(f"DAMAGED  {extra.group:16} disables: {extra.enables}\n         {error}")
        return False
    else:
        print(f"ok       {extra.group:16} {path} ({extra.size / 1e6:.0f} MB)")
    return True


def _load(found: FoundPart, models_dir: Path) -> None:
    """Every tensor is there and fits; the files are mapped, not read."""
    import torch

    from warmtalk.models.checkpoints import load
    from warmtalk.models.musetalk.whisper import WhisperEncoder

    if found.part is VAE:
        load.vae(models_dir, None, encoder=False)
    elif found.part is WHISPER:
        WhisperEncoder(load.whisper(models_dir, None), torch.device("cpu"))
    else:
        load.unet(models_dir, next(version for version, part in UNETS.items() if part is found.part), None)


async def _import(args: argparse.Namespace, config: Config) -> int:
    if not args.folder.is_dir():
        raise NotReady(f"there is no folder {args.folder}", "Name the folder that holds the weights")
    for path in await asyncio.to_thread(adopt, args.folder, _parts(args, config), config.models_dir):
        print(path)
    for extra in _extras(args) or (WEIGHT_FILES if not args.what else ()):
        try:
            print(await asyncio.to_thread(adopt_extra, args.folder, extra, config.models_dir))
        except (NotReady, Damaged) as error:
            if args.what:
                raise
            if isinstance(error, Damaged):
                print(f"not taken: {error}")
    return 0


@requires_torch
async def _export_lean(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.models.musetalk.export_fp16 import export

    version = args.version or config.musetalk.version
    for path in await asyncio.to_thread(export, config.models_dir, args.out, version):
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")
    return 0
