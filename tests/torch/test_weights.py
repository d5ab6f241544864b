"""The commands warmtalk weights and verify-golden; the hub is a server of this test."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tests.golden.tiny_checkpoint import write_modern_vae
from tests.torch.conftest import CPU
from tests.torch.test_golden import vectors_with
from warmtalk.cli import main
from warmtalk.core.errors import Damaged
from warmtalk.models.checkpoints import load
from warmtalk.models.checkpoints.tensor_files import read_tensors
from warmtalk.models.checkpoints.weights import present
from warmtalk.models.musetalk.networks import MuseTalk


class Hub(BaseHTTPRequestHandler):
    """Serves /OWNER/NAME/resolve/main/FILE as the hub does for large files."""

    files: dict[str, bytes]
    wrong_digest = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        data = self.files.get(self.path.split("?")[0].replace("/resolve/main/", ":").lstrip("/"))
        if data is None:
            self.send_response(404)
            self.end_headers()
            return
        digest = hashlib.sha256(b"other" if self.wrong_digest else data).hexdigest()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("X-Linked-ETag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            self.wfile.write(data[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(models: Path, tmp_path: Path) -> Iterator[tuple[str, type[Hub]]]:
    """Address of a hub with the tiny checkpoint, and the class of the handler."""
    write_modern_vae(tmp_path / "vae")
    whisper = tmp_path / "whisper.safetensors"
    from safetensors.torch import save_file

    save_file(read_tensors(models / "whisper" / "pytorch_model.bin"), whisper)
    places = {
        "TMElyralab/MuseTalk:musetalkV15/musetalk.json": models / "musetalkV15" / "musetalk.json",
        "TMElyralab/MuseTalk:musetalkV15/unet.pth": models / "musetalkV15" / "unet.pth",
        "stabilityai/sd-vae-ft-mse:config.json": models / "sd-vae" / "config.json",
        "stabilityai/sd-vae-ft-mse:diffusion_pytorch_model.safetensors": next((tmp_path / "vae").glob("*.safetensors")),
        "openai/whisper-tiny:config.json": models / "whisper" / "config.json",
        "openai/whisper-tiny:model.safetensors": whisper,
    }
    handler = type("TinyHub", (Hub,), {"files": {name: path.read_bytes() for name, path in places.items()}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def fetch(address: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs in a new process: the hub's client reads HF_ENDPOINT on import."""
    environ = os.environ | {
        "HF_ENDPOINT": address,
        "WARMTALK_MODELS_DIR": str(folder),
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "warmtalk.cli", "weights", "fetch"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_fetch_from_a_mirror_into_the_published_layout(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    run = fetch(hub[0], folder)
    assert run.returncode == 0, run.stderr
    assert present(folder)
    MuseTalk(folder, "v15", CPU, torch.float32)
    again = fetch("http://127.0.0.1:9", folder)  # all files are present: no request
    assert again.returncode == 0, again.stderr


def test_a_file_that_differs_from_the_digest_of_the_hub(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    hub[1].wrong_digest = True
    run = fetch(hub[0], tmp_path / "fetched")
    assert run.returncode == 1
    assert "has sha256" in run.stderr
    assert not list((tmp_path / "fetched").glob("*/unet.pth"))


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    run = fetch("http://127.0.0.1:9", tmp_path / "fetched")
    assert run.returncode == 1
    assert "HF_ENDPOINT" in run.stderr
    assert "Traceback" not in run.stderr


def test_verify_lists_missing_parts(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(models))
    assert main(["weights", "verify"]) == 0
    assert capsys.readouterr().out.count("ok ") == 4
    own = shutil.copytree(models, tmp_path / "models")
    shutil.rmtree(own / "musetalk")
    shutil.rmtree(own / "whisper")
    (own / "sd-vae" / "diffusion_pytorch_model.bin").write_bytes(b"cut")
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(own))
    assert main(["weights", "verify"]) == 1
    output = capsys.readouterr().out
    assert output.count("MISSING") == 3
    assert "disables: renderer musetalk, version v1\n" in output
    assert "cannot be read" in output


def test_import_flattens_nested_downloads(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("musetalkV15", "sd-vae", "whisper"):
        shutil.copytree(models / name, tmp_path / "naive" / name / name)
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(tmp_path / "own"))
    assert main(["weights", "import", str(tmp_path / "naive")]) == 0
    assert (tmp_path / "own" / "musetalkV15" / "unet.pth").is_file()
    assert main(["weights", "verify"]) == 0
    assert main(["weights", "import", str(tmp_path / "naive"), "--version", "v1"]) == 1
    assert "MuseTalk v1" in capsys.readouterr().err


def test_a_lean_export_renders_the_same(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(models))
    lean = tmp_path / "lean"
    assert main(["weights", "export-lean", str(lean)]) == 0
    assert main(["weights", "export-lean", str(lean)]) == 1  # the folder is not empty
    assert sorted(str(path.relative_to(lean)) for path in lean.rglob("*.safetensors")) == [
        "musetalkV15/unet.safetensors",
        "sd-vae/diffusion_pytorch_model.safetensors",
        "whisper/model.safetensors",
    ]
    latents, features = torch.ones(1, 8, 32, 32), torch.ones(1, 50, 384)
    whole, small = (MuseTalk(folder, "v15", CPU, torch.float16) for folder in (models, lean))
    assert (whole.render(latents, features)[0] == small.render(latents, features)[0]).all()
    assert whole.vae == small.vae
    with pytest.raises(Exception, match="only the decoder"):
        load.vae(lean, torch.float32)
    (lean / "musetalk").mkdir()
    for path in (lean / "musetalkV15").iterdir():
        shutil.copy(path, lean / "musetalk")
    with pytest.raises(Damaged, match="was written for musetalkV15"):
        load.unet(lean, "v1", torch.float16)


def test_verify_golden_fails_with_other_weights(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = ("pe.npz", "synth_audio", "synth_offline.npz synth_v15_raw", "synth_offline.npz synth_noise")
    vectors = vectors_with(tmp_path / "vectors", *arrays, "parsing.npz label_map")
    assert main(["verify-golden", str(vectors), "--models", str(models), "--device", "cpu"]) == 0
    report = capsys.readouterr().out
    assert re.search(
        r"processor       .+\ninstructions    .+\ntorch           2\.\S+, CPU kernels \w+, 2 threads", report
    )
    own = shutil.copytree(models, tmp_path / "models")
    tensors = torch.load(own / "musetalkV15" / "unet.pth", weights_only=True)
    tensors["conv_out.bias"] += 0.05
    torch.save(tensors, own / "musetalkV15" / "unet.pth")
    assert main(["verify-golden", str(vectors), "--models", str(own), "--device", "cpu"]) == 1
    failed = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "FAIL" in line and "npz" in line]
    assert failed == ["synth_v15_raw/final_0", "synth_v15_raw/final_7"]
    assert main(["verify-golden", str(tmp_path), "--models", str(models)]) == 1
