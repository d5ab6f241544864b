"""The command line without any service: argument errors, durations, output checks, start of the services."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from warmtalk.cli import avatar, demo, formatting, main
from warmtalk.cli.addresses import peer_environment
from warmtalk.cli.supervisor import Supervisor
from warmtalk.config import Config, GatewayConfig, InferConfig, SessionConfig
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.errors import from_rpc


def argument_error(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "examples:" in argument_error(capsys)


def test_a_misspelt_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    text = argument_error(capsys, "spaek", "--session", "s1")
    assert text == "warmtalk: argument COMMAND: invalid choice: 'spaek'. Did you mean speak?\nSee: warmtalk --help\n"
    assert "Did you mean inspect?" in argument_error(capsys, "avatar", "inspct", "anna")


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = argument_error(capsys, "speak", "--text", "Hello.")
    assert "required: --session" in text and text.endswith("See: warmtalk speak --help\n")


@pytest.mark.parametrize(
    ("count", "seconds", "text"),
    [
        (0, 0.0, "0 clips, 0.0 s"),
        (1, 4.04, "1 clip, 4.0 s"),
        (2, 59.96, "2 clips, 1 min 0 s"),
        (9, 200, "9 clips, 3 min 20 s"),
    ],
)
def test_lengths(count: int, seconds: float, text: str) -> None:
    assert formatting.clips_length(count, seconds) == text


def test_an_output_path_is_checked_before_the_work(tmp_path: Path) -> None:
    formatting.check_writable(tmp_path / "a.mp4")
    with pytest.raises(InvalidInput, match="is a folder"):
        formatting.check_writable(tmp_path)
    with pytest.raises(InvalidInput, match="there is no folder"):
        formatting.check_writable(tmp_path / "none" / "a.mp4")


def test_demo_deletes_an_earlier_demo_and_nothing_else(tmp_path: Path) -> None:
    earlier = tmp_path / "data" / "sessions" / "demo"
    earlier.mkdir(parents=True)
    demo._clear_output(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    other = tmp_path / "data" / "sessions" / "work"
    other.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"contains data/sessions/work, which no demo has written.*--out"):
        demo._clear_output(tmp_path)
    assert other.is_dir()


def test_services_find_each_other_at_changed_addresses() -> None:
    moved = replace(Config(), infer=InferConfig(listen="127.0.0.1:6000"))
    assert peer_environment(Config()) == {}
    assert peer_environment(moved) == {
        "WARMTALK_SESSION_INFER": "127.0.0.1:6000",
        "WARMTALK_GATEWAY_INFER": "127.0.0.1:6000",
    }
    explicit = replace(moved, session=SessionConfig(infer="gpu:50052"))
    assert peer_environment(explicit) == {"WARMTALK_GATEWAY_INFER": "127.0.0.1:6000"}


async def test_no_service_starts_when_one_would_listen_on_the_network_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def started(*_: object, **__: object) -> None:
        raise AssertionError("a service was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    supervisor = Supervisor(replace(Config(), gateway=GatewayConfig(listen="0.0.0.0:0")))
    with pytest.raises(InvalidInput, match=r"the gateway service .*0\.0\.0\.0:0 .*no API key"):
        await supervisor.__aenter__()


def test_a_service_that_is_down_gets_a_clear_error() -> None:
    text = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:50053: "
        "Failed to connect to remote host: Connection refused"
    )
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details=text)
    assert str(from_rpc(error, "session")) == (
        "the session service does not answer (127.0.0.1:50053: Connection refused). "
        "Is it running? Start all with: warmtalk up"
    )


def test_ctrl_c_tells_that_a_build_continues(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(asyncio.CancelledError), avatar._hint_on_interrupt("anna"):
        raise asyncio.CancelledError
    assert "Stop the build: warmtalk avatar delete anna" in capsys.readouterr().err


DOCTOR = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores SIGINT
from warmtalk.cli import main
sys.exit(main(["doctor"]))
"""


def test_the_help_needs_no_heavy_imports() -> None:
    code = "import sys; from warmtalk.cli.arguments import _parser; _parser(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cv2", "numpy", "av", "torch"} & set(modules)


@pytest.mark.parametrize("module", ["argparse", "asyncio", "google.protobuf", "grpc"])
def test_ctrl_c_during_the_imports_prints_no_traceback(module: str) -> None:
    """SIGINT is sent when the import of `module` has finished, in the first 0.3 s of the process."""
    command = [sys.executable, "-X", "importtime", "-c", DOCTOR]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.rpartition("|")[2].strip() == module:
                break
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    assert child.returncode == 130
    assert "Traceback" not in rest
