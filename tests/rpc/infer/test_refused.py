"""Invalid requests and unusable avatars are refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.rpc.infer.harness import END, Infer, all_free, audio, refused, running, start
from warmtalk.core.types import Samples
from warmtalk.v1.infer_pb2 import AudioPiece, RenderCredit, RenderRequest


@pytest.mark.parametrize(
    ("requests", "code", "words"),
    [
        ([END], "INVALID_ARGUMENT", "first message of Render is not a config"),
        ([], "INVALID_ARGUMENT", "first message of Render is not a config"),
        ([start(avatar_id="nobody")], "NOT_FOUND", "no avatar 'nobody' (there are: eileen)"),
        ([start(avatar_id="../etc")], "INVALID_ARGUMENT", "avatar_id is '../etc'"),
        ([start(avatar_id="a\0b")], "INVALID_ARGUMENT", "avatar_id is"),
        ([start(avatar_id="a" * 300)], "INVALID_ARGUMENT", "avatar_id is"),
        ([start(avatar_id="")], "INVALID_ARGUMENT", "avatar_id is missing"),
        ([start(renderer="unreal")], "INVALID_ARGUMENT", "no renderer 'unreal'"),
        ([start(batch_frames=9)], "INVALID_ARGUMENT", "batch_frames is 9"),
        ([start(start_index=-1)], "INVALID_ARGUMENT", "start_index is -1"),
        ([start(), audio(np.array([np.nan], np.float32))], "INVALID_ARGUMENT", "NaN"),
        ([start(), RenderRequest(audio=AudioPiece(samples_f32le=b"abc"))], "INVALID_ARGUMENT", "multiple of 4"),
        ([start(), start()], "INVALID_ARGUMENT", "second config"),
        ([start(), RenderRequest(credit=RenderCredit(frames=-1))], "INVALID_ARGUMENT", "credit.frames is -1"),
        (
            [start(initial_credit_frames=1), audio(np.zeros(6400, np.float32)), END, audio(np.zeros(9, np.float32))],
            "INVALID_ARGUMENT",
            "audio arrived after end",
        ),
    ],
)
async def test_an_invalid_request_is_refused(
    infer: Infer, requests: list[RenderRequest], code: str, words: str
) -> None:
    error = await refused(infer, *requests)
    assert error.code().name == code
    assert words in (error.details() or "")
    await all_free(infer)


async def test_an_avatar_that_is_still_building_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "avatars" / ".building" / "anna").mkdir(parents=True)
    async for infer in running(tmp_path):
        error = await refused(infer, start(avatar_id="anna"))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "still being built" in (error.details() or "")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("avatar.json", b"{"),
        ("avatar.json", b'{"schema": 99}'),
        ("faces.safetensors", b"\x00" * 100),
        ("frames/00000.mp4", b"not a video"),
        ("masks/00000000.png", b"not a picture"),
    ],
)
async def test_a_damaged_avatar_is_named_with_the_remedy(
    avatars: Path, tmp_path: Path, speech: Samples, file: str, content: bytes
) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    (tmp_path / "avatars" / "eileen" / file).write_bytes(content)
    async for infer in running(tmp_path):
        error = await refused(infer, start(), audio(speech), END)
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert "'eileen' is damaged" in (error.details() or "")
        assert "warmtalk avatar create eileen" in (error.details() or "")
        await all_free(infer)


async def test_an_avatar_prepared_for_another_renderer_is_refused(avatars: Path, tmp_path: Path) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    info = tmp_path / "avatars" / "eileen" / "avatar.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"renderers": ["musetalk"]}))
    async for infer in running(tmp_path):
        error = await refused(infer, start())
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "not prepared" in (error.details() or "")
