"""Files of tensors into networks, without a second copy of the weights in memory.

Networks are built on the meta device (shapes only) and take the tensors of the file as their own. Tensors come from
safetensors, or from torch files read with weights_only=True; both are mapped, not read. One that is converted or goes
to another device does so alone, and the pages it was read from are given back before the next: what is in memory at
most is the network as it is used, and one tensor of the file.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.models.checkpoints import weights
from warmtalk.models.checkpoints.weights import FoundPart

Tensors = dict[str, torch.Tensor]
CPU = torch.device("cpu")

PART_KEY = "warmtalk_part"
"""Metadata of a file written by warmtalk: the published folder of its network."""
VAE_SCALE = 0.18215
"""The library's default; the published config of the VAE does not state one."""
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_CONV_PARTS = ("encoder.", "quant_conv.")


def read_tensors(
    path: Path,
    dtype: torch.dtype | None = None,
    keep: Callable[[str], bool] = lambda _: True,
    device: torch.device = CPU,
) -> Tensors:
    """Tensors of a file whose name is kept, on `device`; floating ones as `dtype` if it is given.

    Raises Damaged when the file is truncated, no file of tensors, or holds anything but tensors; NotReady when the
    device has no room for them.
    """
    try:
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        wanted = {name: tensor for name, tensor in read(path).items() if keep(name)}
        found = {name: _moved(wanted.pop(name), dtype, device, mapped=_is_mapped(path)) for name in list(wanted)}
    except torch.OutOfMemoryError as error:  # a RuntimeError too
        raise NotReady(
            f"{device} has no memory for {path.name} ({path.stat().st_size / 1e9:.1f} GB)",
            "Close other programs on it, or set musetalk.dtype to fp16",
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise _damaged(path, f"cannot be read ({_first_line(error)})") from error
    except AttributeError as error:
        raise _damaged(path, "holds something else than named tensors") from error
    return found


def read_config(path: Path) -> dict[str, Any]:
    """Keyword arguments of the network; keys that start with _ are left out. Raises Damaged."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {key: value for key, value in raw.items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(path, f"cannot be read ({_first_line(error)})") from error


def unet(models_dir: Path, version: str, dtype: torch.dtype | None, device: torch.device = CPU) -> Any:
    """The UNet2DConditionModel of one MuseTalk version, on `device`, in `dtype` or that of the file.

    Raises NotReady when a file is missing, Damaged when it is broken or no MuseTalk UNet of that version,
    InvalidInput for an unknown version.
    """
    from diffusers import UNet2DConditionModel

    found = weights.find(models_dir, weights.unet_part(version))
    _check_part(found)
    return _assembled(UNet2DConditionModel, found, read_tensors(found.weights, dtype, device=device), lambda _: None)


def vae(models_dir: Path, dtype: torch.dtype | None, device: torch.device = CPU, *, encoder: bool = True) -> Any:
    """The AutoencoderKL, on `device`. Without `encoder` only the decoder is loaded (60 % of the weights).

    Raises as `unet` does, and NotReady when the encoder is asked of a file that has the decoder only.
    """
    from diffusers import AutoencoderKL

    found = weights.find(models_dir, weights.VAE)
    tensors = read_tensors(found.weights, dtype, lambda name: encoder or not name.startswith(_CONV_PARTS), device)
    if encoder and not any(name.startswith("encoder.") for name in tensors):
        raise NotReady(
            f"{found.weights} has only the decoder of the image codec: avatars cannot be prepared with it",
            "Run: warmtalk weights fetch, into another folder",
        )
    tensors = {_modern_name(name): _linear(name, tensor) for name, tensor in tensors.items()}
    return _assembled(AutoencoderKL, found, tensors, lambda model: None if encoder else _decoder_only(model))


def whisper(models_dir: Path, dtype: torch.dtype | None, device: torch.device = CPU) -> Tensors:
    """Tensors of whisper's encoder on `device`, without the prefix of the whole model. Raises as `unet` does."""
    found = weights.find(models_dir, weights.WHISPER)
    prefixes = ("model.encoder.", "encoder.")
    tensors = read_tensors(found.weights, dtype, lambda name: name.startswith(prefixes), device)
    return {name.partition("encoder.")[2]: tensor for name, tensor in tensors.items()}


def vae_fingerprint(models_dir: Path) -> str:
    """Tells one VAE from another, in whatever precision it is stored: latents fit one VAE only."""
    found = weights.find(models_dir, weights.VAE)
    bias = read_tensors(found.weights, torch.float16, lambda name: name == "decoder.conv_in.bias")
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in bias.values())).hexdigest()[:16]


def _assembled(kind: Any, found: FoundPart, tensors: Tensors, trim: Callable[[Any], None]) -> Any:
    try:
        with torch.device("meta"):
            model = kind(**read_config(found.config))
    except (TypeError, ValueError, KeyError) as error:
        raise _damaged(found.config, f"describes no {kind.__name__} ({_first_line(error)})") from error
    trim(model)
    _check_fit(found, {name: tuple(p.shape) for name, p in model.state_dict().items()}, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _check_fit(found: FoundPart, wanted: Mapping[str, tuple[int, ...]], tensors: Tensors) -> None:
    missing = [name for name in wanted if name not in tensors]
    surplus = [name for name in tensors if name not in wanted]
    unlike = [name for name in wanted if name in tensors and tuple(tensors[name].shape) != wanted[name]]
    for problem, names in (("missing", missing), ("not part of it", surplus), ("of another shape", unlike)):
        if names:
            raise _damaged(
                found.weights,
                f"is not the {found.part.name} that {found.config.name} describes: of {len(wanted)} tensors, "
                f"{len(names)} are {problem}, the first {names[0]}",
            )


def _check_part(found: FoundPart) -> None:
    if found.weights.suffix != ".safetensors":
        return
    try:
        with safe_open(found.weights, "pt") as file:
            part = (file.metadata() or {}).get(PART_KEY, found.part.folders[0])
    except (SafetensorError, OSError) as error:
        raise _damaged(found.weights, f"cannot be read ({_first_line(error)})") from error
    if part != found.part.folders[0]:
        raise _damaged(found.weights, f"was written for {part}, not for {found.part.folders[0]}")


def _read_safetensors(path: Path) -> Tensors:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def _read_torch(path: Path) -> Tensors:
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_mapped(path))
    return dict(tensors.items())


def _is_mapped(path: Path) -> bool:
    """Files of torch before 1.6 are no archives and cannot be mapped."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _moved(tensor: torch.Tensor, dtype: torch.dtype | None, device: torch.device, *, mapped: bool) -> torch.Tensor:
    moved = tensor.to(device, dtype if tensor.is_floating_point() else None)
    if mapped and moved is not tensor:
        _give_back(tensor)
    return moved


def _give_back(tensor: torch.Tensor) -> None:
    """The pages of a mapped tensor leave memory; whoever reads it again reads the file. Its neighbours keep theirs."""
    if sys.platform != "linux":
        return
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    begin, end = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, last // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _modern_name(name: str) -> str:
    """Names of the VAE's attention before diffusers renamed them are what the published file has."""
    if ".attentions.0." not in name:
        return name
    head, part, kind = name.rsplit(".", 2)
    return f"{head}.{_OLD_ATTENTION.get(part, part)}.{kind}"


def _linear(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Some copies keep the attention's matrices as 1 x 1 convolutions."""
    attention = ".attentions.0." in name and name.endswith(".weight")
    return tensor[:, :, 0, 0] if attention and tensor.ndim == 4 else tensor


def _decoder_only(model: Any) -> None:
    model.encoder = None
    model.quant_conv = None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _damaged(path: Path, why: str) -> Damaged:
    return Damaged(f"{path} {why}", "Fetch it again: delete the file, then run warmtalk weights fetch")
