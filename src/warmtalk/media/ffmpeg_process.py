"""One ffmpeg child: started without a shell, its complaints kept, ended for certain."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from warmtalk.core.errors import NotReady, StorageFull, WarmtalkError
from warmtalk.media.file_types import find_ffmpeg
from warmtalk.media.sandbox import ResourceLimits, sandbox_command, sandbox_environment

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
_TAIL_LINES = 12
_POINTER = re.compile(r" @ 0x[0-9a-f]+")
_LINE_BYTES = 2000
_PIPE_BYTES = 1 << 20
"""A picture of 720p goes through in two steps, not in twenty."""
_NOISE = ("not on whitelist", "Last message repeated")
"""Said of a cover picture in a sound, which nobody wants to see."""


class FfmpegProcess:
    """A running ffmpeg. Feed `stdin` and read `stdout` from different threads, or only one of them.

    `kill` may be called from any thread at any time: it makes a blocked read or write of another thread return.
    """

    def __init__(
        self,
        args: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = False,
        limits: ResourceLimits | None = None,
    ) -> None:
        """With `limits` it may read what strangers sent: it stays within them, and can write to its pipes alone.

        Raises NotReady when there is no ffmpeg.
        """
        command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", *args]
        try:
            self._process = subprocess.Popen(
                sandbox_command(command, limits) if limits else command,
                env=sandbox_environment() if limits else None,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the program, which ends its children itself
            )
        except (FileNotFoundError, PermissionError) as error:
            raise NotReady(
                f"ffmpeg cannot be started ({error})",
                "Install it: pip install imageio-ffmpeg, or apt-get install ffmpeg",
            ) from error
        if stdin:
            with contextlib.suppress(OSError):  # a user may have used up what all their pipes may hold
                fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._drain = threading.Thread(target=self._read_stderr, name="ffmpeg-stderr", daemon=True)
        self._drain.start()

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def close_stdin(self) -> None:
        """Says that the input is complete. A child that is gone is reported by `wait`."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def wait(self) -> int:
        """Exit status; negative for a signal. Blocks."""
        status = self._process.wait()
        self._drain.join()
        return status

    def kill(self) -> None:
        """Idempotent. Returns when the child is gone and every pipe is closed."""
        self._process.kill()
        self._process.wait()
        self._drain.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def check_exit(self, doing: str) -> None:
        """Waits; raises StorageFull or WarmtalkError with the last lines of the child unless it ended well."""
        status = self.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if status or self._is_full:  # ffmpeg 5 ends with 0 when the disk is full at the very end
            raise self.exit_error(doing, status)

    def exit_error(self, doing: str, status: int) -> WarmtalkError:
        """The error that an exit with this status means."""
        if status == -signal.SIGXFSZ or self._is_full:
            return storage_full_error(doing)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return WarmtalkError(f"ffmpeg {how} while {doing}: {self.stderr_tail or 'it said nothing'}")

    @property
    def _is_full(self) -> bool:
        return any(text in self.stderr_tail for text in _FULL_TEXTS)

    @property
    def stderr_tail(self) -> str:
        """Its last lines on stderr, joined, each once. Complete after `wait`."""
        return " | ".join(dict.fromkeys(_POINTER.sub("", line) for line in self._tail))

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while line := pipe.readline(_LINE_BYTES):
                text = line.decode("utf-8", "replace").strip()
                if text and not any(noise in text for noise in _NOISE):
                    self._tail.append(text)


def run_ffmpeg(args: Sequence[str], doing: str) -> None:
    """Runs ffmpeg to its end. Raises NotReady, StorageFull, WarmtalkError. No child is left behind."""
    child = FfmpegProcess(args)
    try:
        child.check_exit(doing)
    finally:
        child.kill()


def storage_full_error(doing: str) -> StorageFull:
    return StorageFull(f"the volume is full (while {doing})", "Make room: delete sessions or avatars, then try again")


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turns the errors of a full disk into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise storage_full_error(doing) from error
        raise


def remove_files(*paths: Path) -> None:
    """Deletes the files that are there."""
    for path in paths:
        path.unlink(missing_ok=True)
