"""Every key of the configuration with its default and its help. Built once, by warmtalk.configure; read nowhere else.

A key of a section has the section in its variable: session.voice is WARMTALK_SESSION_VOICE. The first six keys are
those of the warm server's realtime_live.yaml.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from warmtalk.core.errors import InvalidInput

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")


def _key(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class PrepConfig:
    listen: str = _key("127.0.0.1:50051", "Address to serve on: host:port, or unix:PATH.")
    extra_margin: int | None = _key(None, "Room under the chin, in pixels; auto: 8 % of the face box, at least 10.")
    still_seconds: float = _key(4.0, "Seconds of idle motion made from a still image.")
    steady: str = _key("tracked", "Face boxes: tracked (with the head), one_euro, or reference (each frame's own).")
    scale_lock: float = _key(0.04, "Part of its size by which a face may seem to change before its box does.")
    one_euro_beta: float = _key(0.05, "One-Euro filter: how much faster it gets with the head's speed.")
    one_euro_cutoff_hz: float = _key(1.0, "One-Euro filter: cutoff for a head at rest, in Hz.")
    detector: str = _key(
        "auto",
        "What finds the face box: mesh (embedded), dwpose (as MuseTalk itself), face-alignment, or auto: dwpose where "
        "it is ready, then face-alignment, then mesh. warmtalk doctor says what is ready.",
    )
    parsing: str = _key(
        "auto", "What cuts the mask: mesh (embedded), bisenet (as MuseTalk itself), or auto: bisenet where it is ready."
    )
    parsing_mode: str = _key("jaw", "What a mask of bisenet holds: jaw, neck, or raw (skin and mouth alone, as v1).")
    cheek_width_left: int = _key(90, "Half width of the band that bisenet's jaw mode leaves unshrunk, of 512 pixels.")
    cheek_width_right: int = _key(90, "The same to the right; MuseTalk's left_cheek_width and right_cheek_width.")
    max_upload_mb: int = _key(512, "Largest source file, in MiB.")
    max_source_s: float = _key(600.0, "Longest source video, in seconds.")
    max_source_pixels: int = _key(4096 * 2304, "Largest source frame, width times height.")
    max_queue: int = _key(16, "Builds that may wait; one runs at a time.")

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
    listen: str = _key("127.0.0.1:50052", "Address to serve on: host:port, or unix:PATH.")
    renderer: str = _key("mesh", "Renderer when a request names none.")
    max_streams: int = _key(8, "Utterances rendered at once.")
    cache_mb: int = _key(2048, "Memory for warm avatars, in MiB.")
    blend: str = _key("feather", "How faces are brought into their frames: feather, or poisson (gradients only).")
    colour_match: str = _key("auto", "Faces get the colours of their frame: on, off, or auto (on for musetalk).")
    sharpen: bool = _key(True, "Faces enlarged over 256 pixels are sharpened by what that took from them.")
    mouth_strength: float = _key(1.0, "How much the embedded renderer's mouth moves: 0.3 (mumbles) to 2.")

    def __post_init__(self) -> None:
        _one_of("infer.renderer", self.renderer, ("mesh", "musetalk"))
        _one_of("infer.blend", self.blend, ("feather", "poisson"))
        _one_of("infer.colour_match", self.colour_match, ("on", "off", "auto"))


@dataclass(frozen=True, slots=True)
class SessionConfig:
    listen: str = _key("127.0.0.1:50053", "Address to serve on: host:port, or unix:PATH.")
    infer: str = _key("127.0.0.1:50052", "Address of the infer service.")
    voice: str = _key("piper", "Voice: piper (embedded) or openai (any server with /v1/audio/speech).")
    openai_url: str = _key("http://127.0.0.1:8880/v1", "Base URL of the speech server, up to and with /v1.")
    openai_key: str = _key("", "Its API key, if it wants one.")
    openai_model: str = _key("tts-1", "Its model.")
    openai_voice: str = _key("alloy", "Its voice.")
    max_text_chars: int = _key(5000, "Longest text of one Speak.")
    max_clip_s: float = _key(900.0, "Longest sound of one Speak, in seconds.")
    max_queue: int = _key(8, "Speaks of one session that may wait.")
    cache_mb: int = _key(1024, "Memory for decoded source frames, in MiB.")
    x264_preset: str = _key("veryfast", "x264 preset of clips; a conversation is coded as its first clip.")
    x264_crf: int = _key(18, "x264 quality of clips: 0 (lossless) to 51.")
    live_preset: str = _key("ultrafast", "x264 preset of live streams and what they record.")
    live_crf: int = _key(21, "x264 quality of live streams and what they record.")
    live_ahead_s: float = _key(0.1, "How far a live stream is ahead of its player, in seconds.")
    pause_s: float = _key(0.6, "Most idle time kept between live utterances in the conversation, in seconds.")

    def __post_init__(self) -> None:
        _one_of("session.voice", self.voice, ("piper", "openai"))
        for name in ("x264_preset", "live_preset"):
            _one_of(f"session.{name}", getattr(self, name), _PRESETS)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    listen: str = _key("127.0.0.1:8000", "Address to serve HTTP on: host:port.")
    prep: str = _key("127.0.0.1:50051", "Address of the prep service.")
    infer: str = _key("127.0.0.1:50052", "Address of the infer service; its health is shown.")
    session: str = _key("127.0.0.1:50053", "Address of the session service.")
    token_minutes: float = _key(60.0, "Life of a page's session token, in minutes; the page renews it for 12 hours.")
    allowed_origins: str = _key("", "Origins of other sites that may call, with commas: https://example.org; or *.")
    session_id: str = _key("default", "Session of a request that names none, and of the old POST /speak.")
    max_audio_mb: int = _key(30, "Largest sound of one request, in MiB.")
    chat_url: str = _key("", "Base URL of an OpenAI-compatible chat server, up to and with /v1. Empty: it asks back.")
    chat_key: str = _key("", "Its API key, if it wants one.")
    chat_model: str = _key("gpt-4o-mini", "Its model.")
    chat_prompt: str = _key(
        "You are a friendly person in a spoken video conversation. Answer in one to three short sentences, without "
        "lists, links or markup.",
        "What the chat server is told first.",
    )
    transcriptions_url: str = _key("", "Base URL of a server with /audio/transcriptions. Empty: speech is said back.")
    transcriptions_key: str = _key("", "Its API key, if it wants one.")
    transcriptions_model: str = _key("whisper-1", "Its model.")


@dataclass(frozen=True, slots=True)
class MuseTalkConfig:
    version: str = _key("v15", "Version of the weights: v15 or v1.")
    device: str = _key("auto", "auto (a GPU where there is one), cpu, cuda or cuda:0.")
    dtype: str = _key("auto", "auto (fp16 on a GPU, else fp32), fp32, fp16 or bf16.")
    lookahead: int = _key(2, "Pieces of 80 ms, from the one a frame begins in, that are heard before it is drawn.")
    compile: bool = _key(
        True, "On a GPU torch.compile is tried and taken where it is faster. The first start takes minutes for it."
    )
    silent_lips: bool = _key(True, "Lips rest where there is no voice, whatever the weights make of noise.")


@dataclass(frozen=True, slots=True)
class Config:
    avatar_id: str = _key("", "Avatar of a session that names none.")
    video_path: str = _key("", "Source of avatar_id; with preparation it is built at start when it is missing.")
    bbox_shift: int | None = _key(
        None,
        "Moves the boundary of the drawn half of the face, in pixels; positive opens more. auto: by its landmarks.",
    )
    batch_size: int = _key(4, "Most frames of one batch, 1 to 8.")
    preparation: bool = _key(False, "Build avatar_id from video_path at start.")
    fps: Fraction = _key(Fraction(25), "Frames per second of new avatars: 25, or 30000/1001.")
    data_dir: Path = _key(Path("data"), "Folder of the shared volumes: avatars/ and sessions/ lie in it.")
    models_dir: Path = _key(Path("models"), "Folder of MuseTalk's weights, see warmtalk weights.")
    api_key: str = _key(
        "",
        "Key that every request and call must carry, as X-Internal-API-Key or bearer; the same for all services and "
        "the command line. Without one they listen on loopback alone.",
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
                "api_key has a blank or a letter that no header can carry",
                "Make one: openssl rand -hex 24",
                field="api_key",
            )

    @property
    def avatars_dir(self) -> Path:
        return self.data_dir / "avatars"

    @property
    def sessions_dir(self) -> Path:
        return self.data_dir / "sessions"


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"{key} is {value!r}", f"Use {', '.join(known)}", field=key)


def _address(key: str, value: str) -> None:
    if not value.startswith("unix:") and not re.fullmatch(r".+:\d{1,5}", value):
        raise InvalidInput(f"{key} is {value!r}", "Write host:port, as 127.0.0.1:50051, or unix:PATH", field=key)
