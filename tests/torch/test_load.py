"""Checkpoints as users have them: in nested folders, truncated, of another network, with old names."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.golden.tiny_checkpoint import write_modern_vae
from tests.torch.conftest import GOLDEN
from warmtalk.core.errors import Damaged, InvalidInput, NotReady
from warmtalk.models.checkpoints import load, tensor_files, weights


@pytest.fixture
def own(models: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may break."""
    return shutil.copytree(models, tmp_path / "models")


def change(path: Path, **values: object) -> None:
    """Changes keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_old_attention_names_are_the_new_ones(models: Path, tmp_path: Path) -> None:
    write_modern_vae(tmp_path / "sd-vae")
    old, new = (load.vae(folder, torch.float32).state_dict() for folder in (models, tmp_path))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize("naming", ["vae_legacy_as_published", "vae_modern"])
def test_every_name_of_the_real_vae_is_mapped(naming: str) -> None:
    names = json.loads((GOLDEN / "keys" / f"{naming}.json").read_text())
    modern = json.loads((GOLDEN / "keys" / "vae_modern.json").read_text())
    assert {load._modern_name(name) for name in names} == set(modern)


def test_the_real_unet_has_the_published_names(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(**tensor_files.read_config(GOLDEN / "keys" / "musetalk.json"))
    published = json.loads((GOLDEN / "keys" / "unet_musetalk.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == published


def test_weights_in_nested_folders_are_found(models: Path, tmp_path: Path) -> None:
    for folder, nested in (
        ("musetalkV15", "musetalkV15/musetalkV15"),
        ("sd-vae", "sd-vae-ft-mse"),
        ("whisper", "whisper/models/tiny"),
    ):
        shutil.copytree(models / folder, tmp_path / nested)
    assert weights.present(tmp_path)
    assert not weights.present(tmp_path, "v1")
    load.unet(tmp_path, "v15", torch.float32)


def test_the_decoder_is_loaded_without_the_encoder(models: Path) -> None:
    whole, half = load.vae(models, torch.float16), load.vae(models, torch.float16, encoder=False)
    assert half.encoder is None
    assert {name for name in whole.state_dict() if name.startswith(("decoder", "post"))} == set(half.state_dict())


@pytest.mark.parametrize("keep", [0, 10, 100_000])
def test_a_truncated_checkpoint(own: Path, keep: int) -> None:
    path = own / "musetalkV15" / "unet.pth"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Damaged, match=r"unet\.pth cannot be read.*warmtalk weights fetch"):
        load.unet(own, "v15", torch.float32)


def test_a_truncated_safetensors_file(own: Path) -> None:
    path = own / "musetalkV15" / "unet.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Damaged, match="cannot be read"):
        load.unet(own, "v15", torch.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are released on Linux only")
@pytest.mark.parametrize("name", ["unet.pth", "unet.safetensors"])
def test_a_conversion_holds_one_tensor_twice_at_most(tmp_path: Path, name: str) -> None:
    """128 MB of single precision become 64 MB, with at most two tensors of 16 MB more on the way."""
    tensors = {str(i): torch.full((4 << 20,), float(i)) for i in range(8)}
    path = tmp_path / name
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    program = """
import resource, sys, torch
from pathlib import Path
from warmtalk.models.checkpoints.tensor_files import read_tensors
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
tensors = read_tensors(Path(sys.argv[1]), torch.float16)
print(peak() - before)
assert all((tensor == int(name)).all() for name, tensor in tensors.items())
"""
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 64 + 32


def test_no_room_on_the_device(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(tensor_files, "_moved", full)
    with pytest.raises(NotReady, match=r"cpu has no memory for unet\.pth .*musetalk\.dtype to fp16"):
        load.unet(own, "v15", torch.float32)


def test_code_in_a_checkpoint_is_not_run(own: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(own / "owned"),))  # type: ignore[return-value]

    torch.save({"a": Evil()}, own / "musetalkV15" / "unet.pth")
    with pytest.raises(Damaged, match="cannot be read"):
        load.unet(own, "v15", torch.float32)
    assert not (own / "owned").exists()


def test_a_checkpoint_that_is_no_dictionary(own: Path) -> None:
    torch.save(torch.zeros(3), own / "musetalkV15" / "unet.pth")
    with pytest.raises(Damaged, match="unet"):
        load.unet(own, "v15", torch.float32)


def test_another_network_under_this_name(own: Path) -> None:
    shutil.copy(own / "whisper" / "pytorch_model.bin", own / "musetalkV15" / "unet.pth")
    with pytest.raises(Damaged, match=r"is not the MuseTalk v1\.5 that musetalk\.json describes: of 440 tensors, 440"):
        load.unet(own, "v15", torch.float32)


def test_another_size_of_the_network(own: Path) -> None:
    change(own / "musetalkV15" / "musetalk.json", cross_attention_dim=768)
    with pytest.raises(Damaged, match="of another shape"):
        load.unet(own, "v15", torch.float32)


def test_a_description_of_nothing(own: Path) -> None:
    (own / "musetalkV15" / "musetalk.json").write_text('{"block_out_channels": 3}')
    with pytest.raises(Damaged, match=r"does not describe the MuseTalk v1\.5"):
        load.unet(own, "v15", torch.float32)


def test_missing_weights_say_what_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"no folder of models.*warmtalk weights fetch"):
        load.unet(tmp_path / "none", "v15", torch.float32)
    with pytest.raises(NotReady, match=r"musetalkV15 has no unet\.safetensors or unet\.pth"):
        load.unet(tmp_path, "v15", torch.float32)


def test_v1_where_v15_is_asked(own: Path) -> None:
    shutil.rmtree(own / "musetalkV15")
    with pytest.raises(NotReady, match=r"MuseTalk v1 is there: it is version v1"):
        load.unet(own, "v15", torch.float32)
    (own / "musetalkV15").mkdir()
    for name in ("musetalk.json", "pytorch_model.bin"):
        shutil.copy(own / "musetalk" / name, own / "musetalkV15" / name)
    with pytest.raises(NotReady, match=r"pytorch_model\.bin is the file of MuseTalk v1\)"):
        load.unet(own, "v15", torch.float32)


def test_a_file_written_for_the_other_version(own: Path) -> None:
    tensors = {
        name: tensor.clone()
        for name, tensor in tensor_files.read_tensors(own / "musetalk" / "pytorch_model.bin").items()
    }
    save_file(tensors, own / "musetalkV15" / "unet.safetensors", {load.PART_KEY: "musetalk"})
    with pytest.raises(Damaged, match="was written for musetalk, not for musetalkV15"):
        load.unet(own, "v15", torch.float32)


def test_no_such_version(models: Path) -> None:
    with pytest.raises(InvalidInput, match="Use v15 or v1"):
        load.unet(models, "v2", torch.float32)


def test_whisper_of_another_size(own: Path) -> None:
    change(own / "whisper" / "config.json", d_model=512)
    with pytest.raises(Damaged, match=r"config\.json does not describe whisper-tiny"):
        load.whisper(own, torch.float32)


def test_whisper_with_tensors_of_another_size(own: Path) -> None:
    path = own / "whisper" / "pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    torch.save(tensors | {"model.encoder.conv1.weight": torch.zeros(512, 80, 3)}, path)
    with pytest.raises(Damaged, match=r"is not the speech encoder .* 1 are of another shape, the first conv1\.weight"):
        load.whisper(own, torch.float32)


def test_whisper_is_loaded_from_the_published_files(
    own: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Keys of openai/whisper-tiny that the encoder does not use, and a front end with stored filters.

    Without a connection and without a warning.
    """
    monkeypatch.setattr(socket.socket, "connect", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    change(
        own / "whisper" / "config.json",
        _name_or_path="openai/whisper-tiny",
        architectures=["WhisperForConditionalGeneration"],
        forced_decoder_ids=[[1, 50259], [2, 50359], [3, 50363]],
        suppress_tokens=[1, 2, 7],
        max_length=448,
        torch_dtype="float32",
        transformers_version="4.27.0.dev0",
    )
    front_end = own / "whisper" / "preprocessor_config.json"
    published = {"feature_extractor_type": "WhisperFeatureExtractor", "mel_filters": [[0.0, 0.1]], "n_samples": 480_000}
    front_end.write_text(json.dumps({**published, "processor_class": "WhisperProcessor", "chunk_length": 30}))
    assert {tensor.dtype for tensor in load.whisper(own, torch.float16).state_dict().values()} == {torch.float16}
    assert load.feature_extractor(own).mel_filters.shape == (201, 80)
    assert capfd.readouterr() == ("", "")
    change(front_end, feature_size=128)
    with pytest.raises(Damaged, match=r"preprocessor_config\.json does not describe the front end of whisper-tiny"):
        load.feature_extractor(own)
