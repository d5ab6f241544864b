"""A stack started by `warmtalk up` in a temporary folder, and the commands that run against the stack."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalStack:
    """Working folder and environment of all commands."""

    folder: Path
    environ: dict[str, str]

    def run(self, *args: str, stdin: str = "", status: int = 0) -> str:
        """Runs `warmtalk ARGS`. Returns stdout, or stderr when the expected status is not 0."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "warmtalk.cli", *args],
            cwd=self.folder, env=self.environ, input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if status else done.stdout

    def up(self, **environ: str) -> subprocess.Popen[str]:
        """Starts `warmtalk up`."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "warmtalk.cli", "up"],
            cwd=self.folder, env={**self.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def processes(self) -> list[str]:
        """Returns the command lines of running processes with this folder in the environment."""
        mark = str(self.folder).encode()
        commands = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes():
                    commands.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return commands


def new_stack(folder: Path) -> LocalStack:
    """Returns a stack with free ports. The folder contains a package `services` that must not be imported."""
    (folder / "services").mkdir()
    (folder / "services" / "__init__.py").write_text("raise ImportError('the services of another project')")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    prep, infer, session, gateway = (f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    environ = {
        **os.environ,
        "WARMTALK_DATA_DIR": str(folder / "data"),
        "WARMTALK_PREP_LISTEN": prep,
        "WARMTALK_PREP_STILL_SECONDS": "1",
        "WARMTALK_INFER_LISTEN": infer,
        "WARMTALK_SESSION_LISTEN": session,
        "WARMTALK_SESSION_INFER": infer,
        "WARMTALK_GATEWAY_LISTEN": gateway,
        "WARMTALK_GATEWAY_PREP": prep,
        "WARMTALK_GATEWAY_INFER": infer,
        "WARMTALK_GATEWAY_SESSION": session,
    }
    return LocalStack(folder, environ)


def read_until(child: subprocess.Popen[str], word: str) -> str:
    """Returns stdout up to the first line that starts with `word`. Fails when the process ends before."""
    lines = []
    assert child.stdout
    for line in child.stdout:
        lines.append(line)
        if line.startswith(word):
            return "".join(lines)
    raise AssertionError("".join(lines) + (child.stderr.read() if child.stderr else ""))


@contextmanager
def running_stack(folder: Path, portrait: Path) -> Iterator[LocalStack]:
    """Starts a stack with an API key and a photo `photo.png` in the folder. Ctrl-C must stop the stack at the end."""
    shutil.copy(portrait, folder / "photo.png")
    stack = new_stack(folder)
    stack.environ["WARMTALK_API_KEY"] = "key-of-this-test"
    child = stack.up()
    try:
        assert stack.environ["WARMTALK_SESSION_LISTEN"] in read_until(child, "ready")
        yield stack
    finally:
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0, out + err
