"""Prep for two renderers: what MuseTalk needs is added to the bundle, or nothing is said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder, LatentMaker
from warmtalk.avatar.from_config import latent_maker
from warmtalk.config import Config, InferConfig
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import Latents, read_latents
from warmtalk.core.errors import NotReady
from warmtalk.media.video_decode import SourceLimits
from warmtalk.renderers.registry import renderers
from warmtalk.store import AvatarStore


def build(portrait: Path, root: Path, latents: LatentMaker | None) -> Bundle:
    digest = hashlib.sha256(portrait.read_bytes()).hexdigest()
    order = BuildRequest("eileen", portrait, portrait.name, digest, BuildParams(still_seconds=0.2))
    AvatarBuilder(AvatarStore(root), SourceLimits(), latents).build(order, lambda progress: None)
    return AvatarStore(root).open("eileen")


def numbered(bundle: Bundle, on_row: Callable[[int, int], None]) -> Latents:
    """Each row's latents are its number."""
    on_row(len(bundle), len(bundle))
    values = np.broadcast_to(np.arange(len(bundle), dtype=np.float16)[:, None, None, None], (len(bundle), 8, 32, 32))
    return Latents(values, "codec", "v15")


def test_latents_are_added_to_the_bundle(portrait: Path, tmp_path: Path) -> None:
    bundle = build(portrait, tmp_path, numbered)
    assert bundle.info.renderers == ("mesh", "musetalk")
    found = read_latents(bundle.path)
    assert (found.vae, found.version, len(found.values)) == ("codec", "v15", len(bundle))
    assert found.values[3].max() == found.values[3].min() == 3


def test_weights_that_fail_fail_the_build(portrait: Path, tmp_path: Path) -> None:
    def broken(bundle: Bundle, on_row: Callable[[int, int], None]) -> Latents:
        raise NotReady("the codec is missing")

    with pytest.raises(NotReady, match="the codec is missing"):
        build(portrait, tmp_path, broken)
    assert AvatarStore(tmp_path).ids() == []


def test_without_weights_there_is_the_embedded_renderer_alone(portrait: Path, tmp_path: Path) -> None:
    config = Config(models_dir=tmp_path / "none", infer=InferConfig(renderer="musetalk"))
    assert latent_maker(config) is None
    assert renderers(config) == ["mesh"]
    bundle = build(portrait, tmp_path, None)
    assert bundle.info.renderers == ("mesh",)
    assert not (bundle.path / "latents.safetensors").exists()
