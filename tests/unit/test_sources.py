"""What people really send: each becomes an avatar, or is refused in words that help. The report says what was found."""

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

from tests.footage import HEIGHT, WIDTH, film, grey, panned, photo, portrait, run
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media.video_decode import SourceLimits
from warmtalk.store import AvatarStore


@dataclass(frozen=True)
class Made:
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
    def made(source: Path, **params: Any) -> Made:
        name = f"a{abs(hash(request.node.name)) % 10**12}"
        chosen = BuildParams(still_seconds=0.2, **params)
        builder[0].build(BuildRequest(name, source, source.name, "0", chosen), lambda progress: None)
        path = builder[1].path(name)
        return Made(Bundle(path), json.loads((path / "report.json").read_text()))

    return made


def turned(degrees: float) -> Image:
    """The portrait with its head turned clockwise."""
    matrix = cv2.getRotationMatrix2D((222, 130), -degrees, 1)
    return np.asarray(cv2.warpAffine(portrait(), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize(
    ("edge", "x", "y"), [("left", 200, 40), ("right", 50, 40), ("top", 115, 100), ("bottom", 115, 0)]
)
def test_a_face_cut_by_an_edge(make: Any, tmp_path: Path, edge: str, x: int, y: int) -> None:
    """As long as the mouth is inside it speaks; and nothing is drawn outside."""
    image = portrait()[y : y + 160, x : x + 192]
    made = make(film(tmp_path / "a.mp4", [image] * 4))
    assert made.verdicts == ["used"] * 4
    assert made.report["frames"][0]["edge"] < 12
    box = made.bundle.box(0)
    near = {"left": box.x1 < 12, "right": box.x2 > 180, "top": box.y1 < 12, "bottom": box.y2 > 148}
    assert near[edge]


def test_a_mouth_outside_the_picture_is_not_drawn(make: Any, tmp_path: Path) -> None:
    inside = portrait()[40:200, 115:307]
    outside = np.concatenate([np.full((20, 192, 3), 200, np.uint8), portrait()[0:140, 115:307]])
    made = make(film(tmp_path / "a.mp4", [inside] * 10 + [outside] * 10))
    assert made.verdicts[:10] == ["used"] * 10
    assert set(made.verdicts[10:]) == {"passed through"}


@pytest.mark.parametrize("degrees", [-90, 75])
def test_somebody_who_lies_is_seen_and_passed_through(make: Any, tmp_path: Path, degrees: float) -> None:
    made = make(film(tmp_path / "a.mp4", [turned(0)] * 8 + [turned(degrees)] * 4))
    assert made.verdicts == ["used"] * 8 + ["passed through"] * 4
    assert [frame["reason"] for frame in made.report["frames"][8:]] == ["the head is tilted too far"] * 4
    assert made.report["frames"][10]["roll"] == pytest.approx(degrees, abs=8)
    assert any("turn the film upright" in advice for advice in made.report["advice"])


def test_a_tilted_head_is_used(make: Any, tmp_path: Path) -> None:
    made = make(film(tmp_path / "a.mp4", [turned(30)] * 4))
    assert made.verdicts == ["used"] * 4 and made.report["frames"][0]["roll"] == pytest.approx(33, abs=5)


def test_a_large_picture(make: Any, tmp_path: Path) -> None:
    image = cv2.resize(portrait()[0:288, 0:512], (3840, 2160), interpolation=cv2.INTER_CUBIC)
    made = make(film(tmp_path / "a.mp4", [np.asarray(image, np.uint8)] * 2))
    assert made.verdicts == ["used"] * 2 and made.bundle.box(0).width > 600


def test_a_small_face_in_a_large_picture(make: Any, tmp_path: Path) -> None:
    image = np.full((1080, 1920, 3), 120, np.uint8)
    image[300:600, 900:1200] = cv2.resize(portrait()[:420, :420], (300, 300), interpolation=cv2.INTER_AREA)
    made = make(film(tmp_path / "a.mp4", [image] * 3))
    assert made.verdicts == ["used"] * 3 and 55 < made.bundle.box(0).width < 80
    assert made.report["grade"] == "fair" and any("film it closer" in advice for advice in made.report["advice"])


def test_a_drawn_face(make: Any, tmp_path: Path) -> None:
    made = make(photo(tmp_path / "a.png", np.asarray(cv2.stylization(portrait(), sigma_s=80, sigma_r=0.6), np.uint8)))
    assert set(made.verdicts) == {"used"}


def test_a_vertical_film(make: Any, tmp_path: Path) -> None:
    made = make(film(tmp_path / "a.mp4", [portrait()[0:400, 120:320]] * 3))
    assert (made.bundle.info.width, made.bundle.info.height) == (200, 400) and made.verdicts == ["used"] * 3


@pytest.mark.parametrize("quarters", [1, 3])
def test_a_film_turned_by_its_metadata(make: Any, tmp_path: Path, quarters: int) -> None:
    lying = film(tmp_path / "lying.mp4", [np.ascontiguousarray(np.rot90(image, quarters)) for image in panned(6)])
    made = []
    for degrees in ("90", "270"):  # which way they turn differs between versions of ffmpeg
        marked = tmp_path / f"{degrees}.mp4"
        try:
            run(["-display_rotation", degrees, "-i", str(lying), "-c", "copy", str(marked)])
        except subprocess.CalledProcessError:  # ffmpeg before 6
            run(["-i", str(lying), "-c", "copy", "-metadata:s:v", f"rotate={degrees}", str(marked)])
        try:
            made.append(make(marked))
        except BadMedia:
            continue
    (one,) = made  # the other way it stands on its head
    assert (one.bundle.info.width, one.bundle.info.height) == (WIDTH, HEIGHT) and one.verdicts == ["used"] * 6


@pytest.mark.parametrize("fps", ["24000/1001", "30000/1001", "50"])
def test_other_rates_keep_their_time(make: Any, tmp_path: Path, fps: str) -> None:
    made = make(film(tmp_path / "a.mp4", panned(48), fps=fps))
    assert made.report["source"]["seconds"] == pytest.approx(float(48 / Fraction(fps)), abs=0.05)
    assert set(made.verdicts) == {"used"}


def test_a_variable_rate_keeps_its_time(make: Any, tmp_path: Path) -> None:
    steady = film(tmp_path / "steady.mp4", panned(50))
    thinned = ["-vf", "select='not(mod(n,3))+gt(n,25)'", "-fps_mode", "vfr", "-pix_fmt", "yuv420p"]
    run(["-i", str(steady), *thinned, str(tmp_path / "a.mp4")])
    made = make(tmp_path / "a.mp4")
    assert made.report["source"]["seconds"] == pytest.approx(2.0, abs=0.08) and set(made.verdicts) == {"used"}


def test_a_single_frame(make: Any, tmp_path: Path) -> None:
    made = make(film(tmp_path / "a.mp4", panned(1)))
    assert len(made.bundle) == 1 and made.verdicts == ["used"]
    assert any("send that as jpg or png" in advice for advice in made.report["advice"])


def test_damage_in_the_middle_is_lived_with_and_said(make: Any, tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", panned(60), options=("-pix_fmt", "yuv420p", "-g", "10"))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    (tmp_path / "a.mp4").write_bytes(data)
    made = make(tmp_path / "a.mp4")
    assert made.verdicts.count("used") > 40
    assert any("the file is damaged in places" in advice for advice in made.report["advice"])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (grey(5), "no usable face in a.mp4"),
        ([np.full((16, 16, 3), 99, np.uint8)] * 3, "no face can be seen in a.mp4: it is 16 x 16 pixels"),
        ([turned(80)] * 3, "no usable face in a.mp4: the head is tilted too far"),
    ],
)
def test_what_cannot_be_used(make: Any, tmp_path: Path, images: list[Image], words: str) -> None:
    with pytest.raises(BadMedia, match=words):
        make(film(tmp_path / "a.mp4", images))
