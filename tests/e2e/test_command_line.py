"""The whole product as its user meets it: `warmtalk up` and the other commands, as child processes."""

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
from tests.e2e.stack import Machine, left, machine, wait_for


def test_two_sentences_join_and_a_reset_starts_anew(here: Machine) -> None:
    said = here.run("speak", "--session", "talk", "--avatar", "eileen", "--text", "Hello there. How are you?")
    (here.folder / "sound.wav").write_bytes(wav(syllables(1.1)))
    again = here.run("speak", "--session", "talk", "--audio", "sound.wav", "--out", "clip.mp4")
    assert "(1 clip, " in said
    assert "(2 clips, " in again
    assert (here.folder / "clip.mp4").stat().st_size > 1000
    shown = here.run("sessions", "talk")
    assert "Hello there. How are you?" in shown
    assert "28 frames  (audio)" in shown
    path = re.search(r"conversation +(\S+\.mp4)", again)
    assert path
    with av.open(path[1]) as file:
        frames = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    assert (
        frames == [frame / 25 for frame in range(len(frames))]
        or max(abs(float(time_) - number / 25) for number, time_ in enumerate(frames)) < 1e-6
    )
    here.run("export", "--session", "talk", "--out", "talk.mp4")
    with av.open(str(here.folder / "talk.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
    closed = here.run("reset", "--session", "talk")
    assert "(2 clips, " in closed
    assert "starts conversation 2" in closed
    assert "starts conversation 2" in here.run("reset", "--session", "talk")
    assert "talk" in here.run("sessions")
    here.run("export", "--session", "talk", "--conversation", "1", "--out", "first.mp4")
    here.run("sessions", "talk", "--delete")
    assert "no session" in here.run("sessions", "talk", status=1)


def test_text_comes_from_standard_input_too(here: Machine) -> None:
    said = here.run("speak", "--session", "piped", "--avatar", "eileen", "--text", "-", stdin="Good morning.")
    assert "(1 clip, " in said


def test_the_offline_render_is_a_video_with_sound(here: Machine) -> None:
    (here.folder / "long.wav").write_bytes(wav(syllables(3.0, 44_100), 44_100))
    here.run("render", "--avatar", "eileen", "--audio", "long.wav", "--out", "offline.mp4")
    with av.open(str(here.folder / "offline.mp4")) as file:
        frames = sum(1 for _ in file.decode(video=0))
    with av.open(str(here.folder / "offline.mp4")) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert (frames, samples) == (75, 144_000)


def test_doctor_finds_nothing_missing(here: Machine) -> None:
    said = here.run("doctor")
    assert "MISSING" not in said
    assert said.count("up       ") == 4
    assert "all parts of the embedded renderer are installed" in said


def test_avatars_are_listed_shown_and_deleted(here: Machine) -> None:
    made = here.run("avatar", "create", "second", "photo.png", "--at", "222,130")
    assert "fair: 25 frames, 25 usable" in made and "- the face is" in made and "adjustable range" in made
    assert "second" in here.run("avatar", "list")
    assert "photo.png" in here.run("avatar", "show", "second")
    told = here.run("avatar", "inspect", "second", "--sheet", "second.png")
    assert "footage  fair" in told and (here.folder / "second.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(here.run("avatar", "inspect", "second", "--json"))["grade"] == "fair"
    here.run("avatar", "delete", "second")
    assert "second" not in here.run("avatar", "list")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["avatar", "create", "x", "nowhere.mp4"], ["nowhere.mp4", "No such file"]),
        (["avatar", "create", "../x", "photo.png"], ["avatar_id is '../x'", "Use 1 to 63"]),
        (["avatar", "show", "nobody"], ["nobody"]),
        (["avatar", "inspect", "nobody"], ["nobody"]),
        (["speak", "--session", "s", "--avatar", "nobody", "--text", "Hi."], ["no avatar 'nobody'", "avatar create"]),
        (["speak", "--session", "s", "--text", "Hi."], ["avatar"]),
        (["speak", "--session", "s", "--audio", "photo.png", "--avatar", "eileen"], ["sound"]),
        (["speak", "--session", "s", "--audio", "nowhere.wav", "--avatar", "eileen"], ["nowhere.wav"]),
        (["speak", "--session", "S!", "--avatar", "eileen", "--text", "Hi."], ["session_id is 'S!'"]),
        (["render", "--avatar", "nobody", "--audio", "photo.png", "--out", "o.mp4"], ["no avatar 'nobody'"]),
        (["export", "--session", "unknown", "--out", "o.mp4"], ["unknown"]),
        (["--config", "nowhere.yaml", "doctor"], ["nowhere.yaml"]),
    ],
)
def test_a_mistake_gets_one_clear_line(here: Machine, args: list[str], words: list[str]) -> None:
    said = here.run(*args, status=1)
    lines = [line for line in said.splitlines() if line.startswith("warmtalk: ")]
    assert len(lines) == 1, said
    for word in words:
        assert word in lines[0]


def test_a_second_up_says_that_the_address_is_taken(here: Machine) -> None:
    child = here.up()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 1, out + err
    assert "cannot listen on" in err
    assert "another warmtalk up" in err


@pytest.mark.parametrize(("key", "words"), [("", "this needs the API key"), ("another", "the API key is wrong")])
def test_without_the_right_key_the_command_line_says_what_to_do(here: Machine, key: str, words: str) -> None:
    stranger = Machine(here.folder, {**here.environ, "WARMTALK_API_KEY": key})
    for args in (
        ["avatar", "create", "x", "photo.png"],
        ["avatar", "list"],
        ["speak", "--session", "s", "--text", "Hi."],
    ):
        said = stranger.run(*args, status=1)
        assert f"service refuses us: {words}. Give every service" in said
        assert "WARMTALK_API_KEY" in said


def test_up_listens_to_no_network_without_a_key(tmp_path: Path) -> None:
    one = machine(tmp_path)
    port = one.environ["WARMTALK_SESSION_LISTEN"].rpartition(":")[2]
    child = one.up(WARMTALK_SESSION_LISTEN=f"0.0.0.0:{port}")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"listen on 0.0.0.0:{port} and there is no API key. Set api_key (WARMTALK_API_KEY)" in err
    assert not left(one)


def test_up_ends_when_a_service_ends(tmp_path: Path) -> None:
    one = machine(tmp_path)
    child = one.up()
    wait_for(child, "ready")
    found = subprocess.run(
        ["pgrep", "-P", str(child.pid), "-f", "warmtalk.services.infer"], capture_output=True, text=True
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "the infer service ended" in err
    assert not left(one)


def test_services_stop_when_up_was_killed(tmp_path: Path) -> None:
    one = machine(tmp_path)
    child = one.up()
    wait_for(child, "ready")
    ran = left(one)
    child.kill()
    child.communicate(timeout=30)
    assert len(ran) >= 5, "itself, four services, and maybe the voice"
    deadline = time.monotonic() + 20
    while left(one) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left(one)


def test_ctrl_c_while_starting_leaves_nothing(tmp_path: Path) -> None:
    one = machine(tmp_path)
    child = one.up()
    time.sleep(1.0)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert not left(one)
