"""Weights from the network or another folder into the published layout. No torch; `fetch` needs huggingface_hub."""

from __future__ import annotations

import hashlib
import shutil
import string
from collections.abc import Callable, Iterable
from pathlib import Path

from warmtalk.core.errors import Damaged, NotReady, Unreachable
from warmtalk.models.checkpoints import optional_weights
from warmtalk.models.checkpoints.download import download
from warmtalk.models.checkpoints.optional_weights import WeightFile
from warmtalk.models.checkpoints.weights import CheckpointPart, FoundPart, find


def fetch(part: CheckpointPart, models_dir: Path) -> list[Path]:
    """Downloads what is missing, with a progress bar on stderr; goes on where an earlier try stopped.

    The hub's sha256 of the weights is compared with the file. $HF_ENDPOINT names a mirror.
    Raises Unreachable when the hub does not answer, Damaged when a file is not what the hub says.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    folder = models_dir / part.prefix if part.prefix else models_dir / part.folders[0]
    done = []
    for name in (part.config, part.fetched):
        remote = part.prefix + name
        try:
            about = get_hf_file_metadata(hf_hub_url(part.repository, remote))
            root = models_dir if part.prefix else folder
            path = Path(hf_hub_download(part.repository, remote, local_dir=root))
        except Exception as error:  # requests, httpx and the hub's own types, by version
            raise Unreachable(
                f"{part.repository}/{remote} cannot be fetched ({str(error).splitlines()[0][:200]})",
                "Check the network; HF_ENDPOINT=https://MIRROR names a mirror; what is there already is kept",
            ) from error
        _check(path, str(about.etag or ""))
        done.append(path)
    return done


def fetch_extra(
    extra: WeightFile, models_dir: Path, *, hub: str = optional_weights.HUB, stopped: Callable[[], bool] = lambda: False
) -> Path:
    """Downloads it unless it is there; `hub` is the hub's address or a mirror's. Raises as `download` does."""
    path = models_dir / extra.path
    if path.is_file():
        return path
    url = hub.rstrip("/") + extra.url if extra.url.startswith("/") else extra.url
    return download(url, path, extra.size, extra.sha256, stopped)


def adopt(source: Path, parts: Iterable[CheckpointPart], models_dir: Path) -> list[Path]:
    """Copies the parts found in `source`, however nested, into the published layout.

    Raises NotReady for a part that is not there, OSError.
    """
    copied = []
    for found in [find(source, part) for part in parts]:
        folder = models_dir / found.part.folders[0]
        folder.mkdir(parents=True, exist_ok=True)
        copied += [_copy(path, folder / path.name) for path in (found.config, found.weights)]
    return copied


def adopt_extra(source: Path, extra: WeightFile, models_dir: Path) -> Path:
    """Copies the first file of its name and contents from anywhere in `source`. Raises NotReady, Damaged, OSError."""
    problem: Exception = NotReady(f"{source} has no {extra.name}", f"Run: warmtalk weights fetch {extra.group}")
    for path in optional_weights.below(source, extra):
        try:
            optional_weights.check(path, extra)
        except Damaged as error:
            problem = error
            continue
        (models_dir / extra.path).parent.mkdir(parents=True, exist_ok=True)
        return _copy(path, models_dir / extra.path)
    raise problem


def size(found: FoundPart) -> int:
    """Bytes."""
    return found.weights.stat().st_size


def _copy(source: Path, target: Path) -> Path:
    if target.exists() and target.samefile(source):
        return target
    partial = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, partial)
    return partial.replace(target)


def _check(path: Path, etag: str) -> None:
    """The hub's etag of a large file is its sha256; that of a small one is git's and is not compared."""
    if len(etag) != 64 or not set(etag) <= set(string.hexdigits):
        return
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != etag:
        path.unlink()
        raise Damaged(f"{path} has sha256 {digest[:16]}..., the hub says {etag[:16]}...", "Run the command again")
