"""contact_sheet.png: the footage at a glance, with boxes, the mask's outline and the verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from warmtalk.avatar.track.frame_quality import INTERPOLATED, LEFT_OUT, PASSED, USED, FrameReport
from warmtalk.avatar.track.frame_table import FrameTable
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Box, Image

COLUMNS, TILES = 6, 30
_TILE, _TEXT, _GAP = 216, 34, 6
_TALLEST = 216
_HEAD = 330
_COLOURS = {USED: (90, 190, 70), INTERPOLATED: (220, 160, 40), PASSED: (40, 120, 240), LEFT_OUT: (150, 150, 150)}
"""BGR."""
_PAPER, _INK, _PALE, _MASK = (250, 250, 250), (30, 30, 30), (120, 120, 120), (230, 60, 230)
_LETTER = 19
"""Pixels across, at size 1."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(work: Path, found: FrameTable, report: dict[str, Any], title: str) -> Image:
    """[H, W, 3] BGR of the bundle at `work`, whose frames and masks are written. Reads at most TILES + 1 frames."""
    chosen = _chosen(found.frames)
    best = _best(found.frames)
    tiles, head = [], np.full((_HEAD, _width(), 3), _PAPER, np.uint8)
    for index, image in _pictures(work, sorted({*chosen, best})):
        outline = _outline(work, found, index)
        if index in chosen:
            tiles.append(_tile(image, found.frames[index], outline))
        if index == best:
            head = _head(image, found, index, outline, report, title)
    blank = np.full_like(tiles[0], _PAPER)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    grid = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    return np.asarray(np.concatenate([head, *grid]), np.uint8)


def _width() -> int:
    return COLUMNS * (_TILE + _GAP)


def _chosen(frames: Sequence[FrameReport]) -> set[int]:
    """Frames spread over the film, and the first one after each change of verdict, as many as there is room for."""
    changes = [b.frame for a, b in pairwise(frames) if (a.verdict, a.reason) != (b.verdict, b.reason)]
    kept = changes[:: -(-len(changes) // (TILES // 2))] if changes else []
    spread = np.linspace(0, len(frames) - 1, min(TILES - len(kept), len(frames))).round().astype(int)
    return {*kept, *spread.tolist()}


def _best(frames: Sequence[FrameReport]) -> int:
    """The first frame that is used, else the first."""
    return next((frame.frame for frame in frames if frame.verdict == USED), 0)


def _pictures(work: Path, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    for number in sorted({index // SEGMENT_FRAMES for index in wanted}):
        capture = cv2.VideoCapture(str(work / "frames" / f"{number:05d}.mp4"), cv2.CAP_FFMPEG)
        try:
            inside = [index - number * SEGMENT_FRAMES for index in wanted if index // SEGMENT_FRAMES == number]
            for place in range(max(inside) + 1):
                if not capture.grab():
                    break
                if place in inside and (picture := capture.retrieve())[0]:
                    yield number * SEGMENT_FRAMES + place, np.asarray(picture[1], np.uint8)
        finally:
            capture.release()


def _outline(work: Path, found: FrameTable, index: int) -> list[np.ndarray[Any, Any]]:
    """Contours of the blend mask at half of its strength, frame pixels; none where nothing is drawn."""
    row = index - found.first
    if not 0 <= row < len(found.faces.usable) or not found.faces.usable[row]:
        return []
    mask = cv2.imread(str(work / "masks" / f"{row:08d}.png"), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        return []
    lines, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [line[:, 0] + found.faces.crop_boxes[row, :2] for line in lines]


def _tile(image: Image, frame: FrameReport, outline: list[np.ndarray[Any, Any]]) -> Image:
    height, width = image.shape[:2]
    scale = min(_TILE / width, _TALLEST / height)
    tall = min(round(height * _TILE / width), _TALLEST)
    small = _drawn(image, scale, frame, outline)
    tile = np.full((tall + _TEXT + _GAP, _TILE + _GAP, 3), _PAPER, np.uint8)
    left, colour = (_TILE - small.shape[1]) // 2, _COLOURS[frame.verdict]
    tile[: small.shape[0], left : left + small.shape[1]] = small[:tall]
    cv2.rectangle(tile, (0, 0), (_TILE - 1, tall - 1), colour, 2)
    _text(tile, f"{frame.time_s:.2f} s  {frame.verdict}", (2, tall + 13), colour, 0.42)
    about = (
        frame.reason
        or f"yaw {round(frame.yaw)} pitch {round(frame.pitch)} roll {round(frame.roll)} sharp {round(frame.sharpness)}"
    )
    _text(tile, about, (2, tall + 28), _INK, 0.36)
    return tile


def _drawn(image: Image, scale: float, frame: FrameReport, outline: list[np.ndarray[Any, Any]]) -> Image:
    """The picture at this scale with box and mask."""
    height, width = image.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)
    for line in outline:
        cv2.polylines(small, [np.rint(line * scale).astype(np.int32)], True, _MASK, 1, cv2.LINE_AA)
    if frame.box is not None:
        _box(small, frame.box, scale, _COLOURS[frame.verdict])
    return small


def _box(image: Image, box: tuple[int, int, int, int], scale: float, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(side * scale) for side in box)
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour, 1)


def _head(
    image: Image,
    found: FrameTable,
    index: int,
    outline: list[np.ndarray[Any, Any]],
    report: dict[str, Any],
    title: str,
) -> Image:
    """One frame large with everybody's number, the face larger, and the report's words."""
    head = np.full((_HEAD, _width(), 3), _PAPER, np.uint8)
    room = _HEAD - 2 * _GAP
    scale = min(room / image.shape[0], 560 / image.shape[1])
    whole = _drawn(image, scale, found.frames[index], outline)
    for one in found.people:
        colour = _COLOURS[USED] if one.number == found.chosen else _COLOURS[PASSED]
        if one.number != found.chosen:
            _box(whole, one.box, scale, colour)
        _text(whole, str(one.number), (round(one.box[0] * scale) + 3, round(one.box[1] * scale) - 4), colour, 0.7, 2)
    _paste(head, whole, 0)
    left = whole.shape[1] + _GAP
    box = found.frames[index].box
    if box is not None:
        close = _close(image, Box(*box), outline, room)
        _paste(head, close, left)
        left += close.shape[1] + _GAP
    _words(head, left, report, title)
    return head


def _close(image: Image, box: Box, outline: list[np.ndarray[Any, Any]], side: int) -> Image:
    """The face box and a little around it, `side` pixels high, with the mask's outline."""
    margin = max(box.width, box.height) // 6
    around = Box(box.x1 - margin, box.y1 - margin, box.x2 + margin, box.y2 + margin)
    around = around.clipped(image.shape[1], image.shape[0])
    part = image[around.y1 : around.y2, around.x1 : around.x2]
    scale = min(side / part.shape[0], 320 / part.shape[1])
    moved = tuple(v - o for v, o in zip(box.as_tuple(), (around.x1, around.y1) * 2, strict=True))
    frame = FrameReport(0, 0.0, 1, USED, box=(moved[0], moved[1], moved[2], moved[3]))
    return _drawn(part, scale, frame, [line - (around.x1, around.y1) for line in outline])


def _words(head: Image, left: int, report: dict[str, Any], title: str) -> None:
    shift = report["bbox_shift"]
    kind = "automatic" if shift["automatic"] else "given"
    lines = [
        (f"{report['grade']}: {title}", _INK, 0.6),
        (str(report["summary"]), _INK, 0.42),
        *((f"- {why}", _PALE, 0.42) for why in report["grade_why"]),
        *((f"> {advice}", _COLOURS[PASSED], 0.42) for advice in report["advice"]),
        (f"bbox_shift {shift['used']} ({kind}), adjustable {shift['low']} to {shift['high']}", _INK, 0.42),
        (f"loop: frames {report['loop']['first']} to {report['loop']['last']}", _INK, 0.42),
    ]
    y = 22
    for text, colour, size in lines:
        for part in textwrap.wrap(text, max(int((head.shape[1] - left) / (_LETTER * size)), 20)):
            if y < head.shape[0] - 20:
                _text(head, part, (left, y), colour, size)
                y += 17 if size < 0.5 else 24
    for i, (verdict, colour) in enumerate(_COLOURS.items()):
        _text(head, verdict, (left + 110 * i, head.shape[0] - 8), colour, 0.42)


def _paste(head: Image, image: Image, left: int) -> None:
    height, width = min(image.shape[0], head.shape[0] - _GAP), min(image.shape[1], head.shape[1] - left)
    head[:height, left : left + width] = image[:height, :width]


def _text(
    image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float, thick: int = 1
) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, at, _FONT, size, colour, thick, cv2.LINE_AA)
