"""Selection of detector and parser, and the messages about models that are not ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmtalk.avatar.build_request import BuildParams
from warmtalk.avatar.from_config import params_from_config
from warmtalk.config import Config, PrepConfig
from warmtalk.core.errors import InvalidInput, NotReady
from warmtalk.core.types import Box
from warmtalk.models.checkpoints import optional_models
from warmtalk.models.checkpoints.optional_models import OptionalModel
from warmtalk.models.faces.dwpose import MIRRORED, windows
from warmtalk.models.faces.parsers import ParserOptions

INSTALLED = OptionalModel("dwpose", ("json",), "", optional_models.DWPOSE.files)
"""DWPose with libraries that are installed."""
NOT_INSTALLED = OptionalModel("dwpose", ("no_such_module",), "pip install this", optional_models.DWPOSE.files)


def write_files(models: Path, model: OptionalModel) -> None:
    for weight_file in model.files:
        (models / weight_file.path).parent.mkdir(parents=True, exist_ok=True)
        (models / weight_file.path).write_bytes(b"x")


def test_auto_is_the_best_model_that_is_ready(tmp_path: Path) -> None:
    known = (INSTALLED, optional_models.MESH)
    assert optional_models.select("auto", known, tmp_path, "prep.detector").name == "mesh"
    write_files(tmp_path, INSTALLED)
    assert optional_models.select("auto", known, tmp_path, "prep.detector").name == "dwpose"
    assert optional_models.select("mesh", known, tmp_path, "prep.detector").name == "mesh"


def test_the_error_lists_missing_modules_and_files_with_commands(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        optional_models.select("dwpose", (NOT_INSTALLED, optional_models.MESH), tmp_path, "prep.detector")
    path = tmp_path / "dwpose" / "dw-ll_ucoco_384.onnx"
    assert str(caught.value) == (
        f"dwpose needs no_such_module, {path}. Run: pip install this && warmtalk weights fetch dwpose"
    )
    write_files(tmp_path, NOT_INSTALLED)
    with pytest.raises(NotReady, match=r"^dwpose needs no_such_module\. Run: pip install this$"):
        optional_models.require(NOT_INSTALLED, tmp_path)


def test_either_file_of_the_points_network_is_accepted(tmp_path: Path) -> None:
    model = OptionalModel("face-alignment", (), "", optional_models.FACE_ALIGNMENT.files)
    write_files(tmp_path, model)
    (tmp_path / "face-alignment" / "2DFAN4-cd938726ad.zip").unlink()
    with pytest.raises(NotReady, match=r"2DFAN4-cd938726ad\.zip"):
        optional_models.require(model, tmp_path)
    other = tmp_path / "face-alignment" / "2DFAN4-11f355bf06.pth.tar"
    other.write_bytes(b"x")
    assert optional_models.require(model, tmp_path)[1] == other


def test_the_mesh_is_always_ready_and_last(tmp_path: Path) -> None:
    assert optional_models.require(optional_models.MESH, tmp_path) == []
    assert optional_models.DETECTORS[-1] is optional_models.PARSERS[-1] is optional_models.MESH


def test_unknown_names_are_refused_with_the_known_names() -> None:
    with pytest.raises(InvalidInput, match="Use auto, mesh, dwpose, face-alignment"):
        PrepConfig(detector="yolo")
    with pytest.raises(InvalidInput, match="Use auto, mesh, bisenet"):
        PrepConfig(parsing="sam")
    with pytest.raises(InvalidInput, match="Use jaw, neck, raw"):
        PrepConfig(parsing_mode="chin")
    with pytest.raises(InvalidInput, match="cheek_width_right is 300"):
        PrepConfig(cheek_width_right=300)


def test_an_avatar_records_what_auto_stood_for(tmp_path: Path) -> None:
    params = params_from_config(Config(models_dir=tmp_path, prep=PrepConfig(parsing_mode="neck", cheek_width_left=60)))
    record = params.record()
    assert (record["detector"], record["parsing"]) == ("mesh", "mesh")
    assert (record["parsing_mode"], record["cheek_width_left"], record["cheek_width_right"]) == ("neck", 60, 90)
    assert BuildParams.from_record(record) == params
    assert params.parsing == ParserOptions("mesh", "neck", (60, 90))


def test_mirroring_the_68_points_twice_changes_nothing() -> None:
    assert sorted(MIRRORED) == list(range(68)) and (MIRRORED[MIRRORED] == range(68)).all()
    assert [MIRRORED[i] for i in (0, 8, 17, 30, 36, 41, 48, 60)] == [16, 8, 26, 30, 45, 46, 54, 64]


def test_small_faces_get_a_closer_crop_than_in_the_reference() -> None:
    whole = [Box(0, 0, 720, 1280)]
    assert windows(720, 1280, []) == whole
    assert windows(720, 1280, [Box(200, 300, 520, 740)]) == whole
    (near,) = windows(1280, 720, [Box(600, 200, 720, 350)])
    assert near.x1 < 500 and near.x2 > 820 and near.y1 < 150 and near.y2 > 500
    assert len(windows(1280, 720, [Box(100, 100, 600, 700), Box(700, 100, 1200, 700)])) == 2
