"""Renderer MuseTalk: needs torch and the published weights. Imports torch only in functions for a ready renderer."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from warmtalk.config import Config, MuseTalkConfig
from warmtalk.core.pipeline import RenderModel
from warmtalk.core.ports import SpeechEncoder
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.models.checkpoints import weights

if TYPE_CHECKING:
    from warmtalk.renderers.loading import ExtendBundle


def missing(config: Config) -> str:
    """Returns the missing packages or weights and how to install them; "" when the renderer is ready."""
    if libraries := weights.missing_libraries():
        return f"not installed ({', '.join(libraries)}); see docs/musetalk.md"
    if not weights.present(config.models_dir, config.musetalk.version):
        return f"no weights of {config.musetalk.version} in {config.models_dir}; run: warmtalk weights fetch"
    return ""


def describe(config: Config) -> str:
    """Returns the version of torch and the location of the weights, for `warmtalk doctor`."""
    return f"torch {importlib.metadata.version('torch')}, weights of {config.musetalk.version} in {config.models_dir}"


def load(config: Config) -> RenderModel:
    """Loads the weights. Raises NotReady, Damaged or InvalidInput with a hint.

    On a GPU also warms up the encoder and measures the throughput, which takes up to a minute.
    """
    from warmtalk.models.device import pick_device, pick_dtype
    from warmtalk.models.musetalk.networks import MuseTalk
    from warmtalk.models.musetalk.renderer import MuseTalkRenderer
    from warmtalk.models.musetalk.speech_features import WhisperFeatures
    from warmtalk.models.musetalk.whisper import WhisperEncoder

    settings = config.musetalk
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    encoder = WhisperEncoder(config.models_dir, device, dtype)
    renderer = MuseTalkRenderer(MuseTalk(config.models_dir, settings.version, device, dtype))
    features = WhisperFeatures(encoder, lookahead=settings.lookahead)
    if device.type == "cuda":  # on a CPU the measurement would take minutes, for less than one stream in real time
        features.warm_up()
        renderer.measure(compiled=settings.compile)
    return RenderModel(_with_silence_gate(features, settings), renderer)


def extend_bundle(config: Config) -> ExtendBundle:
    """Returns the function that adds latents to bundles. The image codec is loaded with the first bundle."""
    from warmtalk.renderers.musetalk_latents import LatentWriter

    return LatentWriter(config.models_dir, config.musetalk)


def _with_silence_gate(features: SpeechEncoder, config: MuseTalkConfig) -> SpeechEncoder:
    """Closes the lips in silence if musetalk.silent_lips is set. The lookahead of the gate adds no latency, because the
    window of a frame already covers the same audio.
    """
    if not config.silent_lips:
        return features
    return SilenceGatedEncoder(features, ahead_ms=80 * config.lookahead - 70)
