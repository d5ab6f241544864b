"""Conversion between protobuf messages and the types of the core."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import Box, Image, Patch, Samples
from warmtalk.v1 import media_pb2

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def frame_rate(message: media_pb2.FrameRate, default: Fraction, *, highest: int = 120) -> Fraction:
    """Returns frames per second; `default` for an unset message. Raises InvalidInput outside 1 to `highest` fps."""
    if not message.numerator:
        return default
    rate = Fraction(message.numerator, message.denominator or 1)
    if not 1 <= rate <= highest:
        raise InvalidInput(f"frame_rate is {rate}", f"Use 1 to {highest} frames per second", field="frame_rate")
    return rate


def frame_rate_message(rate: Fraction) -> media_pb2.FrameRate:
    """Returns `rate` as a message."""
    return media_pb2.FrameRate(numerator=rate.numerator, denominator=rate.denominator)


def samples(data: bytes, field: str) -> Samples:
    """Returns [n] samples from float32 little-endian bytes.

    Raises InvalidInput for a partial sample, NaN or infinity.
    """
    if len(data) % 4:
        raise InvalidInput(f"{field} has {len(data)} bytes, not a multiple of 4", "Send float32 samples", field=field)
    values: Samples = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise InvalidInput(f"{field} holds NaN or infinity", "Send finite samples in [-1, 1]", field=field)
    return values


def samples_bytes(values: Samples) -> bytes:
    """Returns samples as float32 little-endian bytes."""
    return values.astype("<f4", copy=False).tobytes()


def frame_batch(
    patches: Sequence[Patch], pixel_format: media_pb2.FrameBatch.PixelFormat.ValueType
) -> media_pb2.FrameBatch:
    """Returns a batch message: raw BGR, or JPEG patches of quality 95. The pixels are copied once."""
    jpeg = pixel_format == media_pb2.FrameBatch.PIXEL_FORMAT_JPEG
    batch = media_pb2.FrameBatch(pixel_format=pixel_format if jpeg else media_pb2.FrameBatch.PIXEL_FORMAT_BGR24)
    parts: list[bytes] = []
    for patch in patches:
        pixels = b"" if patch.box.empty else _jpeg(patch.pixels) if jpeg else patch.pixels.tobytes()
        parts.append(pixels)
        added = batch.patches.add(frame_index=patch.frame, source_row=patch.row, byte_count=len(pixels))
        if not patch.box.empty:
            added.box.CopyFrom(box_message(patch.box))
    batch.pixels = b"".join(parts)
    return batch


def patches(batch: media_pb2.FrameBatch) -> list[Patch]:
    """Returns the patches of a batch; raw pixels are views into the message.

    A caller that drops the message must copy the pixels. Raises InvalidInput when pixels and box differ in size.
    """
    result: list[Patch] = []
    offset = 0
    for one in batch.patches:
        data = memoryview(batch.pixels)[offset : offset + one.byte_count]
        offset += one.byte_count
        box = Box(one.box.x1, one.box.y1, one.box.x2, one.box.y2)
        result.append(Patch(one.frame_index, one.source_row, box, _pixels(data, box, batch.pixel_format)))
    return result


def box_message(box: Box) -> media_pb2.Box:
    """Returns `box` as a message."""
    return media_pb2.Box(x1=box.x1, y1=box.y1, x2=box.x2, y2=box.y2)


def _jpeg(pixels: Image) -> bytes:
    _, data = cv2.imencode(".jpg", pixels, _JPEG)
    return data.tobytes()


def _pixels(data: memoryview, box: Box, pixel_format: int) -> Image:
    shape = (box.height, box.width, 3)
    if box.empty:
        return np.empty(shape, np.uint8)
    raw = np.frombuffer(data, np.uint8)
    if pixel_format == media_pb2.FrameBatch.PIXEL_FORMAT_JPEG:
        decoded = cv2.imdecode(raw, cv2.IMREAD_COLOR)
        if decoded is None or decoded.shape != shape:
            raise InvalidInput("a patch is not a JPEG of its box's size", field="pixels")
        return np.asarray(decoded, np.uint8)
    if raw.size != box.height * box.width * 3:
        raise InvalidInput(f"a patch has {raw.size} bytes for {box}", field="pixels")
    return raw.reshape(shape)
