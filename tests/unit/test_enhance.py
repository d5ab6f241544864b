"""warmtalk enhance with a fake network: steady faces, resumable runs, changes on the face only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.audio import syllables, wav
from tests.footage import HEIGHT, WIDTH, grey_frames, panned_frames, portrait, run_ffmpeg, write_video
from warmtalk.cli import main
from warmtalk.cli.enhance import AREAS
from warmtalk.cli.enhance_checkpoint import EnhanceRequest
from warmtalk.cli.enhance_video import enhance_video
from warmtalk.core import face_restoration
from warmtalk.core.errors import BadMedia, InvalidInput
from warmtalk.core.face_restoration import KEEP, SIDE, TEMPLATE, FaceRestoration, five_points, similarity
from warmtalk.core.types import SPEECH_RATE_HZ, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder

FRAMES, SEGMENT = 70, 50
"""Frames of the test video, and of the first of two segments."""


class NoisyRestorer:
    """Fake network that sharpens and adds different noise to each frame, like networks without temporal context."""

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


def flicker(frames: list[Image], box: tuple[slice, slice]) -> float:
    """Returns the mean change from frame to frame inside the box."""
    return float(np.mean([np.abs(a[box].astype(int) - b[box]).mean() for a, b in pairwise(frames)]))


def restored(frames: list[Image], mesh: Points, keep: float) -> list[Image]:
    restoration = FaceRestoration(NoisyRestorer(), keep=keep)
    random = np.random.default_rng(2)
    return [restoration.frame(image, mesh + random.normal(0, 0.3, mesh.shape).astype(np.float32)) for image in frames]


def test_a_still_face_does_not_flicker(mesh: Points) -> None:
    random = np.random.default_rng(0)
    image = portrait()
    source = [np.clip(image + random.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    low, high = mesh.min(0).astype(int), mesh.max(0).astype(int)
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    of_source = flicker(source, box)
    assert flicker(restored(source, mesh, keep=0)[10:], box) > 1.5 * of_source
    assert flicker(restored(source, mesh, keep=KEEP)[10:], box) < 1.05 * of_source


def test_moving_parts_are_restored_without_delay(mesh: Points) -> None:
    """A mouth that opens shows the restoration of the open mouth, not of the closed mouth before."""
    restoration = FaceRestoration(lambda face: 255 - face)
    before = portrait()
    for _ in range(5):
        restoration.frame(before, mesh)
    after = before.copy()
    x, y = (int(v) for v in mesh[[13, 14]].mean(0))
    after[y - 8 : y + 8, x - 14 : x + 14] = (40, 40, 90)
    fresh = FaceRestoration(lambda face: 255 - face).frame(after, mesh)
    continued = restoration.frame(after, mesh)
    inside = np.s_[y - 4 : y + 4, x - 8 : x + 8]
    assert np.abs(continued[inside].astype(int) - fresh[inside]).mean() < 3


def test_only_the_face_changes(mesh: Points) -> None:
    whole, mouth = (
        np.abs(FaceRestoration(NoisyRestorer(), area=area).frame(portrait(), mesh).astype(int) - portrait()).max(2) > 1
        for area in ("face", "mouth")
    )
    low, high = mesh.min(0) - 0.3 * np.ptp(mesh, 0), mesh.max(0) + 0.3 * np.ptp(mesh, 0)
    rows, columns = np.nonzero(whole)
    assert low[0] < columns.min() and columns.max() < high[0] and low[1] < rows.min() and rows.max() < high[1]
    assert 0 < mouth.sum() < 0.5 * whole.sum()
    assert np.nonzero(mouth)[0].min() > mesh[6, 1]


def test_areas_of_the_command_line() -> None:
    assert sorted(face_restoration.AREAS) == list(AREAS)


def test_strength_and_frames_without_a_face(mesh: Points) -> None:
    restoration = FaceRestoration(NoisyRestorer(), strength=0.0)
    assert np.array_equal(restoration.frame(portrait(), mesh), portrait())
    assert restoration.frame(portrait(), None) is not None and restoration.previous is None


def test_alignment_maps_the_points_to_the_template(mesh: Points) -> None:
    turn = similarity(five_points(mesh), TEMPLATE)
    assert np.abs(five_points(mesh) @ turn[:, :2].T + turn[:, 2] - TEMPLATE).max() < 30
    made = TEMPLATE @ np.array([[0.3, 0.1], [-0.1, 0.3]], np.float32) + (7, 9)
    assert np.allclose(
        made @ similarity(made, TEMPLATE)[:, :2].T + similarity(made, TEMPLATE)[:, 2], TEMPLATE, atol=1e-2
    )


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    (folder / "a.wav").write_bytes(wav(syllables(FRAMES / 25)))
    silent = write_video(folder / "silent.mp4", panned_frames(FRAMES))
    inputs = ["-i", str(silent), "-i", str(folder / "a.wav")]
    run_ffmpeg([*inputs, "-c:v", "copy", "-c:a", "flac", "-strict", "-2", str(folder / "talk.mp4")])
    return folder / "talk.mp4"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def audio_hash(path: Path) -> str:
    with av.open(str(path)) as file:
        return hashlib.sha256(b"".join(bytes(packet) for packet in file.demux(audio=0))).hexdigest()


def decode_frames(path: Path) -> list[Image]:
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in file.decode(video=0)]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
async def test_the_audio_is_copied_and_the_face_sharper(talk: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"it's sharp{ending}"
    assert await enhance_video(EnhanceRequest(talk, out), NoisyRestorer(0)) == (FRAMES, FRAMES)
    assert audio_hash(out) == audio_hash(talk)
    before, after = decode_frames(talk), decode_frames(out)
    assert len(after) == FRAMES and after[0].shape == (HEIGHT, WIDTH, 3)
    assert cv2.Laplacian(after[60], cv2.CV_32F).var() > 1.1 * cv2.Laplacian(before[60], cv2.CV_32F).var()
    assert names_in(tmp_path) == [out.name]


async def test_a_cancelled_run_continues_with_the_same_result(talk: Path, tmp_path: Path) -> None:
    await enhance_video(EnhanceRequest(talk, tmp_path / "whole.mp4"), NoisyRestorer(0))
    restorer = NoisyRestorer(0)
    request = EnhanceRequest(talk, tmp_path / "twice.mp4")
    first = asyncio.create_task(enhance_video(request, restorer))
    while restorer.faces < SEGMENT + 2 and not first.done():
        await asyncio.sleep(0.001)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not request.out.exists() and (tmp_path / "twice.mp4.parts").is_dir()
    second = NoisyRestorer(0)
    assert await enhance_video(request, second) == (FRAMES, FRAMES)
    assert second.faces == FRAMES - SEGMENT
    assert not (tmp_path / "twice.mp4.parts").exists()
    pairs = zip(decode_frames(tmp_path / "whole.mp4"), decode_frames(request.out), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


FAKE_NETWORK = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores SIGINT
import cv2
from warmtalk.cli import enhance, enhance_video, main

faces = 0

def sharper(face):
    global faces
    faces += 1
    print("a face", flush=True)
    if faces == int(sys.argv[1]):
        time.sleep(1.0)  # time for a signal
    return cv2.addWeighted(face, 1.6, cv2.GaussianBlur(face, (0, 0), 4), -0.6, 0)

def restore_segments(*args):
    print("reading", flush=True)
    return original(*args)

original, enhance_video._restore_segments = enhance_video._restore_segments, restore_segments
sys.modules["warmtalk.models.faces.gfpgan"] = types.SimpleNamespace(Gfpgan=lambda path, device: sharper)
enhance.find_spec = lambda name: True
enhance.optional_weights.find = lambda models_dir, extra: None
sys.exit(main(["enhance", *sys.argv[2:]]))
"""


def start_command(talk: Path, out: Path, *, pause_at_face: int = 0) -> subprocess.Popen[str]:
    """Starts warmtalk enhance with a fake network in a new process group, so that Ctrl-C reaches all its children.

    The process prints "reading" before the first frame and "a face" for each face.
    """
    command = [sys.executable, "-c", FAKE_NETWORK, str(pause_at_face), str(talk), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def interrupt_after(child: subprocess.Popen[str], lines: list[str]) -> str:
    """Sends Ctrl-C after the expected lines. Returns the error output."""
    assert child.stdout is not None
    for line in lines:
        assert child.stdout.readline() == line
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    return errors


def alive_in(session: int) -> list[str]:
    """Returns the states of the living processes of a session."""
    states = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [state[0] for state in states if int(state[3]) == session and state[0] not in "ZX"]


def test_ctrl_c_stops_and_the_same_command_continues(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "sharp.mp4"
    pause = SEGMENT + 5
    child = start_command(talk, out, pause_at_face=pause)
    errors = interrupt_after(child, ["reading\n", *["a face\n"] * pause])
    assert errors == f"stopped. The same command continues the work; finished parts are in {out}.parts\n"
    assert alive_in(child.pid) == []
    assert names_in(tmp_path) == ["sharp.mp4.parts"]
    assert names_in(tmp_path / "sharp.mp4.parts") == ["00000.mp4", "order.json", "state.safetensors"]
    for _ in range(2):  # while the frames of the finished segment are read again
        assert "cannot" not in interrupt_after(start_command(talk, out), ["reading\n"])
        assert names_in(tmp_path) == ["sharp.mp4.parts"]
    last = start_command(talk, out)
    output, errors = last.communicate(timeout=120)
    assert (last.returncode, errors) == (0, "")
    assert output.count("a face\n") == FRAMES - SEGMENT
    assert output.endswith(f"{out}  ({FRAMES} frames, {FRAMES} with a face)\n")
    assert names_in(tmp_path) == ["sharp.mp4"] and audio_hash(out) == audio_hash(talk)
    assert alive_in(last.pid) == []


@pytest.mark.parametrize(("video_delay", "audio_delay"), [("0.3", "0"), ("0", "0.3")])
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
async def test_video_and_audio_keep_their_offset(
    tmp_path: Path, ending: str, video_delay: str, audio_delay: str
) -> None:
    """A flash and a click, one of both later because the stream starts later."""
    images = panned_frames(35)
    bright = [np.clip(image.astype(int) + 60 * (i >= 20), 0, 255).astype(np.uint8) for i, image in enumerate(images)]
    samples = np.zeros(35 * SPEECH_RATE_HZ // 25, np.float32)
    samples[20 * SPEECH_RATE_HZ // 25 :] = 0.3
    (tmp_path / "a.wav").write_bytes(wav(samples))
    streams = ["-itsoffset", video_delay, "-i", str(write_video(tmp_path / "v.mp4", bright))]
    streams += ["-itsoffset", audio_delay, "-i", str(tmp_path / "a.wav")]
    source, out = tmp_path / f"in{ending}", tmp_path / "out.mkv"
    run_ffmpeg([*streams, "-c:v", "libx264", "-c:a", "aac", str(source)])
    await enhance_video(EnhanceRequest(source, out), lambda face: face)
    assert abs(click_after_flash(out) - click_after_flash(source)) <= 0.021  # half a frame


def click_after_flash(path: Path) -> float:
    """Returns the seconds from the flash to the click."""
    with av.open(str(path)) as file:
        images = [(frame.time, float(frame.to_ndarray(format="gray").mean())) for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        blocks = [(frame.time, frame.to_ndarray()[0], frame.sample_rate) for frame in file.decode(audio=0)]
    flash = next(b[0] for a, b in pairwise(images) if b[1] - a[1] > 25)
    loud = [(time, np.flatnonzero(np.abs(values) > 0.05), rate) for time, values, rate in blocks]
    return float(next(time + at[0] / rate - flash for time, at, rate in loud if at.size))


async def test_two_faces_get_sharper(tmp_path: Path) -> None:
    """The second face is missing in two frames."""
    images = panned_frames(35)
    frames = [
        np.concatenate([image, image if i not in (20, 21) else grey_frames(1)[0]], 1) for i, image in enumerate(images)
    ]
    source = write_video(tmp_path / "two.mp4", frames)
    out = tmp_path / "out.mp4"
    assert await enhance_video(EnhanceRequest(source, out), NoisyRestorer(0)) == (35, 35)
    before, after = decode_frames(source), decode_frames(out)
    for side in (np.s_[:, :WIDTH], np.s_[:, WIDTH:]):
        sharp, soft = (cv2.Laplacian(some[32][side], cv2.CV_32F).var() for some in (after, before))
        assert sharp > 1.1 * soft


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (
            None,
            "needs torch and the library spandrel; not installed in this environment. Run: pip install",
        ),
        (True, "GFPGANv1.4.pth"),
    ],
)
def test_missing_requirements_are_named_in_one_line(
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
    errors = capsys.readouterr().err
    assert words in errors and "Run: " in errors and errors.count("\n") == 1
    assert names_in(tmp_path) == []


async def test_another_request_starts_from_the_beginning(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4.parts"
    folder.mkdir()
    (folder / "order.json").write_text("[]")
    (folder / "00000.mp4").write_bytes(b"of something else")
    assert (await enhance_video(EnhanceRequest(talk, tmp_path / "a.mp4", area="mouth"), NoisyRestorer(0)))[0] == FRAMES


async def test_a_video_without_audio_and_a_file_that_is_no_video(talk: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", panned_frames(10), fps="30000/1001")
    await enhance_video(EnhanceRequest(silent, tmp_path / "a.mp4"), NoisyRestorer(0))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == pytest.approx(29.97, abs=0.01)
    with pytest.raises(InvalidInput, match=r"\.mov cannot hold the audio of talk\.mp4 as it is\. Name OUT \.mkv"):
        await enhance_video(EnhanceRequest(talk, tmp_path / "a.mov"), NoisyRestorer(0))
    (tmp_path / "b.mp4").write_bytes(b"#EXTM3U")
    with pytest.raises(BadMedia, match="list of other files"):
        await enhance_video(EnhanceRequest(tmp_path / "b.mp4", tmp_path / "c.mp4"), NoisyRestorer(0))
    with pytest.raises(InvalidInput, match=r"Name it \.mp4, \.mov or \.mkv"):
        await enhance_video(EnhanceRequest(silent, tmp_path / "c.avi"), NoisyRestorer(0))
