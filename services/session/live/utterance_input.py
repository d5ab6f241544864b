"""Input of one live utterance: text or audio as the client sends either, speech chunks out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import SpeechChunk, Voice
from warmtalk.core.types import Samples
from warmtalk.voices.sentences import is_speakable, split_complete_sentences, split_sentences

_MAX_WAITING_S = 30.0
_MAX_CHUNK_S = 0.5
"""Maximum length of a speech chunk; one chunk takes well under a millisecond to resample."""


class UtteranceInput:
    """One utterance, either of text or of audio. For one event loop.

    The reader of the client's messages calls `push_text`, `push_audio`, `end` and `wait_for_room`; another task reads
    `speech_chunks` once.
    """

    def __init__(self, voice: Voice, *, max_chars: int, max_s: float) -> None:
        """`max_chars` limits the text, `max_s` the audio in seconds."""
        self._voice = voice
        self._max_chars = max_chars
        self._max_s = max_s
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._unread_text = ""
        self._unread_audio: deque[SpeechChunk] = deque()
        self._audio_s = 0.0
        """Seconds of all audio."""
        self._unread_audio_s = 0.0
        self._ended = False
        self.text = ""
        """The whole text so far."""

    @property
    def ended(self) -> bool:
        """True after `end`."""
        return self._ended

    def push_text(self, text: str) -> None:
        """Appends text. Raises InvalidInput."""
        if self._audio_s:
            raise _mixed_input("text")
        self.text += text
        self._unread_text += text
        if len(self.text) > self._max_chars:
            raise InvalidInput(f"text has {len(self.text)} characters", f"Send at most {self._max_chars}", field="text")
        self._changed.set()

    def push_audio(self, samples: Samples, rate_hz: int) -> None:
        """Appends audio. Raises InvalidInput."""
        if self.text:
            raise _mixed_input("pcm_s16le")
        self._audio_s += len(samples) / rate_hz
        self._unread_audio_s += len(samples) / rate_hz
        if self._audio_s > self._max_s:
            raise InvalidInput(
                f"the utterance is longer than {self._max_s:g} s", "End it and begin the next", field="pcm_s16le"
            )
        self._unread_audio.append(SpeechChunk(samples, rate_hz))
        self._changed.set()

    def end(self) -> None:
        """Marks the input as complete. Idempotent."""
        self._ended = True
        self._changed.set()

    async def wait_for_room(self) -> None:
        """Waits while more than 30 s of audio wait to be spoken."""
        while self._unread_audio_s > _MAX_WAITING_S and not self._ended:
            self._room.clear()
            await self._room.wait()

    def discard(self) -> None:
        """Drops the unread audio, ends the input and releases a reader in `wait_for_room`."""
        self._unread_audio.clear()
        self._unread_audio_s = 0.0
        self._room.set()
        self.end()

    async def speech_chunks(self) -> AsyncGenerator[SpeechChunk, None]:
        """Yields all speech in order, until the end of the input.

        Raises InvalidInput for a text that cannot be spoken, and the errors of the voice.
        """
        while True:
            for sentence in self._take_sentences():
                async for chunk in self._synthesize(sentence):
                    yield chunk
            while self._unread_audio:
                speech = self._unread_audio.popleft()
                self._unread_audio_s -= len(speech.samples) / speech.rate_hz
                self._room.set()
                for chunk in _split(speech):
                    yield chunk
            if self._ended and not self._unread_audio and not self._unread_text:
                break
            self._changed.clear()
            if not self._ended:
                await self._changed.wait()
        if self.text and not is_speakable(self.text):
            raise InvalidInput("text has no letter or digit to say", "Send words", field="text")

    def _take_sentences(self) -> list[str]:
        """Removes the whole sentences from the unread text; at the end of the input also the rest."""
        if self._ended:
            taken, self._unread_text = split_sentences(self._unread_text), ""
        else:
            taken, self._unread_text = split_complete_sentences(self._unread_text)
        return taken

    async def _synthesize(self, sentence: str) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(cast(AsyncGenerator[SpeechChunk, None], self._voice.synthesize(sentence))) as spoken:
            async for speech in spoken:
                for chunk in _split(speech):
                    yield chunk


def decode_pcm(data: bytes, channels: int) -> Samples:
    """Returns 16-bit little-endian audio of 1 or 2 channels as the mean of the channels.

    Raises InvalidInput when `data` ends within a sample.
    """
    size = 2 * channels
    if len(data) % size:
        raise InvalidInput(
            f"pcm_s16le has {len(data)} bytes, not a multiple of {size}",
            "Send whole 16-bit samples of all channels",
            field="pcm_s16le",
        )
    grid = np.frombuffer(data, "<i2").reshape(-1, channels)
    return np.asarray(grid.mean(axis=1, dtype=np.float32) / 32768, np.float32)


def _split(speech: SpeechChunk) -> list[SpeechChunk]:
    step = max(1, int(_MAX_CHUNK_S * speech.rate_hz))
    return [SpeechChunk(speech.samples[k : k + step], speech.rate_hz) for k in range(0, len(speech.samples), step)]


def _mixed_input(field: str) -> InvalidInput:
    return InvalidInput(
        "the utterance mixes text and audio", "Send one of them until `end`, then the other", field=field
    )
