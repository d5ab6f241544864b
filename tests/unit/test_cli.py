"""What the command line says without any service: mistakes, lengths, and what it refuses to remove."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from warmtalk.cli import avatar, demo, formatting, main
from warmtalk.cli.supervisor import found
from warmtalk.config import Config, InferConfig, SessionConfig
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.errors import from_rpc


def said(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_no_words_at_all_get_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "examples:" in said(capsys)


def test_a_misspelt_word_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "spaek", "--session", "s1")
    assert text == "warmtalk: argument COMMAND: invalid choice: 'spaek'. Did you mean speak?\nSee: warmtalk --help\n"
    assert "Did you mean inspect?" in said(capsys, "avatar", "inspct", "anna")


def test_a_missing_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "speak", "--text", "Hello.")
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
    assert formatting.clips_of(count, seconds) == text


def test_where_no_file_can_go_is_said_before_the_work(tmp_path: Path) -> None:
    assert formatting.writable(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    with pytest.raises(InvalidInput, match="is a folder"):
        formatting.writable(tmp_path)
    with pytest.raises(InvalidInput, match="there is no folder"):
        formatting.writable(tmp_path / "none" / "a.mp4")


def test_demo_removes_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "data" / "sessions" / "demo"
    old.mkdir(parents=True)
    demo._empty(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    theirs = tmp_path / "data" / "sessions" / "work"
    theirs.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"holds data/sessions/work, which is not of a demo.*--out"):
        demo._empty(tmp_path)
    assert theirs.is_dir()


def test_services_find_each_other_where_they_listen() -> None:
    moved = replace(Config(), infer=InferConfig(listen="127.0.0.1:6000"))
    assert found(Config()) == {}
    assert found(moved) == {"WARMTALK_SESSION_INFER": "127.0.0.1:6000", "WARMTALK_GATEWAY_INFER": "127.0.0.1:6000"}
    elsewhere = replace(moved, session=SessionConfig(infer="gpu:50052"))
    assert found(elsewhere) == {"WARMTALK_GATEWAY_INFER": "127.0.0.1:6000"}


def test_a_service_that_is_down_is_told_in_plain_words() -> None:
    text = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:50053: "
        "Failed to connect to remote host: Connection refused"
    )
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details=text)
    assert str(from_rpc(error, "session")) == (
        "the session service does not answer (127.0.0.1:50053: Connection refused). "
        "Is it running? Start all with: warmtalk up"
    )


def test_ctrl_c_says_that_a_build_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(asyncio.CancelledError), avatar._said_to_go_on("anna"):
        raise asyncio.CancelledError
    assert "warmtalk avatar delete anna stops it" in capsys.readouterr().err
