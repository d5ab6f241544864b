"""MuseTalk behind the port: batches equal single renders, errors concern one face, unsuitable bundles are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.torch.conftest import CPU
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import Latents, read_latents, write_latents
from warmtalk.core.errors import Busy, Damaged, InvalidInput, NotReady
from warmtalk.core.pipeline import WarmAvatar, render
from warmtalk.core.ports import FaceJob
from warmtalk.core.types import FrameClock, Samples
from warmtalk.models.device import pick_device, pick_dtype
from warmtalk.models.musetalk.latents import LatentEncoder, avatar_latents
from warmtalk.models.musetalk.networks import ExecutionMode, Faces, MuseTalk
from warmtalk.models.musetalk.renderer import MuseTalkRenderer
from warmtalk.models.musetalk.speech_features import WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder

RNG = np.random.default_rng(1)
FEATURES = RNG.standard_normal((6, 50, 384)).astype(np.float32)


@pytest.fixture
def own(avatars: Path, tmp_path: Path) -> Path:
    """A copy of the avatar that a test may break."""
    return shutil.copytree(avatars / "synth", tmp_path / "synth")


def test_a_batch_equals_single_renders(renderer: MuseTalkRenderer, avatars: Path) -> None:
    """At most 1 of 255 apart, on fewer than 0.2 % of the values: the order of additions depends on the batch."""
    avatar = renderer.prepare(Bundle(avatars / "synth"))
    together = renderer.render_batch([FaceJob(avatar, row, FEATURES[row]) for row in range(6)])
    for row, face in enumerate(together):
        alone = renderer.render(avatar, [row], FEATURES[row : row + 1])[0]
        assert isinstance(face, np.ndarray)
        assert np.abs(face.astype(int) - alone).max() <= 1
        assert (face != alone).mean() < 0.002


def test_live_and_offline_give_the_same_frames(
    renderer: MuseTalkRenderer, encoder: WhisperEncoder, avatars: Path, speech: Samples
) -> None:
    avatar = WarmAvatar(Bundle(avatars / "synth"), renderer)
    features = WhisperFeatures(encoder)
    audio = speech[:5120]
    whole, cut = (
        list(render(avatar, features, chunks, FrameClock(), batch_frames=4))
        for chunks in ([audio], np.split(audio, [100, 1380, 4000]))
    )
    assert [patch.frame for patch in whole] == [patch.frame for patch in cut] == list(range(8))
    for a, b in zip(whole, cut, strict=True):
        assert a.box == b.box
        assert np.abs(a.pixels.astype(int) - b.pixels).max() <= 1  # batches differ in size


class Scripted:
    """Networks that fail on request."""

    version, vae, device, dtype = "v15", "", CPU, torch.float32

    def __init__(self, largest: int = 99) -> None:
        self.largest = largest
        self.sizes: list[int] = []
        self.finite: list[np.ndarray] = []  # type: ignore[type-arg]
        self.discarded = 0

    def submit(self, latents: torch.Tensor, features: torch.Tensor) -> Scripted:
        self.sizes.append(len(latents))
        if len(latents) > self.largest:
            raise torch.OutOfMemoryError("no memory")
        self.finite.append(torch.isfinite(features).flatten(1).all(1).numpy())
        return self

    def wait(self) -> tuple[Faces, np.ndarray]:  # type: ignore[type-arg]
        finite = self.finite.pop(0)
        return np.zeros((len(finite), 256, 256, 3), np.uint8), finite

    def render(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[Faces, np.ndarray]:  # type: ignore[type-arg]
        return self.submit(latents, features).wait()

    def discard_graphs(self) -> None:
        self.discarded += 1

    def set_mode(self, mode: ExecutionMode) -> None:
        self.mode = mode

    def warm_up(self, sizes: list[int]) -> None:
        self.recorded = sizes


def scripted(networks: Scripted) -> MuseTalkRenderer:
    return MuseTalkRenderer(networks)  # type: ignore[arg-type]


def test_a_face_that_is_not_finite_fails_alone(avatars: Path) -> None:
    renderer = scripted(Scripted())
    avatar = renderer.prepare(Bundle(avatars / "synth"))
    broken = FEATURES.copy()
    broken[2, 7, 7] = np.nan
    faces = renderer.render_batch([FaceJob(avatar, row, broken[row]) for row in range(4)])
    assert [isinstance(face, Damaged) for face in faces] == [False, False, True, False]
    assert "row 2 of avatar 'synth'" in str(faces[2])
    with pytest.raises(Damaged, match="not finite"):
        renderer.render(avatar, [1, 2], broken[1:3])


def test_the_networks_report_faces_that_are_not_finite(networks: MuseTalk) -> None:
    latents = torch.zeros(2, 8, 32, 32)
    latents[1, 0, 0, 0] = torch.nan
    _, finite = networks.render(latents, torch.zeros(2, 50, 384))
    assert finite.tolist() == [True, False]


def test_without_memory_the_batch_is_halved_for_good(avatars: Path) -> None:
    networks = Scripted(largest=2)
    renderer = scripted(networks)
    avatar = renderer.prepare(Bundle(avatars / "synth"))
    assert len(renderer.render(avatar, list(range(6)), FEATURES)) == 6
    assert networks.sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert networks.discarded == 2, "graphs of larger batches take memory"
    networks.largest = 0
    with pytest.raises(Busy, match="no memory left"):
        renderer.render(avatar, [0], FEATURES[:1])


def test_measure_halves_the_batch_until_the_batch_fits() -> None:
    renderer = scripted(Scripted(largest=5))
    renderer.measure()
    assert renderer.max_batch == 4
    assert renderer.faces_per_second > 0
    with pytest.raises(Busy, match="no memory left"):
        scripted(Scripted(largest=0)).measure()


class ScriptedOnCuda(Scripted):
    """Networks whose compiled mode may fail."""

    device = torch.device("cuda")

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.failure = failure

    def render(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[Faces, np.ndarray]:  # type: ignore[type-arg]
        if self.mode.compiled and self.failure:
            raise self.failure
        return super().render(latents, features)


@pytest.mark.parametrize(
    ("rates", "compiled", "best"),
    [
        ({"channels first": 9.0, "channels last": 8.0, "channels last, compiled": 7.0}, True, "channels first"),
        ({"channels first": 7.0, "channels last": 9.0, "channels last, compiled": 8.0}, True, "channels last"),
        (
            {"channels first": 7.0, "channels last": 8.0, "channels last, compiled": 9.0},
            True,
            "channels last, compiled",
        ),
        ({"channels first": 7.0, "channels last": 8.0}, False, "channels last"),
    ],
)
def test_on_a_gpu_the_fastest_mode_is_selected(
    monkeypatch: pytest.MonkeyPatch, rates: dict[str, float], compiled: bool, best: str
) -> None:
    networks = ScriptedOnCuda()
    renderer = scripted(networks)
    monkeypatch.setattr(renderer, "_throughput", lambda: rates[str(networks.mode)])
    renderer.measure(compiled=compiled)
    assert str(networks.mode) == best
    assert renderer.faces_per_second == max(rates.values())
    assert networks.recorded == [1, 2, 3, 4, 6, 8, 12, 16][networks.mode.compiled :]


@pytest.mark.parametrize("failure", [RuntimeError("no compiler"), ValueError("")])
def test_without_a_compiler_the_renderer_continues_with_a_warning(
    caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    networks = ScriptedOnCuda(failure)
    renderer = scripted(networks)
    renderer.measure()
    assert not networks.mode.compiled
    assert renderer.faces_per_second > 0
    assert f"continuing without torch.compile: {type(failure).__name__}" in caplog.text


def test_the_networks_are_one_graph_for_all_sizes(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by torch.compile without its own compiler, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.utils.counters.clear()
    networks = MuseTalk(models, "v15", CPU, torch.float32)
    latents = torch.randn(4, 8, 32, 32, generator=torch.Generator().manual_seed(5))
    features = torch.from_numpy(FEATURES[:4])
    expected = {size: networks.render(latents[:size], features[:size])[0].astype(int) for size in (4, 3, 2)}
    networks.set_mode(ExecutionMode(compiled=True))
    for size, faces in expected.items():
        actual, finite = networks.render(latents[:size], features[:size])
        assert finite.all()
        assert np.abs(actual - faces).max() <= 1
        assert (actual != faces).mean() < 0.002
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_pending_batches_do_not_share_memory(networks: MuseTalk) -> None:
    latents = torch.randn(4, 8, 32, 32, generator=torch.Generator().manual_seed(5))
    features = torch.from_numpy(FEATURES)
    expected = [networks.render(latents[i : i + 1], features[i : i + 1])[0] for i in range(3)]
    batches = [networks.submit(latents[i : i + 1], features[i : i + 1]) for i in range(3)]
    for batch, faces in zip(batches, expected, strict=True):
        assert np.array_equal(batch.wait()[0], faces)
    copy = expected[0].copy()
    networks.render(latents, features[:4])
    assert np.array_equal(expected[0], copy), "returned faces are copies"


def test_a_batch_is_padded_to_a_recorded_size(networks: MuseTalk, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, features = torch.zeros(3, 8, 32, 32), torch.from_numpy(FEATURES[:3])
    expected, _ = networks.render(latents, features)
    networks.warm_up((4, 2))
    sizes: list[int] = []
    predict = networks.predict
    monkeypatch.setattr(networks, "predict", lambda *inputs: sizes.append(len(inputs[0])) or predict(*inputs))
    features[2, 0, 0] = torch.nan  # affects one face, and no face of the next batch
    _, finite = networks.render(latents, features)
    assert finite.tolist() == [True, True, False]
    features[2, 0, 0] = 0
    actual, finite = networks.render(latents[:2].repeat(2, 1, 1, 1)[:3], torch.from_numpy(FEATURES[:3]))
    assert sizes == [4, 4]
    assert finite.all()
    assert np.abs(actual.astype(int) - expected).max() <= 1
    networks.discard_graphs()
    networks.render(latents, features)
    assert sizes[2:] == [3]


def test_the_memory_layout_changes_little(models: Path) -> None:
    """With channels last, group norm is inaccurate on a CPU, where this layout is not used; a GPU takes the faster."""
    networks = MuseTalk(models, "v15", CPU, torch.float32)
    latents, features = torch.zeros(1, 8, 32, 32), torch.from_numpy(FEATURES[:1])
    plain, _ = networks.render(latents, features)
    networks.set_mode(ExecutionMode(channels_last=True))
    assert np.abs(networks.render(latents, features)[0].astype(int) - plain).mean() < 2
    networks.set_mode(ExecutionMode())
    assert np.array_equal(networks.render(latents, features)[0], plain)


def test_attention_is_fused(networks: MuseTalk, encoder: WhisperEncoder) -> None:
    processors = [
        module.processor
        for part in (networks.unet, networks.decoder)
        for module in part.modules()
        if hasattr(module, "processor")
    ]
    assert len(processors) > 3
    assert {type(one).__name__ for one in processors} == {"AttnProcessor2_0"}
    assert encoder.network.config._attn_implementation == "sdpa"


def test_folding_the_timestep_changes_nothing(models: Path, networks: MuseTalk) -> None:
    latents, features = torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(3)), FEATURES[:1]
    plain = MuseTalk(models, "v15", CPU, torch.float32, fold=False)
    a, b = (one.predict(latents, torch.from_numpy(features)) for one in (networks, plain))
    assert (a - b).abs().max() < 1e-5


@pytest.mark.parametrize(("dtype", "mean"), [(torch.float16, 0.5), (torch.bfloat16, 4.0)])
def test_half_precision_is_near(
    models: Path, renderer: MuseTalkRenderer, avatars: Path, dtype: torch.dtype, mean: float
) -> None:
    bundle = Bundle(avatars / "synth")
    half = MuseTalkRenderer(MuseTalk(models, "v15", CPU, dtype))
    faces = [one.render(one.prepare(bundle), [0], FEATURES[:1])[0].astype(int) for one in (renderer, half)]
    assert np.abs(faces[0] - faces[1]).mean() < mean


def test_an_avatar_of_another_version_or_codec(renderer: MuseTalkRenderer, own: Path) -> None:
    stored = read_latents(own)
    for changed in (replace(stored, version="v1"), replace(stored, vae="0123456789abcdef")):
        write_latents(own, changed)
        with pytest.raises(NotReady, match="Build it again with these weights"):
            renderer.prepare(Bundle(own))


def test_broken_latents(renderer: MuseTalkRenderer, own: Path) -> None:
    write_latents(own, Latents(np.zeros((3, 8, 32, 32), np.float16), "", "v15"))
    with pytest.raises(Damaged, match="3 latents for 6 frames"):
        renderer.prepare(Bundle(own))
    (own / "latents.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Damaged, match=r"latents\.safetensors cannot be read"):
        renderer.prepare(Bundle(own))
    (own / "latents.safetensors").unlink()
    with pytest.raises(Damaged, match=r"latents\.safetensors cannot be read"):
        renderer.prepare(Bundle(own))


def test_latents_are_aligned_with_the_rows_of_the_bundle(models: Path, networks: MuseTalk, own: Path) -> None:
    bundle = Bundle(own)
    bundle.faces.usable[2] = 0
    calls: list[tuple[int, int]] = []
    encoder = LatentEncoder(models, CPU, torch.float32, batch=2)
    latents = avatar_latents(bundle, encoder, "v15", lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]
    assert not latents.values[2].any()
    imported = read_latents(own).values.astype(np.float32)
    for row in (0, 1, 3, 4, 5):  # the reference samples the posterior; avatar_latents returns the mean
        distance = [np.abs(latents.values[row] - imported[other]).mean() for other in range(6)]
        assert distance[row] < 0.1
    assert encoder.vae == networks.vae


def test_unknown_devices_and_precisions() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_dtype("auto", CPU) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.float16
    for device in ("warp", "tpu:0x"):
        with pytest.raises(InvalidInput, match="no device"):
            pick_device(device)
    with pytest.raises(InvalidInput, match="Use auto, fp32"):
        pick_dtype("int4", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(NotReady, match=r"sees no CUDA GPU.*musetalk\.device to cpu"):
        pick_device("cuda")
