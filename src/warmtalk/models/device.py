"""Where networks run, and in which precision. Needs torch."""

from __future__ import annotations

import torch

from warmtalk.core.errors import InvalidInput, NotReady

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """ "auto" takes CUDA where there is one. Raises NotReady when CUDA is asked for and absent.

    On CUDA fp32 is fp32, not TF32, and the fastest way through a convolution is looked for when its size is met first.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"there is no device {name!r}", "Use auto, cpu, cuda or cuda:0", field="device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NotReady(
            f"device {name} was asked for, but torch {torch.__version__} sees no CUDA GPU",
            "Set musetalk.device to cpu, or install the driver and a CUDA build of torch",
        )
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """ "auto" is fp16 on CUDA, as in the reference's realtime script and nearer to fp32 than bf16; else fp32."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise InvalidInput(f"there is no dtype {name!r}", "Use auto, fp32, fp16 or bf16", field="dtype")
    return _DTYPES[name]
