"""Build parameters and the avatar builder, as described by the configuration."""

from __future__ import annotations

from pathlib import Path

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.avatar.detect.model_cache import ModelCache
from warmtalk.avatar.track.smoothing import SmoothingParams
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.media.video_decode import SourceLimits
from warmtalk.models.faces import detectors, parsers
from warmtalk.models.faces.parsers import ParserOptions
from warmtalk.renderers import loading
from warmtalk.store import AvatarStore


def params_from_config(config: Config) -> BuildParams:
    """Returns the configured parameters, "auto" replaced by the best choice on this machine.

    Raises NotReady for a missing model, InvalidInput for an impossible value.
    """
    prep = config.prep
    return BuildParams(
        bbox_shift=config.bbox_shift,
        extra_margin=prep.extra_margin,
        fps=config.fps,
        still_seconds=prep.still_seconds,
        detector=detectors.resolve_name(prep.detector, config.models_dir),
        parsing=ParserOptions(
            parsers.resolve_name(prep.parsing, config.models_dir),
            prep.parsing_mode,
            (prep.cheek_width_left, prep.cheek_width_right),
        ),
        smoothing=smoothing_params(config),
    )


def smoothing_params(config: Config) -> SmoothingParams:
    """Returns the configured smoothing. Raises InvalidInput for an impossible value."""
    prep = config.prep
    try:
        return SmoothingParams(prep.steady, prep.scale_lock, prep.one_euro_beta, prep.one_euro_cutoff_hz)
    except ValueError as error:
        raise InvalidInput(str(error), "Correct the configuration") from error


def build_request(
    avatar_id: str, source: Path, source_name: str, source_sha256: str, params: BuildParams, config: Config
) -> BuildRequest:
    """Returns the request for one avatar, with the renderers and "auto" parameters of this service."""
    return BuildRequest(
        avatar_id,
        source,
        source_name,
        source_sha256,
        params,
        frozenset(auto_params(config)),
        loading.prepared_renderers(config),
    )


def auto_params(config: Config) -> dict[str, str]:
    """Returns the current choice for each parameter that the configuration sets to "auto", by record key."""
    prep, choices = config.prep, {}
    if prep.detector == "auto":
        choices["detector"] = detectors.resolve_name("auto", config.models_dir)
    if prep.parsing == "auto":
        choices["parsing"] = parsers.resolve_name("auto", config.models_dir)
    return choices


def builder_from_config(config: Config, store: AvatarStore) -> AvatarBuilder:
    """Returns the avatar builder. Use the builder in the calling thread only."""
    limits = SourceLimits(config.prep.max_source_s, config.prep.max_source_pixels)
    models = ModelCache(config.models_dir, config.musetalk.device)
    return AvatarBuilder(store, limits, loading.bundle_extensions(config), models)
