"""Registry of the voices. A new voice is one module in this package and one entry of VOICES.

The registry imports a module on first use of the voice, so that the configuration can list the names of all voices
without loading HTTP clients and numpy.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from warmtalk.core.ports import Voice


class VoiceModule(Protocol):
    """Interface of a module that implements a voice. `config` is the section session of the configuration."""

    def build(self, config: Any) -> Voice:
        """Returns the voice; nothing is started. Raises InvalidInput for a wrong configuration."""
        ...

    def check(self, config: Any) -> str:
        """Returns a line for `warmtalk doctor`. Raises NotReady with a hint when a package or model is missing."""
        ...


@dataclass(frozen=True, slots=True)
class VoiceEntry:
    """A voice by the name of its module."""

    module: str
    description: str
    """Completes the help text of session.voice."""

    def load(self) -> VoiceModule:
        """Imports the module."""
        return cast(VoiceModule, importlib.import_module(self.module))


VOICES = {
    "piper": VoiceEntry("warmtalk.voices.piper", "embedded"),
    "openai": VoiceEntry("warmtalk.voices.openai", "any server with /v1/audio/speech"),
}
"""Value of session.voice -> entry. The first entry is the default."""


def help_text() -> str:
    """Returns the voices with their descriptions, for the help text of session.voice."""
    return " or ".join(f"{name} ({entry.description})" for name, entry in VOICES.items())
