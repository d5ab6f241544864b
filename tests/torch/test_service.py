"""The infer service with tiny weights, over gRPC."""

from __future__ import annotations

from pathlib import Path

from warmtalk.config import Config, InferConfig, MuseTalkConfig
from warmtalk.core.types import Samples
from warmtalk.renderers import loading
from warmtalk.rpc import convert
from warmtalk.rpc.client import channel
from warmtalk.services.infer import wiring
from warmtalk.v1.infer_pb2 import AudioPiece, EndOfAudio, GetCapacityRequest, RenderConfig, RenderRequest
from warmtalk.v1.infer_pb2_grpc import InferServiceStub


def configured(models: Path, data: Path) -> Config:
    infer = InferConfig(listen="127.0.0.1:0", renderer="musetalk")
    return Config(data_dir=data, models_dir=models, infer=infer, musetalk=MuseTalkConfig(device="cpu"))


def test_the_configured_renderer_comes_first(models: Path, tmp_path: Path) -> None:
    config = configured(models, tmp_path)
    assert loading.available(config) == ["musetalk", "mesh"]
    assert loading.available(Config(models_dir=models)) == ["mesh", "musetalk"]


async def test_musetalk_over_grpc(models: Path, avatars: Path, speech: Samples, tmp_path: Path) -> None:
    (tmp_path / "avatars").symlink_to(avatars)
    server, engine = wiring.build(configured(models, tmp_path))
    await server.start()
    requests = [
        RenderRequest(config=RenderConfig(avatar_id="synth")),
        RenderRequest(audio=AudioPiece(samples_f32le=convert.samples_bytes(speech[:3200]))),
        RenderRequest(end=EndOfAudio()),
    ]
    async with channel(server.address) as link:
        stub = InferServiceStub(link)
        answers = [answer async for answer in stub.Render(iter(requests))]
        capacity = await stub.GetCapacity(GetCapacityRequest())
    await server.stop(0)
    await engine.close()
    assert answers[0].started.renderer == "musetalk"
    patches = [patch for answer in answers for patch in convert.patches(answer.batch)]
    assert [patch.frame for patch in patches] == list(range(5))
    assert answers[-1].finished.frames == 5
    assert list(capacity.renderers) == ["musetalk", "mesh"]
    assert capacity.faces_per_second > 0
