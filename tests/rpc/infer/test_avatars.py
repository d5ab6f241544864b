"""Avatars of the infer service: loaded ahead of use, bounded by bytes, with rows without a face."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np

from tests.rpc.infer.harness import END, Infer, audio, running, start
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import FaceTable, read_faces, write_faces
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.types import Samples
from warmtalk.renderers import loading
from warmtalk.v1.infer_pb2 import WarmAvatarRequest


async def test_a_frame_without_a_face_shows_the_source(avatars: Path, tmp_path: Path, speech: Samples) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    faces = read_faces(tmp_path / "avatars" / "eileen")
    usable = faces.usable.copy()
    usable[5:9] = 0
    write_faces(tmp_path / "avatars" / "eileen", FaceTable(faces.boxes, faces.crop_boxes, faces.landmarks, usable))
    async for infer in running(tmp_path):
        patches = await infer.patches(start(), audio(speech[:9600]), END)
        assert [patch.box.empty for patch in patches] == [patch.row in range(5, 9) for patch in patches]


async def test_an_idle_engine_prepares_the_rows_of_a_warm_avatar(infer: Infer, avatars: Path) -> None:
    await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    avatar = WarmAvatar(Bundle(avatars / "eileen"), loading.load("mesh", Config()).renderer)
    rows = len(list(avatar.prepare_rows()))
    assert rows == 25
    async with asyncio.timeout(20):
        while (await infer.capacity()).warm_bytes < avatar.nbytes:
            await asyncio.sleep(0.05)


async def test_a_warm_avatar_is_not_loaded_again(infer: Infer) -> None:
    first = await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    again = await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    assert first.load_time.ToMicroseconds() > 0
    assert again.load_time.ToMicroseconds() == 0
    capacity = await infer.capacity()
    assert list(capacity.warm_avatars) == ["eileen"]
    assert capacity.warm_bytes > 0
    assert list(capacity.renderers) == ["mesh"]


async def test_warm_avatars_are_bounded_by_bytes(avatars: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(avatars / "eileen", tmp_path / "avatars" / name)
    async for infer in running(tmp_path, cache_mb=1):
        for name in ("a", "b", "c"):
            await infer.patches(start(avatar_id=name), audio(np.zeros(640, np.float32)), END)
        assert list((await infer.capacity()).warm_avatars) == ["c"]
