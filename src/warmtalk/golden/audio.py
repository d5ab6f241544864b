"""Golden checks of everything up to the prompts: sound, log-mel, hidden states, windows, positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmtalk.core import windows
from warmtalk.core.types import SPEECH_RATE_HZ, Features, Samples
from warmtalk.golden.table import Table, Tolerances
from warmtalk.golden.vectors import Vectors
from warmtalk.media.audio_decode import AudioReader
from warmtalk.media.resampler import Resampler
from warmtalk.models.musetalk.networks import TOKENS, positions
from warmtalk.models.musetalk.speech_features import WhisperFeatures


def read_sound(path: Path) -> Samples:
    """A file as the reference loads it: mono, 16 kHz, ceil(n * 16000 / rate) samples."""
    reader = AudioReader(path.read_bytes(), max_s=3600)
    mono = np.concatenate(list(reader.chunks()))
    resampler = Resampler(reader.rate_hz, SPEECH_RATE_HZ)
    sound = np.concatenate([resampler.resample(mono), resampler.flush()])
    length = -(-len(mono) * SPEECH_RATE_HZ // reader.rate_hz)
    return np.pad(sound, (0, max(0, length - len(sound))))[:length]


def check_windows(vectors: Vectors, table: Table) -> None:
    file = "audio_index.npz"
    for key in vectors.keys(file, "idx_fps"):
        rate, _, length = key.removeprefix("idx_fps").partition("_len")
        table.close(f"{file} {key}", vectors.get(file, key), windows.reference(int(length or 40_000), float(rate)))


def check_positions(vectors: Vectors, table: Table) -> None:
    for key, rows in (("pe50", slice(0, TOKENS)), ("pe_last", slice(4999, 5000))):
        wanted = vectors.find("pe.npz", key)
        if wanted is not None:
            table.close(f"pe.npz {key}", wanted, positions(5000)[None, rows].numpy())


def check_sound(vectors: Vectors, name: str, encoder: WhisperFeatures, limit: Tolerances, table: Table) -> Samples:
    """Returns the 16 kHz sound of NAME_clip.wav."""
    file = f"{name}_audio.npz"
    sound = read_sound(vectors.path / f"{name}_clip.wav")
    table.close(f"{file} pcm16k", vectors.get(file, "pcm16k"), sound)
    table.close(f"{file} librosa_length", vectors.get(file, "librosa_length"), np.array([len(sound)]))
    steps = len(sound) * windows.STEPS_PER_SECOND // SPEECH_RATE_HZ
    table.close(f"{file} actual_length", vectors.get(file, "actual_length"), np.array([steps]))
    table.close(f"{file} mel", vectors.get(file, "mel"), encoder.log_mel(sound)[None], limit.mel)
    states = vectors.get(file, "hidden_stack")
    table.close(f"{file} hidden_stack", states, encoder.states(sound)[None, : states.shape[1]], limit.states)
    for key in vectors.keys(file, "prompts_fps"):
        rate, _, kind = key.removeprefix("prompts_fps").partition("_")
        if not kind:
            _check_prompts(vectors, file, float(rate), encoder.reference(sound, float(rate)), limit, table)
    return sound


def _check_prompts(vectors: Vectors, file: str, fps: float, found: Features, limit: Tolerances, table: Table) -> None:
    key = f"prompts_fps{fps:g}"
    index = vectors.get(file, f"{key}_idx")
    table.close(f"{file} {key}_count", vectors.get(file, f"{key}_count"), np.array([len(found)]))
    table.close(f"{file} {key}", vectors.get(file, key), found[index], limit.states)
    placed = vectors.find(file, f"prompts_pe_fps{fps:g}")
    if placed is not None:
        with_positions = found[index[: len(placed)]] + positions().numpy()
        table.close(f"{file} prompts_pe_fps{fps:g}", placed, with_positions, limit.states)
