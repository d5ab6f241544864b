"""Face parsing: BiSeNet (Yu et al., ECCV 2018) on ResNet-18, as trained on CelebAMask-HQ.

Names and shapes are those of the published 79999_iter.pth. As in the training of that file, the ResNet features at 1/8
of the size replace the spatial path. The two outputs used in training only are not loaded. Batch norms are folded into
the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import Damaged
from warmtalk.core.masks import assemble
from warmtalk.core.types import Mask
from warmtalk.models.checkpoints.tensor_files import Tensors, read_tensors
from warmtalk.models.device import pick_device
from warmtalk.models.faces import parsing

LABELS = 19
_NORM = {"conv": "bn", "conv1": "bn1", "conv2": "bn2", "conv_atten": "bn_atten", "0": "1"}
"""Last part of the name of a convolution -> last part of the name of the following batch norm."""
_EPSILON = 1e-5


class BisenetParser:
    """A core.ports.FaceParser. The masks equal the reference program's, bit for bit after the network."""

    name = "bisenet"

    def __init__(self, path: Path, device: str = "auto", mode: str = "jaw", cheeks: tuple[int, int] = (90, 90)) -> None:
        """`path` is 79999_iter.pth. Raises NotReady for a missing GPU, Damaged for another file."""
        self._device = pick_device(device)
        self._net = BiSeNet(path, self._device)
        self._mode = mode
        self._cheeks = cheeks

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """See core.ports.FaceParser."""
        crop = bundle.crop_box(row)
        labels = self.labels(parsing.network_input(parsing.crop_with_black(bundle.frame(row), crop)))
        hard = parsing.over_crop(parsing.hard_mask(labels, self._mode, self._cheeks), crop.width)
        return assemble(hard, bundle.box(row), crop)

    def labels(self, pixels: npt.NDArray[np.float32]) -> Mask:
        """Returns [512, 512] labels, 0 to 18, for [1, 3, 512, 512] normalised RGB."""
        with torch.inference_mode():
            scores = self._net(torch.from_numpy(pixels).to(self._device))
            return np.asarray(scores[0].argmax(0).to(torch.uint8).cpu().numpy(), np.uint8)


class BiSeNet:
    """The network: [n, 3, h, w] normalised RGB, sides divisible by 32, to [n, 19, h, w] scores."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises Damaged for a file other than 79999_iter.pth."""
        shapes = _shapes()
        tensors = read_tensors(path, torch.float32, lambda name: not name.startswith(("conv_out16.", "conv_out32.")))
        try:
            folded = {name: _fold_batch_norm(tensors, name, shape) for name, shape in shapes.items()}
        except (KeyError, ValueError) as error:
            raise Damaged(
                f"{path} is not the face-parsing network ({error})",
                "Delete it, then run: warmtalk weights fetch bisenet",
            ) from error
        self._layers = {name: (weight.to(device), bias.to(device)) for name, (weight, bias) in folded.items()}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        eighth, sixteenth, last = self._resnet(x)
        wide = self._attention("cp.arm32", last) + self._global_conv("cp.conv_avg.conv", last).relu()
        wide = self._conv("cp.conv_head32.conv", _upsample(wide, sixteenth)).relu()
        near = self._attention("cp.arm16", sixteenth) + wide
        near = self._conv("cp.conv_head16.conv", _upsample(near, eighth)).relu()
        both = self._conv("ffm.convblk.conv", torch.cat([eighth, near], 1)).relu()
        both = both + both * self._conv("ffm.conv2", self._global_conv("ffm.conv1", both).relu()).sigmoid()
        scores = self._conv("conv_out.conv_out", self._conv("conv_out.conv.conv", both).relu())
        return functional.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)

    def _resnet(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns features at 1/8, 1/16 and 1/32 of the size, with 128, 256 and 512 channels."""
        x = functional.max_pool2d(self._conv("cp.resnet.conv1", x, 2).relu(), 3, 2, 1)
        features = []
        for layer in range(1, 5):
            for block in range(2):
                prefix, stride = f"cp.resnet.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
                residual = self._conv(f"{prefix}.conv2", self._conv(f"{prefix}.conv1", x, stride).relu())
                x = (residual + (x if stride == 1 else self._conv(f"{prefix}.downsample.0", x, stride))).relu()
            features.append(x)
        return features[1:]

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Applies channel attention, computed from the mean over the whole image."""
        features = self._conv(f"{name}.conv.conv", x).relu()
        return features * self._global_conv(f"{name}.conv_atten", features).sigmoid()

    def _global_conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self._conv(name, x.mean((2, 3), keepdim=True))

    def _conv(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight, bias = self._layers[name]
        return functional.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)


def _upsample(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, like.shape[2:])


def _fold_batch_norm(tensors: Tensors, name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns weight and bias of a convolution with the following batch norm folded in. Raises KeyError, ValueError."""
    weight = tensors[f"{name}.weight"]
    if tuple(weight.shape) != shape:
        raise ValueError(f"{name} is {tuple(weight.shape)}, not {shape}")
    before, _, last = name.rpartition(".")
    norm = f"{before}.{_NORM.get(last, '')}"
    if last not in _NORM or name in ("ffm.conv1", "ffm.conv2"):
        return weight, torch.zeros(len(weight))
    mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
    scale = tensors[f"{norm}.weight"] / (variance + _EPSILON).sqrt()
    return weight * scale[:, None, None, None], tensors[f"{norm}.bias"] - mean * scale


def _shapes() -> Mapping[str, tuple[int, ...]]:
    """Returns the weight shape of every convolution that is used."""
    shapes = {"cp.resnet.conv1": (64, 3, 7, 7)}
    channels_in = 64
    for layer, channels_out in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            prefix = f"cp.resnet.layer{layer}.{block}"
            shapes |= {
                f"{prefix}.conv1": (channels_out, channels_in, 3, 3),
                f"{prefix}.conv2": (channels_out, channels_out, 3, 3),
            }
            if channels_in != channels_out:
                shapes[f"{prefix}.downsample.0"] = (channels_out, channels_in, 1, 1)
            channels_in = channels_out
    for name, channels_in in (("cp.arm16", 256), ("cp.arm32", 512)):
        shapes |= {f"{name}.conv.conv": (128, channels_in, 3, 3), f"{name}.conv_atten": (128, 128, 1, 1)}
    return shapes | {
        "cp.conv_head32.conv": (128, 128, 3, 3),
        "cp.conv_head16.conv": (128, 128, 3, 3),
        "cp.conv_avg.conv": (128, 512, 1, 1),
        "ffm.convblk.conv": (256, 256, 1, 1),
        "ffm.conv1": (64, 256, 1, 1),
        "ffm.conv2": (256, 64, 1, 1),
        "conv_out.conv.conv": (256, 256, 3, 3),
        "conv_out.conv_out": (LABELS, 256, 1, 1),
    }
