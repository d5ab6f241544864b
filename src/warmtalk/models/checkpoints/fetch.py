"""Brings weights from the network or from another folder into the published layout. No torch.

`fetch_part` needs huggingface_hub.
"""

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


def fetch_part(part: CheckpointPart, models_dir: Path) -> list[Path]:
    """Downloads the missing files of a part and returns all files. Shows a progress bar on stderr; resumes.

    Compares the weights with the hub's sha256. $HF_ENDPOINT names a mirror. Raises Unreachable when the hub does not
    answer, Damaged when a file differs from the hub's sha256.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    folder = models_dir / part.prefix if part.prefix else models_dir / part.folders[0]
    files = []
    for name in (part.config, part.fetched):
        remote = part.prefix + name
        try:
            metadata = get_hf_file_metadata(hf_hub_url(part.repository, remote))
            root = models_dir if part.prefix else folder
            path = Path(hf_hub_download(part.repository, remote, local_dir=root))
        except Exception as error:  # requests, httpx and the hub's own types, depending on the version
            raise Unreachable(
                f"{part.repository}/{remote} cannot be fetched ({str(error).splitlines()[0][:200]})",
                "Check the network; HF_ENDPOINT=https://MIRROR names a mirror; finished files are kept",
            ) from error
        _check_digest(path, str(metadata.etag or ""))
        files.append(path)
    return files


def fetch_weight_file(
    weight_file: WeightFile,
    models_dir: Path,
    *,
    hub: str = optional_weights.HUB,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Downloads a file unless present, and returns the path. `hub` is the address of the hub or of a mirror.

    Raises as `download` does.
    """
    path = models_dir / weight_file.path
    if path.is_file():
        return path
    url = hub.rstrip("/") + weight_file.url if weight_file.url.startswith("/") else weight_file.url
    return download(url, path, weight_file.size, weight_file.sha256, stopped)


def import_parts(source: Path, parts: Iterable[CheckpointPart], models_dir: Path) -> list[Path]:
    """Copies `parts` from `source`, in any nesting, into the published layout, and returns the copies.

    Raises NotReady for a part missing in `source`, OSError.
    """
    copied = []
    for found in [find(source, part) for part in parts]:
        folder = models_dir / found.part.folders[0]
        folder.mkdir(parents=True, exist_ok=True)
        copied += [_copy(path, folder / path.name) for path in (found.config, found.weights)]
    return copied


def import_weight_file(source: Path, weight_file: WeightFile, models_dir: Path) -> Path:
    """Copies the first file in `source` with the published name and sha256, and returns the copy.

    Searches all folders below `source`. Raises NotReady, Damaged, OSError.
    """
    problem: Exception = NotReady(
        f"{source} has no {weight_file.name}", f"Run: warmtalk weights fetch {weight_file.group}"
    )
    for path in optional_weights.find_by_name(source, weight_file):
        try:
            optional_weights.check_contents(path, weight_file)
        except Damaged as error:
            problem = error
            continue
        (models_dir / weight_file.path).parent.mkdir(parents=True, exist_ok=True)
        return _copy(path, models_dir / weight_file.path)
    raise problem


def size(found: FoundPart) -> int:
    """Returns the size of the weights in bytes."""
    return found.weights.stat().st_size


def _copy(source: Path, target: Path) -> Path:
    if target.exists() and target.samefile(source):
        return target
    partial = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, partial)
    return partial.replace(target)


def _check_digest(path: Path, etag: str) -> None:
    """Compares sha256 and etag. Skips small files: the etag of a small file is a git hash."""
    if len(etag) != 64 or not set(etag) <= set(string.hexdigits):
        return
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != etag:
        path.unlink()
        raise Damaged(f"{path} has sha256 {digest[:16]}..., the hub states {etag[:16]}...", "Run the command again")
