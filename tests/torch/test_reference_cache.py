"""Avatar folders of MuseTalk's own program: imported, exported, and never trusted."""

from __future__ import annotations

import os
import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.torch.conftest import GOLDEN
from warmtalk.avatar.import_musetalk import import_musetalk_avatar
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import read_latents
from warmtalk.core.errors import AlreadyExists, BadMedia, NotReady
from warmtalk.media.png_decode import PngDecoder
from warmtalk.models.musetalk import reference_cache
from warmtalk.store import AvatarStore

ARRAYS = np.load(GOLDEN / "synth_realtime.npz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the v1.5 folder that a test may break."""
    return shutil.copytree(GOLDEN / "synth_avatar_v15", tmp_path / "folder")


@pytest.mark.parametrize("version", ["v15", "v1"])
def test_a_folder_of_the_program_is_read(version: str, tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / f"synth_avatar_{version}", tmp_path / "folder")
    if version == "v1":  # with the images of v15
        shutil.copytree(GOLDEN / "synth_avatar_v15" / "full_imgs", folder / "full_imgs")
    avatar = reference_cache.read(folder)
    run = f"synth_rt_{version}"
    assert (avatar.name, avatar.version, avatar.bbox_shift) == (run, version, -4 if version == "v1" else 0)
    assert [box and box.as_tuple() for box in avatar.boxes] == [tuple(r) for r in ARRAYS[f"{run}/coord_list_cycle"][:6]]
    assert [box.as_tuple() for box in avatar.crop_boxes] == [
        tuple(r) for r in ARRAYS[f"{run}/mask_coords_list_cycle"][:6]
    ]
    assert np.array_equal(avatar.latents[:2], ARRAYS[f"{run}/latents"].astype(np.float16))
    with PngDecoder() as pictures:
        assert np.array_equal(pictures.decode(avatar.masks[1], channels=1), ARRAYS[f"{run}/mask_1"])
        assert np.array_equal(pictures.decode(avatar.images[5]), cv2.imread(str(GOLDEN / "synth_frames/00000005.png")))


def test_import_and_export_keep_the_avatar(avatars: Path, tmp_path: Path) -> None:
    bundle = Bundle(avatars / "synth")
    reference_cache.write(bundle, tmp_path / "back")
    theirs, back = (reference_cache.read(one) for one in (GOLDEN / "synth_avatar_v15", tmp_path / "back"))
    assert len(list((tmp_path / "back" / "full_imgs").iterdir())) == 12
    assert (back.boxes, back.crop_boxes, back.version) == (theirs.boxes, theirs.crop_boxes, "v15")
    assert np.array_equal(back.latents, theirs.latents)
    with PngDecoder() as pictures:
        mask, its = (pictures.decode(one.masks[3], channels=1) for one in (back, theirs))
        assert np.array_equal(mask, its)
        image, its = (pictures.decode(one.images[3]).astype(int) for one in (back, theirs))
    assert np.abs(image - its).mean() < 3  # a bundle keeps its frames as video


def test_a_folder_of_n_entries_is_not_halved(folder: Path) -> None:
    for name in ("full_imgs", "mask"):
        for index in range(6, 12):
            (folder / name / f"{index:08d}.png").unlink()
    torch.save(torch.load(folder / "latents.pt", weights_only=True)[:6], folder / "latents.pt")
    for name in ("coords.pkl", "mask_coords.pkl"):
        boxes = reference_cache._entries(folder / name)[:6]
        (folder / name).write_bytes(pickle.dumps([tuple(int(v) for v in box) for box in boxes]))
    avatar = reference_cache.read(folder)
    assert len(avatar.boxes) == len(avatar.images) == len(avatar.latents) == 6
    assert avatar.boxes == reference_cache.read(GOLDEN / "synth_avatar_v15").boxes


def test_a_frame_without_a_face_keeps_the_latents_aligned(folder: Path, tmp_path: Path) -> None:
    """The program leaves out the latent of this frame, which shifts all later latents; `read` restores the rows."""
    boxes = reference_cache._entries(folder / "coords.pkl")
    latents = torch.load(folder / "latents.pt", weights_only=True)
    for index in (2, 9):
        boxes[index] = (0.0, 0.0, 0.0, 0.0)
    torch.save([one for index, one in enumerate(latents) if index not in (2, 9)], folder / "latents.pt")
    (folder / "coords.pkl").write_bytes(pickle.dumps([tuple(box) for box in boxes]))
    info = import_musetalk_avatar(folder, "gap", AvatarStore(tmp_path / "avatars"), fps=Fraction(25))
    bundle = Bundle(tmp_path / "avatars" / "gap")
    assert (info.frames, info.usable_frames, info.renderers) == (6, 5, ("musetalk",))
    assert [bundle.usable(row) for row in range(6)] == [True, True, False, True, True, True]
    found = read_latents(bundle.path).values
    assert not found[2].any()
    assert np.array_equal(found[3], latents[3][0].half().numpy())
    with pytest.raises(NotReady, match="1 frames without a face, the first 2"):
        reference_cache.write(bundle, tmp_path / "out")


class Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self._path),))


@pytest.mark.parametrize("name", ["coords.pkl", "mask_coords.pkl"])
def test_code_in_a_pickle_is_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps([Evil(tmp_path / "owned")]))
    with pytest.raises(BadMedia, match=r"holds posix\.mkdir, which is no number"):
        reference_cache.read(folder)
    assert not (tmp_path / "owned").exists()


def test_code_in_the_latents_is_not_run(folder: Path, tmp_path: Path) -> None:
    torch.save([Evil(tmp_path / "owned")], folder / "latents.pt")
    with pytest.raises(BadMedia, match=r"latents\.pt cannot be read"):
        reference_cache.read(folder)
    assert not (tmp_path / "owned").exists()


def test_objects_among_the_numbers_are_refused(folder: Path) -> None:
    (folder / "coords.pkl").write_bytes(pickle.dumps([np.str_("x")]))
    with pytest.raises(BadMedia, match="coords"):
        reference_cache.read(folder)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"nonsense", pickle.dumps({}), pickle.dumps([(1, 2)]), pickle.dumps([7])]
)
def test_broken_pickles(folder: Path, content: bytes) -> None:
    (folder / "coords.pkl").write_bytes(content)
    with pytest.raises(BadMedia):
        reference_cache.read(folder)


def test_files_that_do_not_fit_together(folder: Path) -> None:
    (folder / "mask" / "00000011.png").unlink()
    with pytest.raises(BadMedia, match="12 boxes, 12 crop boxes, 12 images, 11 masks, 12 latents"):
        reference_cache.read(folder)


@pytest.mark.parametrize("name", ["full_imgs/00000002.png", "mask/00000002.png"])
@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\nnothing"])
def test_an_image_that_is_none(folder: Path, tmp_path: Path, name: str, content: bytes) -> None:
    other = folder / name.replace("02.", "09.")  # its mirror image
    (folder / name).write_bytes(content)
    other.write_bytes(content)
    store = AvatarStore(tmp_path / "avatars")
    with pytest.raises(BadMedia, match=r"00000002\.png (is not a PNG image|cannot be decoded)"):
        import_musetalk_avatar(folder, "one", store, fps=Fraction(25))
    assert not store.path("one").exists() and not store.building_path("one").exists()


def test_a_mask_of_another_size(folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(folder / "mask" / "00000000.png"), np.zeros((7, 7), np.uint8))
    with pytest.raises(BadMedia, match=r"has shape \(7, 7\), but the crop box is 248 pixels wide"):
        import_musetalk_avatar(folder, "one", AvatarStore(tmp_path / "avatars"), fps=Fraction(25))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(BadMedia, match=r"has no avator_info\.json"):
        reference_cache.read(tmp_path)


def test_an_id_that_is_taken(folder: Path, tmp_path: Path) -> None:
    store = AvatarStore(tmp_path / "avatars")
    import_musetalk_avatar(folder, "one", store, fps=Fraction(25))
    with pytest.raises(AlreadyExists):
        import_musetalk_avatar(folder, "one", store, fps=Fraction(25))
    assert import_musetalk_avatar(folder, "one", store, fps=Fraction(30), replace=True).fps == "30"
    shutil.rmtree(folder / "full_imgs")
    with pytest.raises(BadMedia):
        import_musetalk_avatar(folder, "two", store, fps=Fraction(25))
    assert store.ids() == ["one"]
    assert not store.building_path("two").exists()
