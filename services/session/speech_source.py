"""Speech of a Speak request: sentences read by the voice, or the audio file of the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from typing import cast

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import SpeechChunk, Voice
from warmtalk.media.audio_decode import AudioFile
from warmtalk.services.session.async_utils import run_in_pool, run_to_completion
from warmtalk.voices.sentences import is_speakable, split_sentences


def checked_sentences(text: str, max_chars: int) -> list[str]:
    """Splits `text` into sentences. Raises InvalidInput when the text is empty, too long or cannot be spoken."""
    if not text.strip():
        raise InvalidInput("text is empty", "Send a text or an audio file", field="text")
    if len(text) > max_chars:
        raise InvalidInput(f"text has {len(text)} characters", f"Send at most {max_chars}", field="text")
    if not is_speakable(text):
        raise InvalidInput("text has no letter or digit to say", "Send words", field="text")
    return split_sentences(text)


async def read_sentences(voice: Voice, parts: list[str]) -> AsyncGenerator[SpeechChunk, None]:
    """Yields the speech of all sentences in order. Raises the errors of the voice."""
    for sentence in parts:
        chunks = cast(AsyncGenerator[SpeechChunk, None], voice.synthesize(sentence))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


async def read_audio_file(file: AudioFile, pool: Executor) -> AsyncGenerator[SpeechChunk, None]:
    """Yields the audio of a checked file, decoded in `pool` one chunk at a time."""
    chunks = file.chunks()
    try:
        while (chunk := await run_to_completion(run_in_pool(pool, next, chunks, None))) is not None:
            yield SpeechChunk(chunk, file.rate_hz)
    finally:
        await run_in_pool(pool, chunks.close)
