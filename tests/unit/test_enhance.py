"""warmtalk enhance with a stand-in for the network: steady, resumable, nothing but the face touched."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.footage import HEIGHT, WIDTH, film, panned, portrait, run
from tests.sounds import syllables, wav
from warmtalk.cli.enhance import Order, enhance
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.restore import KEEP, SIDE, TEMPLATE, FaceRestoration, five_points, similarity
from warmtalk.core.types import Image, Points
from warmtalk.models.faces.mesh import FaceFinder


class Trembling:
    """Sharpens, and adds noise that is another for each frame, as networks that see one frame alone do."""

    def __init__(self, noise: float = 8.0) -> None:
        self.faces = 0
        self._noise = noise
        self._random = np.random.default_rng(1)

    def __call__(self, face: Image) -> Image:
        self.faces += 1
        assert face.shape == (SIDE, SIDE, 3) and face.dtype == np.uint8
        sharp = cv2.addWeighted(face, 1.6, cv2.GaussianBlur(face, (0, 0), 4), -0.6, 0)
        coarse = self._random.normal(0, self._noise, (SIDE // 8, SIDE // 8, 3)).astype(np.float32)
        return np.clip(sharp + cv2.resize(coarse, (SIDE, SIDE)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mesh() -> Points:
    return FaceFinder().find(portrait())[0].landmarks


def trembling_of(frames: list[Image], box: tuple[slice, slice]) -> float:
    """Mean change from frame to frame inside the box."""
    return float(np.mean([np.abs(a[box].astype(int) - b[box]).mean() for a, b in pairwise(frames)]))


def restored(frames: list[Image], mesh: Points, keep: float) -> list[Image]:
    restoration = FaceRestoration(Trembling(), keep=keep)
    random = np.random.default_rng(2)
    return [restoration.frame(image, mesh + random.normal(0, 0.3, mesh.shape).astype(np.float32)) for image in frames]


def test_a_face_that_is_still_stays_still(mesh: Points) -> None:
    random = np.random.default_rng(0)
    source = [np.clip(portrait() + random.normal(0, 1.5, portrait().shape), 0, 255).astype(np.uint8) for _ in range(40)]
    low, high = mesh.min(0).astype(int), mesh.max(0).astype(int)
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    own = trembling_of(source, box)
    unsteady = trembling_of(restored(source, mesh, keep=0)[10:], box)
    steady = trembling_of(restored(source, mesh, keep=KEEP)[10:], box)
    assert unsteady > 1.5 * own
    assert steady < 1.05 * own


def test_what_moves_is_taken_fresh(mesh: Points) -> None:
    """A mouth that opens shows its own restoration, not that of the closed one."""
    restoration = FaceRestoration(lambda face: 255 - face)
    before = portrait()
    for _ in range(5):
        restoration.frame(before, mesh)
    after = before.copy()
    x, y = (int(v) for v in mesh[[13, 14]].mean(0))
    after[y - 8 : y + 8, x - 14 : x + 14] = (40, 40, 90)
    fresh = FaceRestoration(lambda face: 255 - face).frame(after, mesh)
    seen = restoration.frame(after, mesh)
    inside = np.s_[y - 4 : y + 4, x - 8 : x + 8]
    assert np.abs(seen[inside].astype(int) - fresh[inside]).mean() < 3


def test_only_the_face_changes(mesh: Points) -> None:
    whole, mouth = (
        np.abs(FaceRestoration(Trembling(), area=area).frame(portrait(), mesh).astype(int) - portrait()).max(2) > 1
        for area in ("face", "mouth")
    )
    low, high = mesh.min(0) - 0.3 * np.ptp(mesh, 0), mesh.max(0) + 0.3 * np.ptp(mesh, 0)
    rows, columns = np.nonzero(whole)
    assert low[0] < columns.min() and columns.max() < high[0] and low[1] < rows.min() and rows.max() < high[1]
    assert 0 < mouth.sum() < 0.5 * whole.sum()
    assert np.nonzero(mouth)[0].min() > mesh[6, 1]


def test_strength_and_frames_without_a_face(mesh: Points) -> None:
    restoration = FaceRestoration(Trembling(), strength=0.0)
    assert np.array_equal(restoration.frame(portrait(), mesh), portrait())
    assert restoration.frame(portrait(), None) is not None and restoration.memory is None


def test_alignment_brings_the_points_to_the_template(mesh: Points) -> None:
    turn = similarity(five_points(mesh), TEMPLATE)
    assert np.abs(five_points(mesh) @ turn[:, :2].T + turn[:, 2] - TEMPLATE).max() < 30
    made = TEMPLATE @ np.array([[0.3, 0.1], [-0.1, 0.3]], np.float32) + (7, 9)
    assert np.allclose(
        made @ similarity(made, TEMPLATE)[:, :2].T + similarity(made, TEMPLATE)[:, 2], TEMPLATE, atol=1e-2
    )


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    (folder / "a.wav").write_bytes(wav(syllables(4.8)))
    silent = film(folder / "silent.mp4", panned(120))
    run(
        [
            "-i",
            str(silent),
            "-i",
            str(folder / "a.wav"),
            "-c:v",
            "copy",
            "-c:a",
            "flac",
            "-strict",
            "-2",
            str(folder / "talk.mp4"),
        ]
    )
    return folder / "talk.mp4"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sound_of(path: Path) -> str:
    with av.open(str(path)) as file:
        return hashlib.sha256(b"".join(bytes(packet) for packet in file.demux(audio=0))).hexdigest()


def pictures_of(path: Path) -> list[Image]:
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in file.decode(video=0)]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
async def test_the_sound_is_copied_and_the_face_sharper(talk: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"it's sharp{ending}"
    assert await enhance(Order(talk, out), Trembling(0)) == (120, 120)
    assert sound_of(out) == sound_of(talk)
    before, after = pictures_of(talk), pictures_of(out)
    assert len(after) == 120 and after[0].shape == (HEIGHT, WIDTH, 3)
    assert cv2.Laplacian(after[60], cv2.CV_32F).var() > 1.1 * cv2.Laplacian(before[60], cv2.CV_32F).var()
    assert names_in(tmp_path) == [out.name]


async def test_a_stopped_one_goes_on_and_gives_the_same(talk: Path, tmp_path: Path) -> None:
    await enhance(Order(talk, tmp_path / "whole.mp4"), Trembling(0))
    restorer = Trembling(0)
    order = Order(talk, tmp_path / "twice.mp4")
    first = asyncio.create_task(enhance(order, restorer))
    while restorer.faces < 70 and not first.done():
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not order.out.exists() and (tmp_path / "twice.mp4.parts").is_dir()
    again = Trembling(0)
    assert await enhance(order, again) == (120, 120)
    assert again.faces == 70
    assert not (tmp_path / "twice.mp4.parts").exists()
    pairs = zip(pictures_of(tmp_path / "whole.mp4"), pictures_of(order.out), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


async def test_another_order_starts_anew(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4.parts"
    folder.mkdir()
    (folder / "order.json").write_text("[]")
    (folder / "00000.mp4").write_bytes(b"of something else")
    assert (await enhance(Order(talk, tmp_path / "a.mp4", area="mouth"), Trembling(0)))[0] == 120


async def test_a_film_without_sound_and_one_that_is_none(talk: Path, tmp_path: Path) -> None:
    silent = film(tmp_path / "silent.mp4", panned(10), fps="30000/1001")
    await enhance(Order(silent, tmp_path / "a.mp4"), Trembling(0))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == pytest.approx(29.97, abs=0.01)
    with pytest.raises(InvalidInput, match=r"\.mov cannot hold the sound of talk\.mp4 as it is\. Name OUT \.mkv"):
        await enhance(Order(talk, tmp_path / "a.mov"), Trembling(0))
    (tmp_path / "b.mp4").write_bytes(b"#EXTM3U")
    with pytest.raises(BadMedia, match="list of other files"):
        await enhance(Order(tmp_path / "b.mp4", tmp_path / "c.mp4"), Trembling(0))
    with pytest.raises(InvalidInput, match=r"Name it \.mp4, \.mov or \.mkv"):
        await enhance(Order(silent, tmp_path / "c.avi"), Trembling(0))
