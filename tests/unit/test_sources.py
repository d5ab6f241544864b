"""Sources as users send them: each becomes an avatar or is rejected with a helpful message; the report is checked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.footage import (
    HEIGHT,
    WIDTH,
    grey_frames,
    panned_frames,
    portrait,
    run_ffmpeg,
    write_lossless_video,
    write_photo,
    write_video,
)
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media.video_decode import SourceLimits
from warmtalk.store import AvatarStore


@dataclass(frozen=True)
class BuiltAvatar:
    """A finished bundle and its report."""

    bundle: Bundle
    report: dict[str, Any]

    @property
    def verdicts(self) -> list[str]:
        return [frame["verdict"] for frame in self.report["frames"]]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> tuple[AvatarBuilder, AvatarStore]:
    store = AvatarStore(tmp_path_factory.mktemp("avatars"))
    return AvatarBuilder(store, SourceLimits()), store


@pytest.fixture
def make(builder: tuple[AvatarBuilder, AvatarStore], request: pytest.FixtureRequest) -> Any:
    def build(source: Path, **params: Any) -> BuiltAvatar:
        name = f"a{abs(hash(request.node.name)) % 10**12}"
        build_params = BuildParams(still_seconds=0.2, **params)
        builder[0].build(BuildRequest(name, source, source.name, "0", build_params), lambda progress: None)
        path = builder[1].path(name)
        return BuiltAvatar(Bundle(path), json.loads((path / "report.json").read_text()))

    return build


def rotated(degrees: float) -> Image:
    """Returns the portrait, rotated clockwise around the face."""
    matrix = cv2.getRotationMatrix2D((222, 130), -degrees, 1)
    return np.asarray(cv2.warpAffine(portrait(), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize(
    ("edge", "x", "y"), [("left", 200, 40), ("right", 50, 40), ("top", 115, 100), ("bottom", 115, 0)]
)
@pytest.mark.parametrize("write", [write_lossless_video, write_video])
def test_a_face_cut_by_an_edge_is_used(make: Any, tmp_path: Path, write: Any, edge: str, x: int, y: int) -> None:
    """The face is used while the mouth is inside the frame, with every encoder."""
    image = portrait()[y : y + 160, x : x + 192]
    made = make(write(tmp_path / "a.mkv", [image] * 4))
    assert made.verdicts == ["used"] * 4
    assert made.report["frames"][0]["edge"] < 12
    box = made.bundle.box(0)
    near = {"left": box.x1 < 12, "right": box.x2 > 180, "top": box.y1 < 12, "bottom": box.y2 > 148}
    assert near[edge]


def test_a_mouth_outside_the_frame_is_not_rendered(make: Any, tmp_path: Path) -> None:
    inside = portrait()[40:200, 115:307]
    outside = np.concatenate([np.full((20, 192, 3), 200, np.uint8), portrait()[0:140, 115:307]])
    made = make(write_lossless_video(tmp_path / "a.mkv", [inside] * 10 + [outside] * 10))
    assert made.verdicts[:10] == ["used"] * 10
    assert set(made.verdicts[10:]) == {"passed through"}


@pytest.mark.parametrize("degrees", [-90, 75])
def test_a_lying_head_is_detected_and_passed_through(make: Any, tmp_path: Path, degrees: float) -> None:
    made = make(write_lossless_video(tmp_path / "a.mkv", [rotated(0)] * 8 + [rotated(degrees)] * 4))
    assert made.verdicts == ["used"] * 8 + ["passed through"] * 4
    assert [frame["reason"] for frame in made.report["frames"][8:]] == ["the head is tilted too far"] * 4
    assert made.report["frames"][10]["roll"] == pytest.approx(degrees, abs=8)
    assert any("rotate the video upright" in advice for advice in made.report["advice"])


def test_a_tilted_head_is_used(make: Any, tmp_path: Path) -> None:
    made = make(write_lossless_video(tmp_path / "a.mkv", [rotated(30)] * 4))
    assert made.verdicts == ["used"] * 4 and made.report["frames"][0]["roll"] == pytest.approx(33, abs=5)


def test_a_large_frame(make: Any, tmp_path: Path) -> None:
    image = cv2.resize(portrait()[0:288, 0:512], (3840, 2160), interpolation=cv2.INTER_CUBIC)
    made = make(write_lossless_video(tmp_path / "a.mkv", [np.asarray(image, np.uint8)] * 2))
    assert made.verdicts == ["used"] * 2 and made.bundle.box(0).width > 600


def test_a_small_face_in_a_large_frame(make: Any, tmp_path: Path) -> None:
    image = np.full((1080, 1920, 3), 120, np.uint8)
    image[300:600, 900:1200] = cv2.resize(portrait()[:420, :420], (300, 300), interpolation=cv2.INTER_AREA)
    made = make(write_lossless_video(tmp_path / "a.mkv", [image] * 3))
    assert made.verdicts == ["used"] * 3 and 55 < made.bundle.box(0).width < 80
    assert made.report["grade"] == "fair" and any("film it closer" in advice for advice in made.report["advice"])


def test_a_drawn_face(make: Any, tmp_path: Path) -> None:
    drawing = np.asarray(cv2.stylization(portrait(), sigma_s=80, sigma_r=0.6), np.uint8)
    made = make(write_photo(tmp_path / "a.png", drawing))
    assert set(made.verdicts) == {"used"}


def test_a_vertical_video(make: Any, tmp_path: Path) -> None:
    made = make(write_lossless_video(tmp_path / "a.mkv", [portrait()[0:400, 120:320]] * 3))
    assert (made.bundle.info.width, made.bundle.info.height) == (200, 400) and made.verdicts == ["used"] * 3


@pytest.mark.parametrize("quarters", [1, 3])
def test_a_video_rotated_by_its_metadata(make: Any, tmp_path: Path, quarters: int) -> None:
    images = [np.ascontiguousarray(np.rot90(image, quarters)) for image in panned_frames(6)]
    lying = write_video(tmp_path / "lying.mp4", images)
    made = []
    for degrees in ("90", "270"):  # the direction differs between versions of ffmpeg
        marked = tmp_path / f"{degrees}.mp4"
        try:
            run_ffmpeg(["-display_rotation", degrees, "-i", str(lying), "-c", "copy", str(marked)])
        except subprocess.CalledProcessError:  # ffmpeg before 6
            run_ffmpeg(["-i", str(lying), "-c", "copy", "-metadata:s:v", f"rotate={degrees}", str(marked)])
        try:
            made.append(make(marked))
        except BadMedia:
            continue
    (one,) = made  # in the other direction the head is upside down
    assert (one.bundle.info.width, one.bundle.info.height) == (WIDTH, HEIGHT) and one.verdicts == ["used"] * 6


@pytest.mark.parametrize("fps", ["24000/1001", "30000/1001", "50"])
def test_other_frame_rates_keep_the_duration(make: Any, tmp_path: Path, fps: str) -> None:
    made = make(write_video(tmp_path / "a.mp4", panned_frames(48), fps=fps))
    assert made.report["source"]["seconds"] == pytest.approx(float(48 / Fraction(fps)), abs=0.05)
    assert set(made.verdicts) == {"used"}


def test_a_variable_frame_rate_keeps_the_duration(make: Any, tmp_path: Path) -> None:
    steady = write_video(tmp_path / "steady.mp4", panned_frames(50))
    thinned = ["-vf", "select='not(mod(n,3))+gt(n,25)'", "-fps_mode", "vfr", "-pix_fmt", "yuv420p"]
    run_ffmpeg(["-i", str(steady), *thinned, str(tmp_path / "a.mp4")])
    made = make(tmp_path / "a.mp4")
    assert made.report["source"]["seconds"] == pytest.approx(2.0, abs=0.08) and set(made.verdicts) == {"used"}


def test_a_single_frame(make: Any, tmp_path: Path) -> None:
    made = make(write_video(tmp_path / "a.mp4", panned_frames(1)))
    assert len(made.bundle) == 1 and made.verdicts == ["used"]
    assert any("send a jpg or png" in advice for advice in made.report["advice"])


def test_damage_in_the_middle_is_tolerated_and_reported(make: Any, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", panned_frames(60), options=("-pix_fmt", "yuv420p", "-g", "10"))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    (tmp_path / "a.mp4").write_bytes(data)
    made = make(tmp_path / "a.mp4")
    assert made.verdicts.count("used") > 40
    assert any("the file is damaged in places" in advice for advice in made.report["advice"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (grey_frames(5), "no usable face in a.mkv"),
        ([np.full((16, 16, 3), 99, np.uint8)] * 3, "no face is visible in a.mkv: the image has 16 x 16 pixels"),
        ([rotated(80)] * 3, "no usable face in a.mkv: the head is tilted too far"),
    ],
)
def test_unusable_sources_say_why(make: Any, tmp_path: Path, images: list[Image], message: str) -> None:
    with pytest.raises(BadMedia, match=message):
        make(write_lossless_video(tmp_path / "a.mkv", images))
