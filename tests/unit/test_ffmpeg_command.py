"""Command lines of ffmpeg: the options that keep untrusted files in, and the order of inputs and outputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import ffmpeg
import pytest

from warmtalk.media import clip_writer, concat, remux, segment_writer, video_decode
from warmtalk.media.ffmpeg_command import STDIN, compile_command, find_ffmpeg, restricted_input
from warmtalk.media.file_types import AUDIO_DEMUXERS, VIDEO_DEMUXERS
from warmtalk.media.probe import VideoCorrections


def value(command: list[str], option: str) -> str:
    """Returns the value of an option that stands once in the command."""
    assert command.count(option) == 1, (option, command)
    return command[command.index(option) + 1]


def maps(command: list[str]) -> list[str]:
    return [command[k + 1] for k, word in enumerate(command) if word == "-map"]


@pytest.mark.parametrize("kind", [*VIDEO_DEMUXERS, *AUDIO_DEMUXERS])
@pytest.mark.parametrize("source", [STDIN, "/tmp/a file"])
def test_untrusted_input_admits_one_demuxer_and_one_protocol(kind: str, source: str) -> None:
    command = compile_command(restricted_input(source, kind).output("-", f="null"))
    before_input = command[: command.index("-i") + 2]
    demuxer = (VIDEO_DEMUXERS | AUDIO_DEMUXERS)[kind]
    assert value(before_input, "-f") == value(before_input, "-format_whitelist") == demuxer
    assert value(before_input, "-protocol_whitelist") == ("pipe" if source == STDIN else "file")
    assert value(before_input, "-threads") == "4"
    decoders = value(before_input, "-codec_whitelist").split(",")
    assert decoders and "" not in decoders
    assert before_input[-1] == source
    drefs = [before_input[before_input.index(name) + 1] for name in ("-enable_drefs",) if name in before_input]
    assert drefs == (["0"] if kind == "mp4" else [])


def test_program_and_global_options_come_first() -> None:
    command = compile_command(ffmpeg.input("a").output("b"), "-loglevel", "error")
    assert command == [
        *(find_ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-y", "-loglevel", "error"),
        *("-i", "a", "b"),
    ]


def test_decoder_of_an_untrusted_video() -> None:
    limits = video_decode.SourceLimits(max_seconds=10, max_pixels=999)
    corrections = VideoCorrections(("bwdif",), ("tonemap",))
    output = video_decode._decoder_output(Path("/v.mp4"), "mp4", corrections, Fraction(30_000, 1001), limits, 0.5)
    command = compile_command(output)
    assert value(command, "-max_pixels") == "999"
    assert command.index("-max_pixels") < command.index("-i") < command.index("-map")
    assert maps(command) == ["0:V:0"]
    assert {"-an", "-sn", "-dn"} < set(command)
    assert value(command, "-t") == "11.000"
    assert value(command, "-vf").split(",")[:4] == [
        *("bwdif", "setpts=PTS-0.5/TB", "fps=30000/1001:start_time=0", "tonemap")
    ]
    assert "-filter_complex" not in command, "a complex graph repeats the first frame of a damaged file"
    assert command[-1] == "pipe:1"


def test_clip_and_conversation_are_copied_bit_by_bit() -> None:
    mux = compile_command(clip_writer._mux_output(Path("/v"), Path("/a"), Path("/c.mp4"), 12_800))
    assert maps(mux) == ["0:v", "1:a"] and [mux[k + 1] for k, word in enumerate(mux) if word == "-i"] == [
        "file:/v",
        "file:/a",
    ]
    assert value(mux, "-vcodec") == "copy" and value(mux, "-acodec") == "flac"
    assert value(mux, "-video_track_timescale") == "12800" and mux[-1] == "file:/c.mp4"
    fragments = compile_command(concat._fragment_output())
    assert value(fragments, "-c") == "copy" and value(fragments, "-safe") == "0"
    assert maps(fragments) == ["0:v:0", "0:a:0"]
    assert value(fragments, "-protocol_whitelist") == "file,pipe,fd"


def test_remux_takes_metadata_from_the_original() -> None:
    original = remux._input(Path("/in.mp4"), "mp4")
    command = compile_command(remux._remux_output(Path("/names"), original, Path("/out"), "mp4"))
    assert [command[k + 1] for k, word in enumerate(command) if word == "-i"] == ["/names", "/in.mp4"]
    assert value(command, "-map_metadata") == "1"
    assert maps(command) == ["0:v:0", "1:a?", "1:V:0", "1:a?"]
    assert command.index("/out") < command.index("null"), "the second output is thrown away"


def test_segments_are_constrained_in_rate() -> None:
    command = compile_command(segment_writer._segment_output(Path("/s.mp4"), 1280, 720, Fraction(25)))
    assert value(command, "-s") == "1280x720" and value(command, "-r") == "25"
    assert value(command, "-maxrate") == "10368000" and value(command, "-bufsize") == "2592000"
    assert value(command, "-bf") == "0"
    assert "-map" not in command
