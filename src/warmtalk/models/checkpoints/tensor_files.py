"""Reads tensors and configurations from checkpoint files, memory-mapped and without running code from the file.

Each converted or moved tensor is processed alone, and the pages of the file are released before the next tensor: peak
memory is the result and one tensor of the file.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from warmtalk.core.errors import Damaged, NotReady

Tensors = dict[str, torch.Tensor]
CPU = torch.device("cpu")


def read_tensors(
    path: Path,
    dtype: torch.dtype | None = None,
    keep: Callable[[str], bool] = lambda _: True,
    device: torch.device = CPU,
) -> Tensors:
    """Returns the tensors whose names `keep` accepts, on `device`; floating-point tensors as `dtype` if given.

    Reads safetensors files, and torch files with weights_only=True. Raises Damaged when the file is truncated, is no
    file of tensors, or holds anything but tensors; NotReady when the device has no memory for the tensors.
    """
    try:
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        mapped = {name: tensor for name, tensor in read(path).items() if keep(name)}
        return {name: _moved(mapped.pop(name), dtype, device, mapped=_is_mapped(path)) for name in list(mapped)}
    except torch.OutOfMemoryError as error:  # also a RuntimeError
        raise NotReady(
            f"{device} has no memory for {path.name} ({path.stat().st_size / 1e9:.1f} GB)",
            "Close other programs on this device, or set musetalk.dtype to fp16",
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise damaged(path, f"cannot be read ({first_line(error)})") from error
    except AttributeError as error:
        raise damaged(path, "does not hold named tensors") from error


def read_config(path: Path) -> dict[str, Any]:
    """Returns the keyword arguments of a network, without keys with a leading underscore. Raises Damaged."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {key: value for key, value in raw.items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError) as error:
        raise damaged(path, f"cannot be read ({first_line(error)})") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file. Raises Damaged."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"cannot be read ({first_line(error)})") from error


def damaged(path: Path, reason: str) -> Damaged:
    """Returns the error for a broken file of the published weights."""
    return Damaged(f"{path} {reason}", "Fetch it again: delete the file, then run warmtalk weights fetch")


def first_line(error: BaseException) -> str:
    """Returns at most 200 characters of the error's first line, or the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _read_safetensors(path: Path) -> Tensors:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping


def _read_torch(path: Path) -> Tensors:
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_mapped(path))
    return dict(tensors.items())


def _is_mapped(path: Path) -> bool:
    """Returns False for files of torch before 1.6, which are no archives and cannot be mapped."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _moved(tensor: torch.Tensor, dtype: torch.dtype | None, device: torch.device, *, mapped: bool) -> torch.Tensor:
    moved = tensor.to(device, dtype if tensor.is_floating_point() else None)
    if mapped and moved is not tensor:
        _release_pages(tensor)
    return moved


def _release_pages(tensor: torch.Tensor) -> None:
    """Releases the memory pages of a mapped tensor; a later access reads the file again. Shared pages stay."""
    if sys.platform != "linux":
        return
    first, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    first_page, end_page = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first_page < end_page:
        length = ctypes.c_size_t(end_page - first_page)
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first_page), length, mmap.MADV_DONTNEED)
