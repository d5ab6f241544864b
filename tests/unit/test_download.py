"""Download of weights from a server that disconnects, sends other files or refuses, and the commands for weights."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from warmtalk.cli import main
from warmtalk.core.errors import Damaged, Interrupted, NotReady, Unreachable
from warmtalk.models.checkpoints import fetch, optional_weights
from warmtalk.models.checkpoints.download import download
from warmtalk.models.checkpoints.optional_weights import DWPOSE, GFPGAN, WEIGHT_FILES, WeightFile

DATA = bytes(range(256)) * 12_000
Capture = pytest.CaptureFixture[str]
SHA = hashlib.sha256(DATA).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serves DATA under every path, at most `max_bytes` for each connection."""

    max_bytes = len(DATA)
    ranges = True
    data = DATA
    status = 200
    requests: list[tuple[str, str]]
    """Path and Range of each request."""

    def do_GET(self) -> None:
        range_header = self.headers.get("Range", "")
        self.requests.append((self.path, range_header))
        if self.status != 200:
            self.send_error(self.status)
            return
        start = int(range_header.removeprefix("bytes=").removesuffix("-")) if range_header and self.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.data) - start))
        self.end_headers()
        self.wfile.write(self.data[start : start + self.max_bytes])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Files]]]:
    """Address of a server, and the class of the handler."""
    handler = type("OwnFiles", (Files,), {"requests": []})
    one = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{one.server_port}", handler
    one.shutdown()
    one.server_close()


def test_a_file_is_downloaded(server: tuple[str, type[Files]], tmp_path: Path) -> None:
    path = download(f"{server[0]}/a", tmp_path / "deep" / "a", len(DATA), SHA)
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_connection_is_resumed(server: tuple[str, type[Files]], tmp_path: Path) -> None:
    server[1].max_bytes = 1_200_000
    assert download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA).read_bytes() == DATA
    assert [range_header for _, range_header in server[1].requests] == ["", "bytes=1200000-", "bytes=2400000-"]


def test_a_server_without_ranges_starts_again(server: tuple[str, type[Files]], tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"other" * 100)
    server[1].ranges = False
    assert download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA).read_bytes() == DATA


def test_a_stopped_download_continues_later(server: tuple[str, type[Files]], tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="is kept"):
        download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA, stopped=lambda: True)
    stored = (tmp_path / "a.part").stat().st_size
    assert 0 < stored < len(DATA)
    assert not (tmp_path / "a").exists()
    assert download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA).read_bytes() == DATA
    assert server[1].requests[-1] == ("/a", f"bytes={stored}-")


@pytest.mark.parametrize("data", [DATA[::-1], DATA[:-1], DATA + b"x", b"<html>sign in</html>"])
def test_a_file_with_other_contents_is_deleted(server: tuple[str, type[Files]], tmp_path: Path, data: bytes) -> None:
    server[1].data = data
    with pytest.raises(Damaged, match=r"gave a file of .*, not "):
        download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_refuses(server: tuple[str, type[Files]], tmp_path: Path, status: int) -> None:
    server[1].status = status
    with pytest.raises(Unreachable, match=rf"cannot be fetched \(HTTP Error {status}.*weights import"):
        download(f"{server[0]}/a", tmp_path / "a", len(DATA), SHA)
    assert len(server[1].requests) == 1


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="refused"):
        download("http://127.0.0.1:9/a", tmp_path / "a", len(DATA), SHA)


def small(weight_file: WeightFile, url: str = "") -> WeightFile:
    return replace(weight_file, size=len(DATA), sha256=SHA, url=url or weight_file.url)


def test_files_of_the_hub_come_from_the_mirror(server: tuple[str, type[Files]], tmp_path: Path) -> None:
    path = fetch.fetch_weight_file(small(DWPOSE), tmp_path, hub=server[0] + "/")
    assert path == tmp_path / "dwpose" / "dw-ll_ucoco_384.onnx"
    assert server[1].requests == [("/yzd-v/DWPose/resolve/main/dw-ll_ucoco_384.onnx", "")]
    assert fetch.fetch_weight_file(small(DWPOSE), tmp_path, hub="http://127.0.0.1:9") == path  # no second request


def test_the_list_of_files_is_consistent() -> None:
    assert len({weight_file.path for weight_file in WEIGHT_FILES}) == len(WEIGHT_FILES)
    for weight_file in WEIGHT_FILES:
        assert weight_file.url.startswith(("/", "https://"))
        assert weight_file.url.endswith("/" + weight_file.name)
        assert len(bytes.fromhex(weight_file.sha256)) == 32
        stem, _, rest = weight_file.name.partition("-")
        if stem in ("s3fd", "2DFAN4", "resnet18"):  # names contain the sha256
            assert weight_file.sha256.startswith(rest.split(".")[0])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of models, with a command line that knows two files of DATA."""
    for module in ("warmtalk.cli.weights", "warmtalk.models.checkpoints.optional_weights"):
        monkeypatch.setattr(f"{module}.WEIGHT_FILES", (small(DWPOSE), small(GFPGAN)))
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def test_fetch_by_name(
    few: Path, server: tuple[str, type[Files]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    assert main(["weights", "fetch", "dwpose"]) == 0
    assert "dwpose/dw-ll_ucoco_384.onnx" in capsys.readouterr().out
    assert [path.name for path in few.rglob("*") if path.is_file()] == ["dw-ll_ucoco_384.onnx"]
    with pytest.raises(SystemExit):
        main(["weights", "fetch", "dwpase"])
    assert "Did you mean dwpose?" in capsys.readouterr().err


def test_verify_lists_the_features_that_missing_files_disable(few: Path, capsys: Capture) -> None:
    (few / "gfpgan").mkdir(parents=True)
    (few / "gfpgan" / "GFPGANv1.4.pth").write_bytes(DATA[:-5])
    assert main(["weights", "verify"]) == 1
    output = capsys.readouterr().out
    assert "optional dwpose           disables: preparing avatars with the reference program's landmarks" in output
    assert "Run: warmtalk weights fetch dwpose" in output
    assert "DAMAGED  gfpgan           disables: sharper faces" in output
    assert f"has {len(DATA) - 5} bytes, the published file {len(DATA)}" in output
    (few / "gfpgan" / "GFPGANv1.4.pth").write_bytes(DATA[::-1])
    main(["weights", "verify"])
    assert "has sha256" in capsys.readouterr().out
    (few / "gfpgan" / "GFPGANv1.4.pth").write_bytes(DATA)
    main(["weights", "verify"])
    assert "ok       gfpgan" in capsys.readouterr().out


def test_import_finds_the_valid_file_among_several(few: Path, tmp_path: Path, capsys: Capture) -> None:
    cache = tmp_path / "cache"
    for name, data in (("a", b"cut"), ("b", DATA)):
        (cache / name).mkdir(parents=True)
        (cache / name / "GFPGANv1.4.pth").write_bytes(data)
    assert main(["weights", "import", str(cache), "gfpgan"]) == 0
    assert (few / "gfpgan" / "GFPGANv1.4.pth").read_bytes() == DATA
    assert main(["weights", "import", str(cache), "dwpose"]) == 1
    assert "has no dw-ll_ucoco_384.onnx" in capsys.readouterr().err
    assert main(["weights", "import", str(cache / "a"), "gfpgan"]) == 1
    assert "3 bytes" in capsys.readouterr().err
    assert main(["weights", "import", str(tmp_path / "nowhere")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_a_missing_file_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"GFPGANv1\.4\.pth. Run: warmtalk weights fetch gfpgan"):
        optional_weights.find(tmp_path, GFPGAN)
