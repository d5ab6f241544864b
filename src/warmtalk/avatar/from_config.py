"""Build parameters and the avatar builder, as the configuration describes them."""

from __future__ import annotations

from pathlib import Path

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder, LatentMaker
from warmtalk.avatar.detect.model_cache import ModelCache
from warmtalk.avatar.track.smoothing import SmoothingParams
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.media.video_decode import SourceLimits
from warmtalk.models.checkpoints import weights
from warmtalk.models.faces import detectors, parsers
from warmtalk.models.faces.parsers import ParserOptions
from warmtalk.store import AvatarStore


def configured(config: Config) -> BuildParams:
    """What the configuration says, "auto" replaced by what is ready here. Raises NotReady, InvalidInput."""
    prep = config.prep
    return BuildParams(
        bbox_shift=config.bbox_shift,
        extra_margin=prep.extra_margin,
        fps=config.fps,
        still_seconds=prep.still_seconds,
        detector=detectors.choose(prep.detector, config.models_dir),
        parsing=ParserOptions(
            parsers.choose(prep.parsing, config.models_dir),
            prep.parsing_mode,
            (prep.cheek_width_left, prep.cheek_width_right),
        ),
        steadiness=steadiness(config),
    )


def steadiness(config: Config) -> SmoothingParams:
    """Raises InvalidInput for what is not possible."""
    prep = config.prep
    try:
        return SmoothingParams(prep.steady, prep.scale_lock, prep.one_euro_beta, prep.one_euro_cutoff_hz)
    except ValueError as error:
        raise InvalidInput(str(error), "Correct the configuration") from error


def order(
    avatar_id: str, source: Path, source_name: str, source_sha256: str, wanted: BuildParams, config: Config
) -> BuildRequest:
    """One avatar to build on this service."""
    return BuildRequest(
        avatar_id, source, source_name, source_sha256, wanted, frozenset(_open(config)), renderers(config)
    )


def renderers(config: Config) -> tuple[str, ...]:
    """Those that avatars are prepared for here."""
    musetalk = weights.present(config.models_dir, config.musetalk.version) and not weights.missing_libraries()
    return ("mesh", "musetalk") if musetalk else ("mesh",)


def _open(config: Config) -> dict[str, str]:
    """What "auto" stands for here, by its name in a record; nothing for what the configuration names itself."""
    prep, found = config.prep, {}
    if prep.detector == "auto":
        found["detector"] = detectors.choose("auto", config.models_dir)
    if prep.parsing == "auto":
        found["parsing"] = parsers.choose("auto", config.models_dir)
    return found


def builder(config: Config, store: AvatarStore) -> AvatarBuilder:
    """To be used in the thread that calls this."""
    limits = SourceLimits(config.prep.max_source_s, config.prep.max_source_pixels)
    return AvatarBuilder(store, limits, latent_maker(config), ModelCache(config.models_dir, config.musetalk.device))


def latent_maker(config: Config) -> LatentMaker | None:
    """MuseTalk's, where torch and its weights are; None: avatars are for the embedded renderer alone."""
    if "musetalk" not in renderers(config):
        return None
    from warmtalk.avatar.musetalk_latents import MuseTalkLatents

    return MuseTalkLatents(config.models_dir, config.musetalk)
