"""warmtalk enhance with a stand-in for the network: steady, resumable, nothing but the face touched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.audio import syllables, wav
from tests.footage import HEIGHT, WIDTH, grey_frames, panned_frames, portrait, run_ffmpeg, write_video
from warmtalk.cli import main
from warmtalk.cli.enhance import EnhanceRequest, enhance
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.face_restoration import KEEP, SIDE, TEMPLATE, FaceRestoration, five_points, similarity
from warmtalk.core.types import SPEECH_RATE_HZ, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder


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
    assert restoration.frame(portrait(), None) is not None and restoration.previous is None


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
    silent = write_video(folder / "silent.mp4", panned_frames(120))
    run_ffmpeg(
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
    assert await enhance(EnhanceRequest(talk, out), Trembling(0)) == (120, 120)
    assert sound_of(out) == sound_of(talk)
    before, after = pictures_of(talk), pictures_of(out)
    assert len(after) == 120 and after[0].shape == (HEIGHT, WIDTH, 3)
    assert cv2.Laplacian(after[60], cv2.CV_32F).var() > 1.1 * cv2.Laplacian(before[60], cv2.CV_32F).var()
    assert names_in(tmp_path) == [out.name]


async def test_a_stopped_one_goes_on_and_gives_the_same(talk: Path, tmp_path: Path) -> None:
    await enhance(EnhanceRequest(talk, tmp_path / "whole.mp4"), Trembling(0))
    restorer = Trembling(0)
    order = EnhanceRequest(talk, tmp_path / "twice.mp4")
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


STAND_IN = """
import importlib.util, signal, sys, time, types
import cv2

def sharper(face):
    time.sleep(float(sys.argv[1]))
    print("a face", flush=True)
    return cv2.addWeighted(face, 1.6, cv2.GaussianBlur(face, (0, 0), 4), -0.6, 0)

from warmtalk.cli import enhance, main
sys.modules["warmtalk.models.faces.gfpgan"] = types.SimpleNamespace(Gfpgan=lambda path, device: sharper)
enhance.find_spec = lambda name: True
enhance.optional_weights.find = lambda models_dir, extra: None
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores it
sys.exit(main(["enhance", *sys.argv[2:]]))
"""


def command(talk: Path, out: Path, pause_s: float) -> subprocess.Popen[str]:
    """warmtalk enhance as a program of its own, with a stand-in for the network alone; Ctrl-C reaches all it starts."""
    words = [sys.executable, "-c", STAND_IN, str(pause_s), str(talk), str(out)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def left_of(session: int) -> list[str]:
    """Processes of this session that live."""
    states = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [state[0] for state in states if int(state[3]) == session and state[0] not in "ZX"]


def test_ctrl_c_stops_it_and_the_same_command_goes_on(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "sharp.mp4"
    child = command(talk, out, 0.01)
    assert child.stdout is not None
    for _ in range(70):
        assert child.stdout.readline() == "a face\n"
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (
        130,
        f"stopped; the same command goes on from there ({out}.parts holds what is done)\n",
    )
    assert left_of(child.pid) == []
    assert names_in(tmp_path) == ["sharp.mp4.parts"]
    assert names_in(tmp_path / "sharp.mp4.parts") == ["00000.mp4", "order.json", "state.safetensors"]
    again = command(talk, out, 0)
    told, said = again.communicate(timeout=120)
    assert (again.returncode, said) == (0, "")
    assert told.count("a face\n") == 70 and told.endswith(f"{out}  (120 frames, a face in 120 of them)\n")
    assert names_in(tmp_path) == ["sharp.mp4"] and sound_of(out) == sound_of(talk)
    assert left_of(again.pid) == []


def test_ctrl_c_while_it_looks_for_where_it_was(talk: Path, tmp_path: Path) -> None:
    """The frames that are done are read again, which takes moments."""
    out = tmp_path / "sharp.mp4"
    child = command(talk, out, 0.01)
    assert child.stdout is not None
    for _ in range(105):
        child.stdout.readline()
    for _ in range(3):
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=60)
        assert child.returncode == 130 and "cannot" not in said, said
        assert names_in(tmp_path) == ["sharp.mp4.parts"]
        child = command(talk, out, 0.01)
        time.sleep(0.8)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)


@pytest.mark.parametrize(("picture", "sound"), [("0.3", "0"), ("0", "0.3")])
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
async def test_picture_and_sound_keep_their_distance(tmp_path: Path, ending: str, picture: str, sound: str) -> None:
    """A flash and a click, one of them later because its stream begins later."""
    images = panned_frames(50)
    bright = [np.clip(image.astype(int) + 60 * (i >= 25), 0, 255).astype(np.uint8) for i, image in enumerate(images)]
    samples = np.zeros(2 * SPEECH_RATE_HZ, np.float32)
    samples[SPEECH_RATE_HZ:] = 0.3
    (tmp_path / "a.wav").write_bytes(wav(samples))
    streams = ["-itsoffset", picture, "-i", str(write_video(tmp_path / "v.mp4", bright))]
    streams += ["-itsoffset", sound, "-i", str(tmp_path / "a.wav")]
    source, out = tmp_path / f"in{ending}", tmp_path / "out.mkv"
    run_ffmpeg([*streams, "-c:v", "libx264", "-c:a", "aac", str(source)])
    await enhance(EnhanceRequest(source, out), lambda face: face)
    assert abs(click_after_flash(out) - click_after_flash(source)) <= 0.021  # half a frame


def click_after_flash(path: Path) -> float:
    """Seconds."""
    with av.open(str(path)) as file:
        seen = [(frame.time, float(frame.to_ndarray(format="gray").mean())) for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        heard = [(frame.time, frame.to_ndarray()[0], frame.sample_rate) for frame in file.decode(audio=0)]
    flash = next(b[0] for a, b in pairwise(seen) if b[1] - a[1] > 25)
    loud = [(time, np.flatnonzero(np.abs(values) > 0.05), rate) for time, values, rate in heard]
    return float(next(time + at[0] / rate - flash for time, at, rate in loud if at.size))


async def test_of_two_faces_both_get_sharper(tmp_path: Path) -> None:
    images = panned_frames(60)
    away = [
        np.concatenate([image, image if i not in (30, 31) else grey_frames(1)[0]], 1) for i, image in enumerate(images)
    ]
    source = write_video(tmp_path / "two.mp4", away)
    out = tmp_path / "out.mp4"
    assert await enhance(EnhanceRequest(source, out), Trembling(0)) == (60, 60)
    before, after = pictures_of(source), pictures_of(out)
    for side in (np.s_[:, :WIDTH], np.s_[:, WIDTH:]):
        sharp, soft = (cv2.Laplacian(some[50][side], cv2.CV_32F).var() for some in (after, before))
        assert sharp > 1.1 * soft


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (None, "this needs torch and the library spandrel, which this environment does not have. Run: make venv-full"),
        (True, "GFPGANv1.4.pth"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    talk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: object,
    words: str,
) -> None:
    monkeypatch.setattr("warmtalk.cli.enhance.find_spec", lambda name: installed)
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(tmp_path / "models"))
    assert main(["enhance", str(talk), str(tmp_path / "a.mp4")]) == 1
    said = capsys.readouterr().err
    assert words in said and "Run: " in said and said.count("\n") == 1
    assert names_in(tmp_path) == []


async def test_another_order_starts_anew(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4.parts"
    folder.mkdir()
    (folder / "order.json").write_text("[]")
    (folder / "00000.mp4").write_bytes(b"of something else")
    assert (await enhance(EnhanceRequest(talk, tmp_path / "a.mp4", area="mouth"), Trembling(0)))[0] == 120


async def test_a_film_without_sound_and_one_that_is_none(talk: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", panned_frames(10), fps="30000/1001")
    await enhance(EnhanceRequest(silent, tmp_path / "a.mp4"), Trembling(0))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == pytest.approx(29.97, abs=0.01)
    with pytest.raises(InvalidInput, match=r"\.mov cannot hold the sound of talk\.mp4 as it is\. Name OUT \.mkv"):
        await enhance(EnhanceRequest(talk, tmp_path / "a.mov"), Trembling(0))
    (tmp_path / "b.mp4").write_bytes(b"#EXTM3U")
    with pytest.raises(BadMedia, match="list of other files"):
        await enhance(EnhanceRequest(tmp_path / "b.mp4", tmp_path / "c.mp4"), Trembling(0))
    with pytest.raises(InvalidInput, match=r"Name it \.mp4, \.mov or \.mkv"):
        await enhance(EnhanceRequest(silent, tmp_path / "c.avi"), Trembling(0))
