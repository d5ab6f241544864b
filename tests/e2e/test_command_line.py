"""The whole product as users meet it: `warmtalk up` and the other commands, as child processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import av
import pytest

from tests.audio import syllables, wav
from tests.e2e.stack import LocalStack, new_stack, read_until


def test_two_clips_join_and_a_reset_starts_the_next_conversation(stack: LocalStack) -> None:
    first = stack.run("speak", "--session", "talk", "--avatar", "eileen", "--text", "Hello there. How are you?")
    (stack.folder / "speech.wav").write_bytes(wav(syllables(1.1)))
    second = stack.run("speak", "--session", "talk", "--audio", "speech.wav", "--out", "clip.mp4")
    assert "(1 clip, " in first
    assert "(2 clips, " in second
    assert (stack.folder / "clip.mp4").stat().st_size > 1000
    shown = stack.run("sessions", "talk")
    assert "Hello there. How are you?" in shown
    assert "28 frames  (audio)" in shown
    path = re.search(r"conversation +(\S+\.mp4)", second)
    assert path
    with av.open(path[1]) as file:
        times = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    assert (
        times == [frame / 25 for frame in range(len(times))]
        or max(abs(float(seconds) - number / 25) for number, seconds in enumerate(times)) < 1e-6
    )
    stack.run("export", "--session", "talk", "--out", "talk.mp4")
    with av.open(str(stack.folder / "talk.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
    closed = stack.run("reset", "--session", "talk")
    assert "(2 clips, " in closed
    assert "starts conversation 2" in closed
    assert "starts conversation 2" in stack.run("reset", "--session", "talk")
    assert "talk" in stack.run("sessions")
    stack.run("export", "--session", "talk", "--conversation", "1", "--out", "first.mp4")
    stack.run("sessions", "talk", "--delete")
    assert "no session" in stack.run("sessions", "talk", status=1)


def test_text_from_standard_input(stack: LocalStack) -> None:
    output = stack.run("speak", "--session", "piped", "--avatar", "eileen", "--text", "-", stdin="Good morning.")
    assert "(1 clip, " in output


def test_the_offline_render_is_a_video_with_audio(stack: LocalStack) -> None:
    (stack.folder / "long.wav").write_bytes(wav(syllables(3.0, 44_100), 44_100))
    stack.run("render", "--avatar", "eileen", "--audio", "long.wav", "--out", "offline.mp4")
    with av.open(str(stack.folder / "offline.mp4")) as file:
        frames = sum(1 for _ in file.decode(video=0))
    with av.open(str(stack.folder / "offline.mp4")) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert (frames, samples) == (75, 144_000)


def test_doctor_reports_a_complete_installation(stack: LocalStack) -> None:
    output = stack.run("doctor")
    assert "MISSING" not in output
    assert output.count("up       ") == 4
    assert "all parts of the embedded renderer are installed" in output


def test_avatars_are_listed_shown_and_deleted(stack: LocalStack) -> None:
    created = stack.run("avatar", "create", "second", "photo.png", "--at", "222,130")
    assert "fair: 25 frames, 25 usable" in created and "- the face is" in created and "adjustable range" in created
    assert "second" in stack.run("avatar", "list")
    assert "photo.png" in stack.run("avatar", "show", "second")
    summary = stack.run("avatar", "inspect", "second", "--sheet", "second.png")
    assert "footage  fair" in summary and (stack.folder / "second.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(stack.run("avatar", "inspect", "second", "--json"))["grade"] == "fair"
    stack.run("avatar", "delete", "second")
    assert "second" not in stack.run("avatar", "list")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["avatar", "create", "x", "nowhere.mp4"], ["nowhere.mp4", "No such file"]),
        (["avatar", "create", "../x", "photo.png"], ["avatar_id is '../x'", "Use 1 to 63"]),
        (["avatar", "show", "nobody"], ["nobody"]),
        (["avatar", "inspect", "nobody"], ["nobody"]),
        (["speak", "--session", "s", "--avatar", "nobody", "--text", "Hi."], ["no avatar 'nobody'", "avatar create"]),
        (["speak", "--session", "s", "--text", "Hi."], ["avatar"]),
        (["speak", "--session", "s", "--audio", "photo.png", "--avatar", "eileen"], ["audio"]),
        (["speak", "--session", "s", "--audio", "nowhere.wav", "--avatar", "eileen"], ["nowhere.wav"]),
        (["speak", "--session", "S!", "--avatar", "eileen", "--text", "Hi."], ["session_id is 'S!'"]),
        (["render", "--avatar", "nobody", "--audio", "photo.png", "--out", "o.mp4"], ["no avatar 'nobody'"]),
        (["export", "--session", "unknown", "--out", "o.mp4"], ["unknown"]),
        (["--config", "nowhere.yaml", "doctor"], ["nowhere.yaml"]),
    ],
)
def test_an_error_is_one_clear_line(stack: LocalStack, args: list[str], words: list[str]) -> None:
    errors = stack.run(*args, status=1)
    lines = [line for line in errors.splitlines() if line.startswith("warmtalk: ")]
    assert len(lines) == 1, errors
    for word in words:
        assert word in lines[0]


def test_a_second_up_reports_that_the_address_is_in_use(stack: LocalStack) -> None:
    child = stack.up()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 1, out + err
    assert "cannot listen on" in err
    assert "another warmtalk up" in err


@pytest.mark.parametrize(("key", "words"), [("", "this needs the API key"), ("another", "the API key is wrong")])
def test_a_missing_or_wrong_key_gets_a_hint(stack: LocalStack, key: str, words: str) -> None:
    stranger = LocalStack(stack.folder, {**stack.environ, "WARMTALK_API_KEY": key})
    for args in (
        ["avatar", "create", "x", "photo.png"],
        ["avatar", "list"],
        ["speak", "--session", "s", "--text", "Hi."],
    ):
        errors = stranger.run(*args, status=1)
        assert f"service refuses us: {words}. Give every service" in errors
        assert "WARMTALK_API_KEY" in errors


def test_up_does_not_listen_on_the_network_without_a_key(tmp_path: Path) -> None:
    stack = new_stack(tmp_path)
    port = stack.environ["WARMTALK_SESSION_LISTEN"].rpartition(":")[2]
    child = stack.up(WARMTALK_SESSION_LISTEN=f"0.0.0.0:{port}")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"listen on 0.0.0.0:{port} and there is no API key. Set api_key (WARMTALK_API_KEY)" in err
    assert err.count("\n") == 1, "no log lines of services that were started before"
    assert not stack.processes()


def test_up_ends_when_a_service_ends(tmp_path: Path) -> None:
    stack = new_stack(tmp_path)
    child = stack.up()
    read_until(child, "ready")
    infer = subprocess.run(
        ["pgrep", "-P", str(child.pid), "-f", "warmtalk.services.infer"], capture_output=True, text=True
    )
    os.kill(int(infer.stdout.split()[0]), signal.SIGKILL)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "the infer service ended" in err
    assert not stack.processes()


def test_services_stop_after_up_was_killed(tmp_path: Path) -> None:
    stack = new_stack(tmp_path)
    child = stack.up()
    read_until(child, "ready")
    running = stack.processes()
    child.kill()
    child.communicate(timeout=30)
    assert len(running) >= 5, "warmtalk up, four services, and maybe the voice"
    deadline = time.monotonic() + 20
    while stack.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not stack.processes()


def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path) -> None:
    stack = new_stack(tmp_path)
    child = stack.up()
    deadline = time.monotonic() + 20
    while len(stack.processes()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert not stack.processes()
