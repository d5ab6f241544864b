"""Configuration: file, environment variables, and errors with the value to correct."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from warmtalk import config_loader
from warmtalk.core.errors import InvalidInput


def write(folder: Path, text: str) -> Path:
    path = folder / "warmtalk.yaml"
    path.write_text(text, "utf-8")
    return path


def test_everything_has_a_default_and_listens_on_loopback() -> None:
    defaults = config_loader.load(None, {})
    for section in (defaults.prep, defaults.infer, defaults.session):
        assert section.listen.startswith("127.0.0.1:")
    assert defaults.session.infer == defaults.infer.listen


def test_keys_of_the_earlier_server_keep_their_meaning(tmp_path: Path) -> None:
    text = "avatar_id: anna\nvideo_path: anna.mp4\nbbox_shift: -7\nbatch_size: 8\npreparation: True\nfps: 29.97\n"
    loaded = config_loader.load(write(tmp_path, text), {})
    assert (loaded.avatar_id, loaded.video_path, loaded.bbox_shift, loaded.batch_size) == ("anna", "anna.mp4", -7, 8)
    assert loaded.preparation is True
    assert loaded.fps == Fraction("29.97")


def test_variables_override_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "fps: 30\nsession: {voice: piper, x264_crf: 20}\n")
    loaded = config_loader.load(path, {"WARMTALK_FPS": "30000/1001", "WARMTALK_SESSION_VOICE": "openai"})
    assert loaded.fps == Fraction(30000, 1001)
    assert (loaded.session.voice, loaded.session.x264_crf) == ("openai", 20)


def test_an_empty_variable_counts_as_unset() -> None:
    assert config_loader.load(None, {"WARMTALK_SESSION_OPENAI_URL": ""}).session.openai_url.startswith("http")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("framerate: 25", r"unknown key framerate.*fps"),
        ("session: {voise: piper}", r"unknown key session\.voise.*Did you mean voice\?"),
        ("session: {voice: bark}", "session.voice is 'bark'. Use piper, openai"),
        ("session: {x264_preset: fastest}", "session.x264_preset is 'fastest'. Use ultrafast"),
        ("infer: {renderer: muse}", "infer.renderer is 'muse'. Use mesh, musetalk"),
        ("prep: {listen: 50051}", "prep.listen is '50051'. Write host:port"),
        ("log_level: loud", "log_level is 'loud'. Use debug, info"),
        ("session: piper", "session is not a section"),
        ("batch_size: many", "batch_size is 'many'. Write a whole number"),
        ("batch_size: 9", "batch_size is 9"),
        ("preparation: perhaps", "preparation is 'perhaps'"),
        ("fps: 0", "fps is 0"),
        ("infer: {mouth_strength: 3}", "infer.mouth_strength is 3.*Use 0.3 to 2"),
        ("fps: 1/0", "fps is '1/0'"),
        ("- a\n- b", "not a mapping"),
        ("a: [", r"cannot be read: line 1, column \d+"),
    ],
)
def test_an_invalid_value_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        config_loader.load(write(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml"):
        config_loader.load(tmp_path / "nowhere.yaml", {})


def test_a_misspelt_variable_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    config_loader.load(
        None, {"WARMTALK_SESSION_VOISE": "piper", "WARMTALK_SERVICE_HOST": "10.0.0.1", "WARMTALK_CONFIG": "a"}
    )
    assert caplog.messages == [
        "the variable WARMTALK_SESSION_VOISE has no effect. Did you mean WARMTALK_SESSION_VOICE?"
    ]


def test_every_key_is_described() -> None:
    rows = config_loader.describe()
    assert ("fps", "WARMTALK_FPS") in [row[:2] for row in rows]
    assert ("session.voice", "WARMTALK_SESSION_VOICE") in [row[:2] for row in rows]
    assert all(text.endswith(".") for *_, text in rows)
