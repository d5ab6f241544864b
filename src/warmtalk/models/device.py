"""Device and precision of the networks. Needs torch."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from warmtalk.core.errors import InvalidInput, NotReady

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_CPUINFO = Path("/proc/cpuinfo")
_REPORTED_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
"""Instruction sets with kernels of their own in torch."""


def pick_device(name: str) -> torch.device:
    """Returns the device of a name; "auto" takes CUDA if available. Raises NotReady for CUDA without a GPU.

    On CUDA, fp32 stays fp32 (no TF32), and cuDNN searches the fastest convolution when a size occurs first.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"there is no device {name!r}", "Use auto, cpu, cuda or cuda:0", field="device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NotReady(
            f"device {name} was requested, but torch {torch.__version__} sees no CUDA GPU",
            "Set musetalk.device to cpu, or install the driver and a CUDA build of torch",
        )
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the precision of a name.

    "auto" is fp16 on CUDA, as in the reference's realtime script and nearer to fp32 than bf16; fp32 elsewhere.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise InvalidInput(f"there is no dtype {name!r}", "Use auto, fp32, fp16 or bf16", field="dtype")
    return _DTYPES[name]


def describe(device: torch.device) -> list[str]:
    """Returns lines for a report: processor, instruction sets, kernels chosen by torch, threads, device."""
    name, flags = _cpu()
    lines = [
        f"processor       {name} ({platform.machine()})",
        f"instructions    {' '.join(flag for flag in _REPORTED_FLAGS if flag in flags) or 'unknown'}",
        f"torch           {torch.__version__}, CPU kernels {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads",
    ]
    if device.type == "cuda":
        lines.append(f"GPU             {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}")
    return lines


def _cpu() -> tuple[str, set[str]]:
    """Returns the model and the instruction sets of the processor, as far as the system tells."""
    fields: dict[str, str] = {}
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.processor() or "unknown", set(flags.split())
