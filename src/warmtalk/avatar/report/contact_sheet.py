"""contact_sheet.png: an overview of the footage with face boxes, mask outlines and verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from warmtalk.avatar.track.frame_quality import INTERPOLATED, LEFT_OUT, PASSED_THROUGH, USED, FrameReport
from warmtalk.avatar.track.frame_table import FrameTable
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Box, Image

COLUMNS, MAX_TILES = 6, 30
_TILE_WIDTH, _TEXT_HEIGHT, _GAP = 216, 34, 6
_MAX_TILE_HEIGHT = 216
_HEADER_HEIGHT = 330
_COLOURS = {
    USED: (90, 190, 70),
    INTERPOLATED: (220, 160, 40),
    PASSED_THROUGH: (40, 120, 240),
    LEFT_OUT: (150, 150, 150),
}
"""BGR."""
_BACKGROUND, _TEXT_COLOUR, _PALE_COLOUR, _MASK_COLOUR = (250, 250, 250), (30, 30, 30), (120, 120, 120), (230, 60, 230)
_LETTER_WIDTH = 19
"""Width of a letter in pixels at font size 1."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(work: Path, table: FrameTable, report: dict[str, Any], title: str) -> Image:
    """Returns the [H, W, 3] BGR sheet of the bundle at `work`, whose frames and masks are already written.

    Reads at most MAX_TILES + 1 frames.
    """
    chosen = _sample_frames(table.frames)
    main = _main_frame(table.frames)
    tiles, header = [], np.full((_HEADER_HEIGHT, _width(), 3), _BACKGROUND, np.uint8)
    for index, image in _read_frames(work, sorted({*chosen, main})):
        outline = _outline(work, table, index)
        if index in chosen:
            tiles.append(_tile(image, table.frames[index], outline))
        if index == main:
            header = _header(image, table, index, outline, report, title)
    blank = np.full_like(tiles[0], _BACKGROUND)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    grid = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    return np.asarray(np.concatenate([header, *grid]), np.uint8)


def _width() -> int:
    return COLUMNS * (_TILE_WIDTH + _GAP)


def _sample_frames(frames: Sequence[FrameReport]) -> set[int]:
    """Returns frames spread over the video, and the first frame after changes of the verdict, at most MAX_TILES."""
    changes = [b.frame for a, b in pairwise(frames) if (a.verdict, a.reason) != (b.verdict, b.reason)]
    kept = changes[:: -(-len(changes) // (MAX_TILES // 2))] if changes else []
    spread = np.linspace(0, len(frames) - 1, min(MAX_TILES - len(kept), len(frames))).round().astype(int)
    return {*kept, *spread.tolist()}


def _main_frame(frames: Sequence[FrameReport]) -> int:
    """Returns the first used frame, or frame 0 when no frame is used."""
    return next((frame.frame for frame in frames if frame.verdict == USED), 0)


def _read_frames(work: Path, indices: Sequence[int]) -> Iterator[tuple[int, Image]]:
    for number in sorted({index // SEGMENT_FRAMES for index in indices}):
        capture = cv2.VideoCapture(str(work / "frames" / f"{number:05d}.mp4"), cv2.CAP_FFMPEG)
        try:
            inside = [index - number * SEGMENT_FRAMES for index in indices if index // SEGMENT_FRAMES == number]
            for offset in range(max(inside) + 1):
                if not capture.grab():
                    break
                if offset in inside and (frame := capture.retrieve())[0]:
                    yield number * SEGMENT_FRAMES + offset, np.asarray(frame[1], np.uint8)
        finally:
            capture.release()


def _outline(work: Path, table: FrameTable, index: int) -> list[np.ndarray[Any, Any]]:
    """Returns contours of the blend mask at half strength, frame pixels; none for a row that is not usable."""
    row = index - table.first_frame
    if not 0 <= row < len(table.faces.usable) or not table.faces.usable[row]:
        return []
    mask = cv2.imread(str(work / "masks" / f"{row:08d}.png"), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        return []
    lines, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [line[:, 0] + table.faces.crop_boxes[row, :2] for line in lines]


def _tile(image: Image, frame: FrameReport, outline: list[np.ndarray[Any, Any]]) -> Image:
    height, width = image.shape[:2]
    scale = min(_TILE_WIDTH / width, _MAX_TILE_HEIGHT / height)
    tall = min(round(height * _TILE_WIDTH / width), _MAX_TILE_HEIGHT)
    small = _annotated(image, scale, frame, outline)
    tile = np.full((tall + _TEXT_HEIGHT + _GAP, _TILE_WIDTH + _GAP, 3), _BACKGROUND, np.uint8)
    left, colour = (_TILE_WIDTH - small.shape[1]) // 2, _COLOURS[frame.verdict]
    tile[: small.shape[0], left : left + small.shape[1]] = small[:tall]
    cv2.rectangle(tile, (0, 0), (_TILE_WIDTH - 1, tall - 1), colour, 2)
    _put_text(tile, f"{frame.time_s:.2f} s  {frame.verdict}", (2, tall + 13), colour, 0.42)
    about = (
        frame.reason
        or f"yaw {round(frame.yaw)} pitch {round(frame.pitch)} roll {round(frame.roll)} sharp {round(frame.sharpness)}"
    )
    _put_text(tile, about, (2, tall + 28), _TEXT_COLOUR, 0.36)
    return tile


def _annotated(image: Image, scale: float, frame: FrameReport, outline: list[np.ndarray[Any, Any]]) -> Image:
    """Returns the image at this scale with the face box and the mask's outline."""
    height, width = image.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    for line in outline:
        cv2.polylines(small, [np.rint(line * scale).astype(np.int32)], True, _MASK_COLOUR, 1, cv2.LINE_AA)
    if frame.box is not None:
        _rectangle(small, frame.box, scale, _COLOURS[frame.verdict])
    return small


def _rectangle(image: Image, box: tuple[int, int, int, int], scale: float, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(side * scale) for side in box)
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour, 1)


def _header(
    image: Image,
    table: FrameTable,
    index: int,
    outline: list[np.ndarray[Any, Any]],
    report: dict[str, Any],
    title: str,
) -> Image:
    """Returns one large frame with the number of each person, an enlarged face, and the text of the report."""
    header = np.full((_HEADER_HEIGHT, _width(), 3), _BACKGROUND, np.uint8)
    room = _HEADER_HEIGHT - 2 * _GAP
    scale = min(room / image.shape[0], 560 / image.shape[1])
    whole = _annotated(image, scale, table.frames[index], outline)
    for one in table.persons:
        colour = _COLOURS[USED] if one.number == table.chosen_person else _COLOURS[PASSED_THROUGH]
        if one.number != table.chosen_person:
            _rectangle(whole, one.box, scale, colour)
        _put_text(
            whole, str(one.number), (round(one.box[0] * scale) + 3, round(one.box[1] * scale) - 4), colour, 0.7, 2
        )
    _paste(header, whole, 0)
    left = whole.shape[1] + _GAP
    box = table.frames[index].box
    if box is not None:
        close = _face_detail(image, Box(*box), outline, room)
        _paste(header, close, left)
        left += close.shape[1] + _GAP
    _write_report(header, left, report, title)
    return header


def _face_detail(image: Image, box: Box, outline: list[np.ndarray[Any, Any]], side: int) -> Image:
    """Returns the enlarged face box with some surroundings, at most `side` pixels high, with the mask's outline."""
    margin = max(box.width, box.height) // 6
    around = Box(box.x1 - margin, box.y1 - margin, box.x2 + margin, box.y2 + margin)
    around = around.clipped(image.shape[1], image.shape[0])
    part = image[around.y1 : around.y2, around.x1 : around.x2]
    scale = min(side / part.shape[0], 320 / part.shape[1])
    moved = tuple(v - o for v, o in zip(box.as_tuple(), (around.x1, around.y1) * 2, strict=True))
    frame = FrameReport(0, 0.0, 1, USED, box=(moved[0], moved[1], moved[2], moved[3]))
    return _annotated(part, scale, frame, [line - (around.x1, around.y1) for line in outline])


def _write_report(header: Image, left: int, report: dict[str, Any], title: str) -> None:
    shift = report["bbox_shift"]
    kind = "automatic" if shift["automatic"] else "given"
    lines = [
        (f"{report['grade']}: {title}", _TEXT_COLOUR, 0.6),
        (str(report["summary"]), _TEXT_COLOUR, 0.42),
        *((f"- {why}", _PALE_COLOUR, 0.42) for why in report["grade_why"]),
        *((f"> {advice}", _COLOURS[PASSED_THROUGH], 0.42) for advice in report["advice"]),
        (f"bbox_shift {shift['used']} ({kind}), adjustable {shift['low']} to {shift['high']}", _TEXT_COLOUR, 0.42),
        (f"loop: frames {report['loop']['first']} to {report['loop']['last']}", _TEXT_COLOUR, 0.42),
    ]
    y = 22
    for text, colour, size in lines:
        for part in textwrap.wrap(text, max(int((header.shape[1] - left) / (_LETTER_WIDTH * size)), 20)):
            if y < header.shape[0] - 20:
                _put_text(header, part, (left, y), colour, size)
                y += 17 if size < 0.5 else 24
    for i, (verdict, colour) in enumerate(_COLOURS.items()):
        _put_text(header, verdict, (left + 110 * i, header.shape[0] - 8), colour, 0.42)


def _paste(header: Image, image: Image, left: int) -> None:
    height, width = min(image.shape[0], header.shape[0] - _GAP), min(image.shape[1], header.shape[1] - left)
    header[:height, left : left + width] = image[:height, :width]


def _put_text(
    image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float, thick: int = 1
) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, at, _FONT, size, colour, thick, cv2.LINE_AA)
