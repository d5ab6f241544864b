"""Which detector and which parser are taken, and what is said about those that are not ready."""

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

HERE = OptionalModel("dwpose", ("json",), "", optional_models.DWPOSE.files)
"""DWPose on a machine that has its libraries."""
ELSEWHERE = OptionalModel("dwpose", ("no_such_module",), "pip install this", optional_models.DWPOSE.files)


def put(models: Path, kit: OptionalModel) -> None:
    for extra in kit.files:
        (models / extra.path).parent.mkdir(parents=True, exist_ok=True)
        (models / extra.path).write_bytes(b"x")


def test_auto_is_the_best_that_is_ready(tmp_path: Path) -> None:
    known = (HERE, optional_models.MESH)
    assert optional_models.choose("auto", known, tmp_path, "prep.detector").name == "mesh"
    put(tmp_path, HERE)
    assert optional_models.choose("auto", known, tmp_path, "prep.detector").name == "dwpose"
    assert optional_models.choose("mesh", known, tmp_path, "prep.detector").name == "mesh"


def test_what_is_missing_is_said_in_one_line_with_the_commands(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        optional_models.choose("dwpose", (ELSEWHERE, optional_models.MESH), tmp_path, "prep.detector")
    path = tmp_path / "dwpose" / "dw-ll_ucoco_384.onnx"
    assert str(caught.value) == (
        f"dwpose needs no_such_module, {path}. Run: pip install this && warmtalk weights fetch dwpose"
    )
    put(tmp_path, ELSEWHERE)
    with pytest.raises(NotReady, match=r"^dwpose needs no_such_module\. Run: pip install this$"):
        optional_models.check(ELSEWHERE, tmp_path)


def test_either_form_of_the_points_network_will_do(tmp_path: Path) -> None:
    kit = OptionalModel("face-alignment", (), "", optional_models.FACE_ALIGNMENT.files)
    put(tmp_path, kit)
    (tmp_path / "face-alignment" / "2DFAN4-cd938726ad.zip").unlink()
    with pytest.raises(NotReady, match=r"2DFAN4-cd938726ad\.zip"):
        optional_models.check(kit, tmp_path)
    other = tmp_path / "face-alignment" / "2DFAN4-11f355bf06.pth.tar"
    other.write_bytes(b"x")
    assert optional_models.check(kit, tmp_path)[1] == other


def test_the_mesh_is_always_ready_and_last(tmp_path: Path) -> None:
    assert optional_models.check(optional_models.MESH, tmp_path) == []
    assert optional_models.DETECTORS[-1] is optional_models.PARSERS[-1] is optional_models.MESH


def test_names_that_there_are_not_are_refused_with_those_that_there_are() -> None:
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


def test_a_large_face_is_looked_at_as_the_reference_does_and_small_ones_from_nearer() -> None:
    whole = [Box(0, 0, 720, 1280)]
    assert windows(720, 1280, []) == whole
    assert windows(720, 1280, [Box(200, 300, 520, 740)]) == whole
    (near,) = windows(1280, 720, [Box(600, 200, 720, 350)])
    assert near.x1 < 500 and near.x2 > 820 and near.y1 < 150 and near.y2 > 500
    assert len(windows(1280, 720, [Box(100, 100, 600, 700), Box(700, 100, 1200, 700)])) == 2
