"""Renderer registry: names, modules, and a table that imports no networks."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from warmtalk.config import Config, InferConfig
from warmtalk.core.errors import InvalidInput
from warmtalk.renderers import loading
from warmtalk.renderers.registry import EMBEDDED, NAMES, RENDERERS, RendererSpec, spec_of


def test_names_are_unique_and_the_embedded_renderer_is_the_default() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert not EMBEDDED.extends_bundle
    assert Config().infer.renderer == EMBEDDED.name
    with pytest.raises(InvalidInput, match="Use one of: " + ", ".join(NAMES)):
        spec_of("unreal")


@pytest.mark.parametrize("spec", RENDERERS, ids=NAMES)
def test_every_module_implements_the_interface(spec: RendererSpec) -> None:
    module = importlib.import_module(spec.module)
    functions = ["missing", "describe", "load"] + ["extend_bundle"] * spec.extends_bundle
    assert all(callable(getattr(module, name)) for name in functions)
    assert isinstance(loading.status(spec, Config()), str)


def test_the_embedded_renderer_is_always_available() -> None:
    assert EMBEDDED.name in loading.available(Config())
    assert not loading.load(EMBEDDED.name, Config()).blending.colour_match
    matched = Config(infer=InferConfig(colour_match="on"))
    assert loading.load(EMBEDDED.name, matched).blending.colour_match


def test_the_configuration_reads_the_registry_without_loading_networks() -> None:
    program = (
        "import sys, warmtalk.config_loader;"
        "from warmtalk.renderers.registry import RENDERERS;"
        "print([name for name in ('numpy', 'cv2', 'torch') if name in sys.modules],"
        " [spec.module in sys.modules for spec in RENDERERS])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"[] {[False] * len(RENDERERS)}"
