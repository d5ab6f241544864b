"""Loads the renderers of the registry, as configured."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, cast

from warmtalk.config import Config, InferConfig
from warmtalk.core.blend import Blending
from warmtalk.core.bundle import Bundle
from warmtalk.core.pipeline import RenderModel
from warmtalk.renderers.registry import RENDERERS, RendererSpec, spec_of

ExtendBundle: TypeAlias = Callable[[Bundle, Callable[[int, int], None]], None]
"""Writes the additional files of a renderer into a bundle. The callback receives the number of finished rows and of all
rows. Raises NotReady for missing weights, Damaged for invalid weights."""


@dataclass(frozen=True, slots=True)
class BundleExtension:
    """Preparation of an avatar for one renderer, after the files common to all renderers."""

    renderer: str
    extend: ExtendBundle
    margin_px: int | None = None
    """See `RendererSpec.trained_margin_px`."""


class RendererModule(Protocol):
    """Interface of the module of a renderer. The module itself must be importable without optional packages."""

    def missing(self, config: Config) -> str:
        """Returns the missing part and the command to install the part; "" when the renderer is ready."""
        ...

    def describe(self, config: Config) -> str:
        """Returns versions and weights of a ready renderer, for `warmtalk doctor`."""
        ...

    def load(self, config: Config) -> RenderModel:
        """Loads encoder and renderer. Raises NotReady, Damaged or InvalidInput with a hint."""
        ...

    def extend_bundle(self, config: Config) -> ExtendBundle:
        """Returns the function that completes bundles. Only called for `RendererSpec.extends_bundle`."""
        ...


def available(config: Config) -> list[str]:
    """Returns the names of the renderers with all packages and weights, infer.renderer first."""
    names = [spec.name for spec in _ready(config)]
    return sorted(names, key=lambda name: name != config.infer.renderer)


def status(spec: RendererSpec, config: Config) -> str:
    """Returns one line for `warmtalk doctor`: the missing part, or versions and weights."""
    module = _module(spec)
    return module.missing(config) or module.describe(config)


def load(name: str, config: Config) -> RenderModel:
    """Loads one renderer. Raises NotReady or Damaged for missing or invalid weights, InvalidInput for the name."""
    spec = spec_of(name)
    return replace(_module(spec).load(config), blending=_blending(spec, config.infer))


def load_all(config: Config) -> dict[str, RenderModel]:
    """Loads the available renderers. Returns the models by name, infer.renderer first."""
    return {name: load(name, config) for name in available(config)}


def prepared_renderers(config: Config) -> tuple[str, ...]:
    """Returns the names of the renderers that new avatars are prepared for, in the order of the registry."""
    return tuple(spec.name for spec in _ready(config))


def bundle_extensions(config: Config) -> list[BundleExtension]:
    """Returns the preparation steps of the available renderers with additional files."""
    return [
        BundleExtension(spec.name, _module(spec).extend_bundle(config), spec.trained_margin_px)
        for spec in _ready(config)
        if spec.extends_bundle
    ]


def _ready(config: Config) -> list[RendererSpec]:
    return [spec for spec in RENDERERS if not _module(spec).missing(config)]


def _module(spec: RendererSpec) -> RendererModule:
    return cast(RendererModule, importlib.import_module(spec.module))


def _blending(spec: RendererSpec, config: InferConfig) -> Blending:
    match_colors = config.colour_match == "on" or (config.colour_match == "auto" and not spec.edits_source)
    return Blending(config.blend, match_colors, not spec.edits_source, config.sharpen)
