"""warmtalk avatar preview: the tiles of the image, and the errors without an image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.footage import grey_frames, panned_frames, portrait, write_photo, write_video
from warmtalk.cli import main
from warmtalk.core.types import Image


def preview(folder: Path, source: Path, *args: str) -> Image:
    assert main(["avatar", "preview", str(source), "--out", str(folder / "out.png"), *args]) == 0
    image = cv2.imread(str(folder / "out.png"))
    assert image is not None
    return np.asarray(image, np.uint8)


def tiles(image: Image, count: int) -> list[Image]:
    """Returns the faces, without labels and marks."""
    width = image.shape[1] // count
    return [image[:310, i * width + 14 : (i + 1) * width - 20] for i in range(count)]


def test_a_photo_with_three_shifts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = preview(tmp_path, write_photo(tmp_path / "a.png", portrait()), "--shifts=-3,0,8")
    assert "automatic: bbox_shift -" in capsys.readouterr().out
    one, two, three = (tile.astype(int) for tile in tiles(image, 3))
    assert np.abs(one - two)[:100].mean() < 2  # above the boundary all tiles show the source
    assert np.abs(one - three)[150:].mean() > np.abs(one - two)[150:].mean() > 0


def test_the_first_usable_frame_of_a_video_with_the_default_shifts(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", grey_frames(5) + panned_frames(10))
    assert preview(tmp_path, source).shape[1] > 4 * 200


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--shifts=300"], "a shift of 300 leaves no face. Stay within the adjustable range"),
        (["--face", "2"], "there is no face 2 in a.png; faces from the left: face 1 at 22"),
        (["--at", "10,10"], "no face is at 10,10 in a.png; faces from the left: face 1 at 22"),
    ],
)
def test_impossible_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str) -> None:
    source = write_photo(tmp_path / "a.png", portrait())
    assert main(["avatar", "preview", str(source), "--out", str(tmp_path / "b.png"), *args]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--at", "5"], "'5' is not a position; write two whole numbers, for example 320,180"),
        (["--shifts=a,b"], "'a,b' is not a list of shifts; write whole numbers, for example -9,-3,0"),
    ],
)
def test_invalid_numbers(capsys: pytest.CaptureFixture[str], args: list[str], words: str) -> None:
    with pytest.raises(SystemExit):
        main(["avatar", "preview", "a.png", *args])
    assert words in capsys.readouterr().err


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_photo(tmp_path / "a.png", portrait())
    out = tmp_path / "none" / "b.png"
    assert main(["avatar", "preview", str(source), "--shifts=0", "--out", str(out)]) == 1
    assert f"{out} cannot be written (No such file or directory). Check the folder" in capsys.readouterr().err
    assert main(["avatar", "preview", str(source), "--shifts=0", "--out", str(tmp_path / "b.txt")]) == 0
    assert (tmp_path / "b.txt").read_bytes().startswith(b"\x89PNG")


def test_a_source_without_a_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_video(tmp_path / "a.mp4", grey_frames(5))
    assert main(["avatar", "preview", str(source), "--out", str(tmp_path / "b.png")]) == 1
    assert "no usable face in a.mp4: no face is seen. Use a source" in capsys.readouterr().err
