"""MuseTalk's model of this server. The only module here that imports torch: import it only where it is installed."""

from __future__ import annotations

from pathlib import Path

from warmtalk.config import MuseTalkConfig
from warmtalk.core.pipeline import RenderModel
from warmtalk.core.ports import SpeechEncoder
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.models.device import pick_device, pick_dtype
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.renderer import MuseTalkRenderer
from warmtalk.models.musetalk.speech_features import WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder


def model(models_dir: Path, config: MuseTalkConfig) -> RenderModel:
    """Loads the weights. Raises NotReady, Damaged and InvalidInput with what to do."""
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    encoder = WhisperEncoder(models_dir, device, dtype)
    networks = MuseTalk(models_dir, config.version, device, dtype)
    renderer = MuseTalkRenderer(networks)
    features = WhisperFeatures(encoder, lookahead=config.lookahead)
    if device.type == "cuda":  # a CPU would take minutes, to find that it is no match for one stream
        features.warm_up()
        renderer.measure(compiled=config.compile)
    return RenderModel(_listener(features, config), renderer)


def _listener(features: WhisperFeatures, config: MuseTalkConfig) -> SpeechEncoder:
    """With silent_lips the mouth rests where there is no voice. What that hears ahead costs a frame no time: it is
    heard by then for its window."""
    if not config.silent_lips:
        return features
    return SilenceGatedEncoder(features, ahead_ms=80 * config.lookahead - 70)
