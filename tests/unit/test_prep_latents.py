"""Avatars for two renderers: the builder adds latents and the name of MuseTalk, or neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.config import Config, InferConfig
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import Latents, read_latents, write_latents
from warmtalk.core.errors import NotReady
from warmtalk.media.video_decode import SourceLimits
from warmtalk.renderers import loading
from warmtalk.renderers.loading import BundleExtension, ExtendBundle
from warmtalk.renderers.registry import MUSETALK
from warmtalk.store import AvatarStore


def build(portrait: Path, root: Path, extend: ExtendBundle | None) -> Bundle:
    """Builds an avatar, with `extend` for MuseTalk."""
    digest = hashlib.sha256(portrait.read_bytes()).hexdigest()
    request = BuildRequest("eileen", portrait, portrait.name, digest, BuildParams(still_seconds=0.2))
    extensions = [BundleExtension(MUSETALK.name, extend)] if extend else []
    AvatarBuilder(AvatarStore(root), SourceLimits(), extensions).build(request, lambda progress: None)
    return AvatarStore(root).open("eileen")


def write_numbered(bundle: Bundle, on_row: Callable[[int, int], None]) -> None:
    """Writes latents with the row number as the value of each row."""
    on_row(len(bundle), len(bundle))
    values = np.broadcast_to(np.arange(len(bundle), dtype=np.float16)[:, None, None, None], (len(bundle), 8, 32, 32))
    write_latents(bundle.path, Latents(values, "codec", "v15"))


def test_latents_are_added_to_the_bundle(portrait: Path, tmp_path: Path) -> None:
    bundle = build(portrait, tmp_path, write_numbered)
    assert bundle.info.renderers == ("mesh", "musetalk")
    latents = read_latents(bundle.path)
    assert (latents.vae, latents.version, len(latents.values)) == ("codec", "v15", len(bundle))
    assert latents.values[3].max() == latents.values[3].min() == 3


def test_an_extension_that_fails_fails_the_build(portrait: Path, tmp_path: Path) -> None:
    def broken(bundle: Bundle, on_row: Callable[[int, int], None]) -> None:
        raise NotReady("the codec is missing")

    with pytest.raises(NotReady, match="the codec is missing"):
        build(portrait, tmp_path, broken)
    assert AvatarStore(tmp_path).ids() == []


def test_without_weights_only_the_embedded_renderer_is_available(portrait: Path, tmp_path: Path) -> None:
    config = Config(models_dir=tmp_path / "none", infer=InferConfig(renderer="musetalk"))
    assert loading.bundle_extensions(config) == []
    assert loading.available(config) == ["mesh"]
    assert loading.prepared_renderers(config) == ("mesh",)
    bundle = build(portrait, tmp_path, None)
    assert bundle.info.renderers == ("mesh",)
    assert not (bundle.path / "latents.safetensors").exists()
