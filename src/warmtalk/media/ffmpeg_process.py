"""One ffmpeg child process: started without a shell, always ended, its last lines of stderr kept for error messages."""

from __future__ import annotations

import contextlib
import fcntl
import re
import signal
import subprocess
import threading
from collections import deque
from typing import IO

from ffmpeg.nodes import OutputStream

from warmtalk.core.errors import NotReady, WarmtalkError
from warmtalk.media.ffmpeg_command import compile_command
from warmtalk.media.sandbox import ResourceLimits, sandbox_command, sandbox_environment
from warmtalk.media.storage import storage_full_error

_DISK_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
_TAIL_LINES = 12
_POINTER = re.compile(r" @ 0x[0-9a-f]+")
_LINE_BYTES = 2000
_PIPE_BYTES = 1 << 20
"""Pipe capacity. A 720p frame then passes in two writes instead of twenty."""
_NOISE = ("not on whitelist", "Last message repeated")
"""Lines about the cover image of an audio file, which nobody asked for."""


class FfmpegProcess:
    """A running ffmpeg. Write to `stdin` and read from `stdout` in different threads, or use only one of the two.

    `kill` may be called from any thread at any time. A read or write that blocks in another thread then returns.
    """

    def __init__(
        self,
        output: OutputStream,
        *,
        stdin: bool = False,
        stdout: bool = False,
        limits: ResourceLimits | None = None,
    ) -> None:
        """Starts the command that writes `output`.

        With `limits` the child may read untrusted data: resources are bounded, and the child can write to pipes alone.
        Raises NotReady without ffmpeg.
        """
        command = compile_command(output, "-loglevel", "error")
        try:
            self._process = subprocess.Popen(
                sandbox_command(command, limits) if limits else command,
                env=sandbox_environment() if limits else None,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C reaches the service alone, which ends its children itself
            )
        except (FileNotFoundError, PermissionError) as error:
            raise NotReady(
                f"ffmpeg cannot be started ({error})",
                "Install it: pip install imageio-ffmpeg, or apt-get install ffmpeg",
            ) from error
        if stdin:
            with contextlib.suppress(OSError):  # the user's limit on pipe memory may be reached
                fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._stderr_thread = threading.Thread(target=self._read_stderr, name="ffmpeg-stderr", daemon=True)
        self._stderr_thread.start()

    @property
    def stdin(self) -> IO[bytes]:
        """Input pipe; only with `stdin=True`."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Output pipe; only with `stdout=True`."""
        assert self._process.stdout is not None
        return self._process.stdout

    def close_stdin(self) -> None:
        """Ends the input. Does not raise for a dead child: `wait` reports the exit status."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def wait(self) -> int:
        """Blocks until the child has ended. Returns the exit status, negative for a signal."""
        status = self._process.wait()
        self._stderr_thread.join()
        return status

    def kill(self) -> None:
        """Kills the child and closes every pipe. Returns when the child is gone. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._stderr_thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def check_exit(self, activity: str) -> None:
        """Waits for the exit. Raises StorageFull, or WarmtalkError with the last lines of stderr, after a failure.

        `activity` completes "ffmpeg failed while ...".
        """
        status = self.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if status or self._is_disk_full:  # ffmpeg 5 exits with 0 when the disk fills up at the very end
            raise self.exit_error(activity, status)

    def exit_error(self, activity: str, status: int) -> WarmtalkError:
        """Returns the error for an exit with this status."""
        if status == -signal.SIGXFSZ or self._is_disk_full:
            return storage_full_error(activity)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return WarmtalkError(f"ffmpeg {how} while {activity}: {self.stderr_tail or 'stderr is empty'}")

    @property
    def _is_disk_full(self) -> bool:
        return any(text in self.stderr_tail for text in _DISK_FULL_TEXTS)

    @property
    def stderr_tail(self) -> str:
        """The last lines of stderr, joined, without repetitions. Complete after `wait`."""
        return " | ".join(dict.fromkeys(_POINTER.sub("", line) for line in self._tail))

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while line := pipe.readline(_LINE_BYTES):
                text = line.decode("utf-8", "replace").strip()
                if text and not any(noise in text for noise in _NOISE):
                    self._tail.append(text)


def run_ffmpeg(output: OutputStream, activity: str) -> None:
    """Runs ffmpeg to the end and leaves no child behind. Raises NotReady, WarmtalkError."""
    child = FfmpegProcess(output)
    try:
        child.check_exit(activity)
    finally:
        child.kill()
