"""Registry of the face renderers. A new renderer is one module in this package and one entry of RENDERERS.

A table without imports of models: the configuration and the command line read the names without loading networks.
loading.py imports the module of a renderer on first use.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmtalk.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class RendererSpec:
    """Properties of one renderer."""

    name: str
    """Value of infer.renderer, of RenderConfig.renderer, and of "renderers" in avatar.json."""
    module: str
    """Module that implements loading.RendererModule."""
    edits_source: bool = False
    """True for faces made from the pixels of the source frame: no colours to match and no edges to hide."""
    takes_mouth_shapes: bool = False
    """True for features in the format of core.mouth, False for features of the renderer's own encoder."""
    extends_bundle: bool = False
    """True when an avatar needs additional files, written by `extend_bundle` of the module."""
    trained_margin_px: int | None = None
    """Room under the chin in the training data, in pixels of the source. Replaces an automatic extra_margin."""


MESH = RendererSpec("mesh", "warmtalk.renderers.mesh", edits_source=True, takes_mouth_shapes=True)
MUSETALK = RendererSpec("musetalk", "warmtalk.renderers.musetalk", extends_bundle=True, trained_margin_px=10)

RENDERERS = (MESH, MUSETALK)
"""All renderers, in order of preference when nothing else decides."""
EMBEDDED = MESH
"""The renderer of every installation: no optional packages, no weights to fetch."""
NAMES = tuple(spec.name for spec in RENDERERS)
"""Names of all renderers, installed or not."""


def spec_of(name: str) -> RendererSpec:
    """Returns the entry of a renderer. Raises InvalidInput for an unknown name."""
    for spec in RENDERERS:
        if spec.name == name:
            return spec
    raise InvalidInput(f"there is no renderer {name!r}", f"Use one of: {', '.join(NAMES)}", field="renderer")
