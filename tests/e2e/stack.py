"""A stack started by `warmtalk up` in a folder of its own, and the commands run against the stack."""

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
class Machine:
    """A folder, and the environment in which commands run."""

    folder: Path
    environ: dict[str, str]

    def run(self, *args: str, stdin: str = "", status: int = 0) -> str:
        """Output of `warmtalk ARGS`; its error output when another status than 0 is expected."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "warmtalk.cli", *args],
            cwd=self.folder, env=self.environ, input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if status else done.stdout

    def up(self, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "warmtalk.cli", "up"],
            cwd=self.folder, env={**self.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def machine(folder: Path) -> Machine:
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
    return Machine(folder, environ)


def wait_for(child: subprocess.Popen[str], word: str) -> str:
    lines = []
    assert child.stdout
    for line in child.stdout:
        lines.append(line)
        if line.startswith(word):
            return "".join(lines)
    raise AssertionError("".join(lines) + (child.stderr.read() if child.stderr else ""))


@contextmanager
def running_machine(folder: Path, portrait: Path) -> Iterator[Machine]:
    """A machine whose stack is up with an API key; `photo.png` lies in its folder. Ctrl-C must stop the stack."""
    shutil.copy(portrait, folder / "photo.png")
    one = machine(folder)
    one.environ["WARMTALK_API_KEY"] = "a-key-of-ours"
    child = one.up()
    try:
        said = wait_for(child, "ready")
        assert one.environ["WARMTALK_SESSION_LISTEN"] in said
        yield one
    finally:
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0, out + err


def left(one: Machine) -> list[str]:
    """Processes that still run with this machine's folder in their environment."""
    mark = str(one.folder).encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in place.read_bytes():
                found.append((place.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
