"""What the embedded renderer costs: one thread, one face at a time. Prints a card, and one JSON line last.

    python benchmarks/mesh.py [PICTURE]

Without a picture it uses the portrait that scikit-image brings along.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.bundle import AvatarInfo, Bundle, Faces, write_faces, write_info
from warmtalk.core.mouth import MouthShape, to_features
from warmtalk.core.types import Box, Image
from warmtalk.models.face import FaceFinder
from warmtalk.models.mesh import MeshRenderer

FACES, RUNS = 50, 9


def main() -> None:
    cv2.setNumThreads(1)
    picture = cv2.imread(sys.argv[1]) if len(sys.argv) > 1 else _portrait()
    finder, renderer = FaceFinder(), MeshRenderer()
    with tempfile.TemporaryDirectory() as folder:
        avatar = renderer.prepare(_bundle(Path(folder) / "portrait", np.asarray(picture, np.uint8), finder))
        talk = to_features(*[_shape(i) for i in range(FACES)])
        find_ms = _median_ms(lambda: finder.find(avatar.bundle.frame(0)), 1)
        first_ms = _median_ms(lambda: (avatar.rows.clear(), renderer.render(avatar, [0], talk[:1])), 1)
        face_ms = _median_ms(lambda: renderer.render(avatar, [0] * FACES, talk), FACES)
    result = {"mesh_ms_per_face": face_ms, "mesh_ms_first_face_of_row": first_ms, "face_finder_ms": find_ms}
    print("embedded renderer, one thread, median of", RUNS, "runs")
    for name, value in result.items():
        print(f"  {name:28} {value:7.2f}")
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


def _shape(i: int) -> MouthShape:
    """Something like speech: the mouth goes through all its shapes."""
    return MouthShape(
        opening=max(0.12 + 0.14 * float(np.sin(i / 2)), 0),
        width=0.1 * float(np.sin(i / 5)),
        protrusion=max(float(np.sin(i / 7)), 0),
        press=max(float(np.cos(i / 3)), 0),
    )


def _median_ms(work: Callable[[], object], per: int) -> float:
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000 / per)
    return statistics.median(times)


def _portrait() -> Image:
    from skimage import data  # only needed here: the demo extra

    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


def _bundle(path: Path, picture: Image, finder: FaceFinder) -> Bundle:
    (path / "frames").mkdir(parents=True)
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(str(path / "frames" / "00000.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    writer.write(picture)
    writer.release()
    points = finder.find(picture)[0].landmarks
    low, high = points.min(0), points.max(0)
    box = Box(int(low[0]), int(2 * points[5, 1] - high[1]), int(high[0]), int(high[1]) + 10)
    boxes = np.array([box.as_tuple()], np.int32)
    write_faces(path, Faces(boxes, np.zeros_like(boxes), points[None], np.ones(1, np.uint8)))
    write_info(path, AvatarInfo(path.name, "benchmark", "", "25", width, height, 1, ("mesh",)))
    return Bundle(path)


if __name__ == "__main__":
    main()
