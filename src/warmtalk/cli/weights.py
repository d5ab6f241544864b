"""warmtalk weights fetch | verify | import | export-lean"""

from __future__ import annotations

import argparse
import asyncio
from importlib.util import find_spec
from pathlib import Path

from warmtalk.cli.needs import needs_hub, needs_torch
from warmtalk.config import Config
from warmtalk.core.errors import NotReady, WarmtalkError
from warmtalk.models.fetch import adopt, fetch, size
from warmtalk.models.weights import UNETS, VAE, WHISPER, Found, Part, find, unet_part


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    weights = verbs.add_parser("weights", help="MuseTalk's weights in models_dir").add_subparsers(
        required=True, metavar="ACTION"
    )
    get = weights.add_parser("fetch", help="download what is missing; HF_ENDPOINT names a mirror of the hub")
    _version(get)
    get.set_defaults(run=_fetch)
    check = weights.add_parser("verify", help="what is there, what is missing, what that disables")
    check.set_defaults(run=_verify)
    take = weights.add_parser("import", help="copy weights from another folder, whatever its nesting")
    take.add_argument("folder", type=Path, metavar="DIR")
    _version(take)
    take.set_defaults(run=_import)
    lean = weights.add_parser("export-lean", help="write only what streaming needs: safetensors, half precision")
    lean.add_argument("out", type=Path, metavar="OUT")
    _version(lean)
    lean.set_defaults(run=_export_lean)


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", choices=tuple(UNETS), help="of MuseTalk (default: musetalk.version)")


def _parts(args: argparse.Namespace, config: Config) -> list[Part]:
    return [unet_part(args.version or config.musetalk.version), VAE, WHISPER]


@needs_hub
async def _fetch(args: argparse.Namespace, config: Config) -> int:
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
    if not find_spec("torch"):
        print("only names and sizes were checked: this environment has no torch")
    return 1 if broken else 0


def _good(part: Part, config: Config) -> bool:
    try:
        found = find(config.models_dir, part)
        if find_spec("torch") and find_spec("diffusers"):
            _load(found, config.models_dir)
    except WarmtalkError as error:
        print(f"MISSING  {part.name:16} disables: {part.enables}\n         {error}")
        return False
    print(f"ok       {part.name:16} {found.weights} ({size(found) / 1e6:.0f} MB)")
    return True


def _load(found: Found, models_dir: Path) -> None:
    """Every tensor is there and fits; the files are mapped, not read."""
    import torch

    from warmtalk.models import load
    from warmtalk.models.whisper import WhisperEncoder

    if found.part is VAE:
        load.vae(models_dir, None, encoder=False)
    elif found.part is WHISPER:
        WhisperEncoder(load.whisper(models_dir, None), torch.device("cpu"))
    else:
        load.unet(models_dir, next(version for version, part in UNETS.items() if part is found.part), None)


async def _import(args: argparse.Namespace, config: Config) -> int:
    for path in await asyncio.to_thread(adopt, args.folder, _parts(args, config), config.models_dir):
        print(path)
    return 0


@needs_torch
async def _export_lean(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.models.lean import export

    version = args.version or config.musetalk.version
    for path in await asyncio.to_thread(export, config.models_dir, args.out, version):
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")
    return 0
