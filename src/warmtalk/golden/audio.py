"""Golden checks of the audio path: samples, log-mel, hidden states, windows, positional encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmtalk.core import windows
from warmtalk.core.types import SPEECH_RATE_HZ, Features, Samples
from warmtalk.golden.installation import Installation
from warmtalk.golden.rounding import log_mel_limits, positions_limit
from warmtalk.golden.table import Table
from warmtalk.golden.vectors import Vectors
from warmtalk.media.audio_decode import AudioReader
from warmtalk.media.resampler import Resampler
from warmtalk.models.musetalk.networks import TOKENS, positional_encoding


def check_windows(vectors: Vectors, table: Table) -> None:
    """Compares which hidden states each video frame uses, at all recorded frame rates."""
    file = "audio_index.npz"
    for key in vectors.keys(file, "idx_fps"):
        rate, _, length = key.removeprefix("idx_fps").partition("_len")
        table.compare(f"{file} {key}", vectors.get(file, key), windows.reference(int(length or 40_000), float(rate)))


def check_positions(vectors: Vectors, table: Table) -> None:
    """Compares the positional encoding of the first 50 positions and of position 4999."""
    for key, rows in (("pe50", slice(0, TOKENS)), ("pe_last", slice(4999, 5000))):
        expected = vectors.find("pe.npz", key)
        if expected is not None:
            actual = positional_encoding(5000)[None, rows].numpy()
            table.compare(f"pe.npz {key}", expected, actual, positions_limit(rows.stop - 1))


def check_audio(vectors: Vectors, name: str, installed: Installation, table: Table) -> Samples:
    """Compares samples, log-mel, hidden states and prompts of NAME_clip.wav. Returns the 16 kHz samples."""
    file = f"{name}_audio.npz"
    audio = _read_audio(vectors.path / f"{name}_clip.wav")
    table.compare(f"{file} pcm16k", vectors.get(file, "pcm16k"), audio)
    table.compare(f"{file} librosa_length", vectors.get(file, "librosa_length"), np.array([len(audio)]))
    steps = len(audio) * windows.STEPS_PER_SECOND // SPEECH_RATE_HZ
    table.compare(f"{file} actual_length", vectors.get(file, "actual_length"), np.array([steps]))
    mel = vectors.get(file, "mel")
    table.compare(f"{file} mel", mel, installed.speech.log_mel(audio)[None], log_mel_limits(mel))
    states = vectors.get(file, "hidden_stack")
    limit = installed.speech_error.limit * float(np.abs(states).max())
    table.compare(f"{file} hidden_stack", states, installed.states(audio)[None, : states.shape[1]], limit)
    for key in vectors.keys(file, "prompts_fps"):
        rate, _, kind = key.removeprefix("prompts_fps").partition("_")
        if not kind:
            _check_prompts(vectors, (file, key), installed.features(audio, float(rate)), limit, table)
    return audio


def _check_prompts(vectors: Vectors, source: tuple[str, str], actual: Features, limit: float, table: Table) -> None:
    """Compares the features of one frame rate, without and with positional encoding. `source` is file and key."""
    file, key = source
    index = vectors.get(file, f"{key}_idx")
    table.compare(f"{file} {key}_count", vectors.get(file, f"{key}_count"), np.array([len(actual)]))
    table.compare(f"{file} {key}", vectors.get(file, key), actual[index], limit)
    key = key.replace("prompts_", "prompts_pe_")
    expected = vectors.find(file, key)
    if expected is not None:
        encoded = actual[index[: len(expected)]] + positional_encoding().numpy()
        table.compare(f"{file} {key}", expected, encoded, limit + positions_limit(TOKENS - 1))


def _read_audio(path: Path) -> Samples:
    """Returns a file as the reference loads it: mono, 16 kHz, ceil(n * 16000 / rate) samples."""
    reader = AudioReader(path.read_bytes(), max_s=3600)
    mono = np.concatenate(list(reader.chunks()))
    resampler = Resampler(reader.rate_hz, SPEECH_RATE_HZ)
    audio = np.concatenate([resampler.resample(mono), resampler.flush()])
    length = -(-len(mono) * SPEECH_RATE_HZ // reader.rate_hz)
    return np.pad(audio, (0, max(0, length - len(audio))))[:length]
