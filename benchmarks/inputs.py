"""Generated inputs of the benchmarks: photo, video, avatar and speech."""

from __future__ import annotations

import hashlib
import io
import subprocess
import wave
from pathlib import Path

import cv2
import numpy as np

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.core.bundle import Bundle
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.video_decode import SourceLimits
from warmtalk.sample_photo import read_sample_photo
from warmtalk.store import AvatarStore


def write_photo(folder: Path) -> Path:
    """Writes a photo of Eileen Collins (NASA, public domain): head and shoulders, 1280 x 720, blurred background."""
    portrait = read_sample_photo()
    background = cv2.GaussianBlur(cv2.resize(portrait, (1280, 720)), (0, 0), 30)
    background[:, 280:1000] = cv2.resize(portrait[:320, 64:384], (720, 720), interpolation=cv2.INTER_CUBIC)
    path = folder / "photo.png"
    cv2.imwrite(str(path), background)
    return path


def write_video(path: Path, seconds: int, width: int, height: int) -> Path:
    """Writes a video of the photo at 25 fps: the head sways and nods, and the camera has some noise."""
    image = cv2.imread(str(write_photo(path.parent)))
    assert image is not None
    whole = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 2, (8, height, width, 3)).astype(np.int8)
    size = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", "25", "-i", "pipe:0"]
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen([find_ffmpeg(), "-v", "error", "-y", *size, *coding], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        for number in range(seconds * 25):
            turn = cv2.getRotationMatrix2D((width / 2, height * 0.8), 3 * np.sin(number / 17), 1.0)
            turn[:, 2] += width / 90 * np.sin(number / 23), height / 120 * np.sin(number / 11)
            frame = cv2.warpAffine(whole, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
            child.stdin.write(cv2.add(frame, noise[number % 8], dtype=cv2.CV_8U).data)
        child.stdin.close()
    assert child.returncode == 0
    return path


def repeat_video(video: Path, path: Path, times: int) -> Path:
    """Writes `times` repetitions of the video, without re-encoding."""
    loop = ["-stream_loop", str(times - 1), "-i", str(video), "-c", "copy", str(path)]
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", *loop], check=True)
    return path


def build_bundle(folder: Path) -> Bundle:
    """Builds an avatar of the photo with 25 frames."""
    source = write_photo(folder)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    store = AvatarStore(folder / "avatars")
    request = BuildRequest("bench", source, source.name, digest, BuildParams(still_seconds=1.0))
    AvatarBuilder(store, SourceLimits()).build(request, lambda progress: None)
    return store.open("bench")


def synthetic_speech(seconds: float) -> bytes:
    """Returns a 16 kHz WAV file with syllables: a buzz of 120 Hz, loud and quiet three times a second."""
    t = np.arange(int(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25))
    audio = buzz * np.clip(np.sin(2 * np.pi * 3 * t), 0, None) * 0.2
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes((audio * 32767).astype("<i2").tobytes())
    return file.getvalue()
