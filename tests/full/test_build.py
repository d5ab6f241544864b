"""Avatars built with the optional detectors and parsers, from configuration to files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.footage import portrait
from tests.full import pose_file
from tests.torch.face_parsing_net import BiSeNet
from warmtalk.avatar.build_request import BuildRequest
from warmtalk.avatar.from_config import builder_from_config, params_from_config
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.store import AvatarStore

Build = Callable[..., Bundle]
NOSE = (222, 130)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds an avatar from a portrait with a red dot, which the pose network of the tests detects as a face."""

    def make(config: Config, dot: tuple[int, int] = NOSE) -> Bundle:
        image = np.minimum(portrait(), 200)
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        glow = np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / 20)
        image[..., 2] = np.maximum(image[..., 2], (255 * glow).astype(np.uint8))
        path = tmp_path / "dotted.png"
        cv2.imwrite(str(path), image)
        store = AvatarStore(config.avatars_dir)
        params = replace(params_from_config(config), still_seconds=0.2)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        request = BuildRequest("dotted", path, path.name, digest, params)
        builder_from_config(config, store).build(request, lambda progress: None)
        return Bundle(store.path("dotted"))

    return make


def test_auto_uses_installed_models_and_records_them(tmp_path: Path, build: Build) -> None:
    config = Config(data_dir=tmp_path / "data", models_dir=tmp_path / "models")
    by_mesh = build(config)
    assert (by_mesh.info.params["detector"], by_mesh.info.params["parsing"]) == ("mesh", "mesh")
    (config.models_dir / "dwpose").mkdir(parents=True)
    pose_file.write(config.models_dir / "dwpose" / "dw-ll_ucoco_384.onnx")
    (config.models_dir / "face-parse-bisent").mkdir()
    torch.manual_seed(1)
    torch.save(BiSeNet().state_dict(), config.models_dir / "face-parse-bisent" / "79999_iter.pth")
    again = build(replace(config, data_dir=tmp_path / "other"))
    assert (again.info.params["detector"], again.info.params["parsing"]) == ("dwpose", "bisenet")
    record = json.loads((again.path / "avatar.json").read_text("utf-8"))["params"]
    assert (record["parsing_mode"], record["cheek_width_left"]) == ("jaw", 90)
    assert again.box(0) != by_mesh.box(0)  # the pose network's face is wider
    assert abs((again.box(0).x1 + again.box(0).x2) / 2 - NOSE[0]) < 6
    assert again.mask(0).shape == (again.crop_box(0).height, again.crop_box(0).width)
    assert np.allclose(again.landmarks(0), by_mesh.landmarks(0), atol=1)  # the renderer still uses the mesh


def test_the_mesh_replaces_a_detector_that_misses_the_face(
    tmp_path: Path, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(data_dir=tmp_path / "data", models_dir=tmp_path / "models")
    by_mesh = build(config, (400, 400))
    (config.models_dir / "dwpose").mkdir(parents=True)
    pose_file.write(config.models_dir / "dwpose" / "dw-ll_ucoco_384.onnx")
    again = build(replace(config, data_dir=tmp_path / "other"), (400, 400))
    assert again.info.params["detector"] == "dwpose"
    assert np.array_equal(again.faces.boxes, by_mesh.faces.boxes) and again.faces.usable.all()
    assert "dotted: dwpose missed 5 of 5 faces" in caplog.text
