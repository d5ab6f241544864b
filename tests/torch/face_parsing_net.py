"""The face-parsing network as modules, for tests, with the names of the published 79999_iter.pth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LABELS = 19


class BiSeNet(nn.Module):
    """[n, 3, h, w] normalised RGB, sides divisible by 32, to [n, 19, h, w] scores."""

    def __init__(self) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _Fusion(256, 256)
        self.conv_out = _Output(256, 256)
        self.conv_out16 = _Output(128, 64)
        self.conv_out32 = _Output(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        eighth, context = self.cp(x)
        scores = self.conv_out(self.ffm(torch.cat([eighth, context], 1)))
        return functional.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inward: int, outward: int, side: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inward, outward, side, padding=side // 2, bias=False)
        self.bn = nn.BatchNorm2d(outward)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Output(nn.Module):
    def __init__(self, inward: int, middle: int) -> None:
        super().__init__()
        self.conv = _Conv(inward, middle)
        self.conv_out = nn.Conv2d(middle, LABELS, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class _Attention(nn.Module):
    """Channels weighted by their mean over the whole image."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv = _Conv(inward, outward)
        self.conv_atten = nn.Conv2d(outward, outward, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outward)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)
        weight = self.bn_atten(self.conv_atten(found.mean((2, 3), keepdim=True)))
        return found * weight.sigmoid()


class _Fusion(nn.Module):
    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.convblk = _Conv(inward, outward, 1)
        self.conv1 = nn.Conv2d(outward, outward // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outward // 4, outward, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.convblk(x)
        weight = self.conv2(functional.relu(self.conv1(found.mean((2, 3), keepdim=True))))
        return found + found * weight.sigmoid()


class _ContextPath(nn.Module):
    """[n, 3, h, w] to [n, 128, h/8, w/8] plain features, and [n, 128, h/8, w/8] features with wider context."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _Resnet18()
        self.arm16 = _Attention(256, 128)
        self.arm32 = _Attention(512, 128)
        self.conv_head32 = _Conv(128, 128)
        self.conv_head16 = _Conv(128, 128)
        self.conv_avg = _Conv(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        whole = self.conv_avg(last.mean((2, 3), keepdim=True))
        wide = self.conv_head32(functional.interpolate(self.arm32(last) + whole, sixteenth.shape[2:]))
        return eighth, self.conv_head16(functional.interpolate(self.arm16(sixteenth) + wide, eighth.shape[2:]))


class _Resnet18(nn.Module):
    """Features at 1/8, 1/16 and 1/32 of the size: 128, 256 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        start = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        eighth = self.layer2(self.layer1(start))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _Block(nn.Module):
    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outward)
        self.downsample: nn.Module | None = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        changed = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(changed + (x if self.downsample is None else self.downsample(x)))
