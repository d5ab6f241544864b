"""All configuration keys with default values and help texts. warmtalk.config_loader builds a Config once per process.

The environment variable of a key contains the section: session.voice is WARMTALK_SESSION_VOICE. The first six keys have
the names and meanings of the keys in realtime_live.yaml of the earlier MuseTalk server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from warmtalk.core.errors import InvalidInput
from warmtalk.renderers.registry import EMBEDDED, NAMES
from warmtalk.voices.registry import VOICES, help_text

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")


def _key(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class PrepConfig:
    """Keys of the prep service."""

    listen: str = _key("127.0.0.1:50051", "Address to serve on: host:port, or unix:PATH.")
    extra_margin: int | None = _key(None, "Room under the chin, in pixels; auto: 8 % of the face box, at least 10.")
    still_seconds: float = _key(4.0, "Seconds of idle motion made from a still image.")
    steady: str = _key(
        "tracked", "Face boxes: tracked (follow the head), one_euro (One-Euro filter), or reference (no smoothing)."
    )
    scale_lock: float = _key(0.04, "Relative change of the face size below which the size of the box stays fixed.")
    one_euro_beta: float = _key(0.05, "One-Euro filter: increase of the cutoff with the speed of the head.")
    one_euro_cutoff_hz: float = _key(1.0, "One-Euro filter: cutoff for a head at rest, in Hz.")
    detector: str = _key(
        "auto",
        "Face detector: mesh (embedded), dwpose (like MuseTalk), face-alignment, or auto (the first installed of "
        "dwpose, face-alignment, mesh). warmtalk doctor lists the installed detectors.",
    )
    parsing: str = _key(
        "auto",
        "Face parser of the mask: mesh (embedded), bisenet (like MuseTalk), or auto (bisenet if installed).",
    )
    parsing_mode: str = _key("jaw", "Area of a bisenet mask: jaw, neck, or raw (skin and mouth only, like version v1).")
    cheek_width_left: int = _key(
        90, "Half width of the band that mode jaw of bisenet does not shrink, left side, in pixels of a 512-pixel face."
    )
    cheek_width_right: int = _key(
        90, "The same for the right side. MuseTalk names both left_cheek_width and right_cheek_width."
    )
    max_upload_mb: int = _key(512, "Largest source file, in MiB.")
    max_source_s: float = _key(600.0, "Longest source video, in seconds.")
    max_source_pixels: int = _key(4096 * 2304, "Largest source frame, width times height.")
    max_queue: int = _key(16, "Maximum number of waiting builds; one build runs at a time.")

    def __post_init__(self) -> None:
        _one_of("prep.detector", self.detector, ("auto", "mesh", "dwpose", "face-alignment"))
        _one_of("prep.parsing", self.parsing, ("auto", "mesh", "bisenet"))
        _one_of("prep.parsing_mode", self.parsing_mode, ("jaw", "neck", "raw"))
        for side in ("left", "right"):
            width = getattr(self, f"cheek_width_{side}")
            if not 0 <= width <= 256:
                key = f"prep.cheek_width_{side}"
                raise InvalidInput(f"{key} is {width}", "Use 0 to 256", field=key)


@dataclass(frozen=True, slots=True)
class InferConfig:
    """Keys of the infer service."""

    listen: str = _key("127.0.0.1:50052", "Address to serve on: host:port, or unix:PATH.")
    renderer: str = _key(EMBEDDED.name, f"Renderer of a request without a renderer: {' or '.join(NAMES)}.")
    max_streams: int = _key(8, "Maximum number of utterances that are rendered at the same time.")
    cache_mb: int = _key(2048, "Memory for prepared avatars, in MiB.")
    blend: str = _key("feather", "Blending of a face into the frame: feather, or poisson (gradient domain).")
    colour_match: str = _key("auto", "Match the colours of the face to the frame: on, off, or auto (on for musetalk).")
    sharpen: bool = _key(
        True, "Sharpen faces that are enlarged beyond 256 pixels, to compensate for the interpolation."
    )
    mouth_strength: float = _key(1.0, "Scale of the mouth motion of the embedded renderer: 0.3 (mumbling) to 2.")

    def __post_init__(self) -> None:
        _one_of("infer.renderer", self.renderer, NAMES)
        _one_of("infer.blend", self.blend, ("feather", "poisson"))
        _one_of("infer.colour_match", self.colour_match, ("on", "off", "auto"))


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Keys of the session service."""

    listen: str = _key("127.0.0.1:50053", "Address to serve on: host:port, or unix:PATH.")
    infer: str = _key("127.0.0.1:50052", "Address of the infer service.")
    voice: str = _key(next(iter(VOICES)), f"Voice: {help_text()}.")
    openai_url: str = _key("http://127.0.0.1:8880/v1", "Base URL of the speech server, including /v1.")
    openai_key: str = _key("", "API key of the speech server, if required.")
    openai_model: str = _key("tts-1", "Model of the speech server.")
    openai_voice: str = _key("alloy", "Voice of the speech server.")
    max_text_chars: int = _key(5000, "Maximum length of the text of one Speak, in characters.")
    max_clip_s: float = _key(900.0, "Maximum duration of the audio of one Speak, in seconds.")
    max_queue: int = _key(8, "Maximum number of waiting Speaks of one session.")
    cache_mb: int = _key(1024, "Memory for decoded source frames, in MiB.")
    x264_preset: str = _key(
        "veryfast", "x264 preset of clips. All clips of a conversation use the settings of the first clip."
    )
    x264_crf: int = _key(18, "x264 quality (CRF) of clips: 0 (lossless) to 51.")
    live_preset: str = _key("ultrafast", "x264 preset of live streams and of recorded live clips.")
    live_crf: int = _key(21, "x264 quality (CRF) of live streams and of recorded live clips.")
    live_ahead_s: float = _key(0.1, "Lead of a live stream before the player, in seconds.")
    pause_s: float = _key(0.6, "Maximum idle time between live utterances in the conversation file, in seconds.")

    def __post_init__(self) -> None:
        _one_of("session.voice", self.voice, tuple(VOICES))
        for name in ("x264_preset", "live_preset"):
            _one_of(f"session.{name}", getattr(self, name), _PRESETS)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Keys of the gateway."""

    listen: str = _key("127.0.0.1:8000", "Address to serve HTTP on: host:port.")
    prep: str = _key("127.0.0.1:50051", "Address of the prep service.")
    infer: str = _key("127.0.0.1:50052", "Address of the infer service, used for the health report.")
    session: str = _key("127.0.0.1:50053", "Address of the session service.")
    token_minutes: float = _key(
        60.0, "Lifetime of the session token of a page, in minutes. The page renews the token for 12 hours."
    )
    allowed_origins: str = _key(
        "", "Other origins that may call the API, separated by commas, for example https://example.org; * allows all."
    )
    session_id: str = _key("default", "Session of a request without a session, and of the legacy POST /speak.")
    max_audio_mb: int = _key(30, "Maximum size of the audio of one request, in MiB.")
    chat_url: str = _key(
        "", "Base URL of an OpenAI-compatible chat server, including /v1. Empty: a built-in bot asks questions back."
    )
    chat_key: str = _key("", "API key of the chat server, if required.")
    chat_model: str = _key("gpt-4o-mini", "Model of the chat server.")
    chat_prompt: str = _key(
        "You are a friendly person in a spoken video conversation. Answer in one to three short sentences, without "
        "lists, links or markup.",
        "System prompt of the chat server.",
    )
    transcriptions_url: str = _key(
        "", "Base URL of a server with /audio/transcriptions. Empty: the avatar repeats recorded speech."
    )
    transcriptions_key: str = _key("", "API key of the transcription server, if required.")
    transcriptions_model: str = _key("whisper-1", "Model of the transcription server.")


@dataclass(frozen=True, slots=True)
class MuseTalkConfig:
    """Keys of the renderer musetalk."""

    version: str = _key("v15", "Version of the weights: v15 or v1.")
    device: str = _key("auto", "auto (a GPU if available), cpu, cuda or cuda:0.")
    dtype: str = _key("auto", "auto (fp16 on a GPU, otherwise fp32), fp32, fp16 or bf16.")
    lookahead: int = _key(
        2, "Number of 80 ms audio chunks, counted from the chunk in which a frame starts, that rendering waits for."
    )
    compile: bool = _key(
        True, "Try torch.compile on a GPU and use the faster variant. The first start then takes some minutes."
    )
    silent_lips: bool = _key(True, "Keep the lips at rest without voice, independent of noise in the audio.")


@dataclass(frozen=True, slots=True)
class Config:
    """All keys. `load` in warmtalk.config_loader raises InvalidInput for invalid values."""

    avatar_id: str = _key("", "Avatar of a session without an avatar.")
    video_path: str = _key("", "Source file of avatar_id, used with preparation.")
    bbox_shift: int | None = _key(
        None,
        "Shift of the boundary of the rendered half of the face, in pixels; positive opens the mouth more. "
        "auto: derived from the landmarks.",
    )
    batch_size: int = _key(4, "Maximum number of frames in one batch, 1 to 8.")
    preparation: bool = _key(False, "Build avatar_id from video_path at startup when the avatar does not exist.")
    fps: Fraction = _key(Fraction(25), "Frames per second of new avatars, for example 25 or 30000/1001.")
    data_dir: Path = _key(Path("data"), "Data folder of all services, with the subfolders avatars and sessions.")
    models_dir: Path = _key(Path("models"), "Folder of the weights of MuseTalk, see warmtalk weights.")
    api_key: str = _key(
        "",
        "Key that every HTTP request and gRPC call must contain, as X-Internal-API-Key or bearer token; the same for "
        "all services and the command line. Without a key, the services listen on loopback addresses only.",
    )
    log_level: str = _key("info", "debug, info, warning or error.")
    prep: PrepConfig = field(default_factory=PrepConfig)
    infer: InferConfig = field(default_factory=InferConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    musetalk: MuseTalkConfig = field(default_factory=MuseTalkConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 8:
            raise InvalidInput(f"batch_size is {self.batch_size}", "Use 1 to 8", field="batch_size")
        if not 1 <= self.fps <= 60:
            raise InvalidInput(f"fps is {self.fps}", "Use 1 to 60", field="fps")
        if not 0.3 <= self.infer.mouth_strength <= 2:
            strength = self.infer.mouth_strength
            raise InvalidInput(f"infer.mouth_strength is {strength}", "Use 0.3 to 2", field="infer.mouth_strength")
        _one_of("log_level", self.log_level.lower(), ("debug", "info", "warning", "error"))
        for name in ("prep", "infer", "session", "gateway"):
            _address(f"{name}.listen", getattr(self, name).listen)
        if not all("!" <= one <= "~" for one in self.api_key):
            raise InvalidInput(
                "api_key contains a blank or a character that is not allowed in a header",
                "Create a key: openssl rand -hex 24",
                field="api_key",
            )

    @property
    def avatars_dir(self) -> Path:
        """Folder of all avatars."""
        return self.data_dir / "avatars"

    @property
    def sessions_dir(self) -> Path:
        """Folder of all sessions."""
        return self.data_dir / "sessions"


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"{key} is {value!r}", f"Use {', '.join(known)}", field=key)


def _address(key: str, value: str) -> None:
    if not value.startswith("unix:") and not re.fullmatch(r".+:\d{1,5}", value):
        raise InvalidInput(
            f"{key} is {value!r}", "Write host:port, for example 127.0.0.1:50051, or unix:PATH", field=key
        )
