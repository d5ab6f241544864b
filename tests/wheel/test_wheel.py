"""The wheel in an environment of its own, outside the checkout (make test-wheel)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the locked requirements and the wheel, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--python", sys.executable, "--clear", str(folder)], folder)
    install = [*uv, "pip", "install", "--python", str(folder / "bin" / "python"), "--no-deps"]
    run([*install, "--require-hashes", "-r", str(ROOT / "envs" / "locks" / "default.txt")], folder)
    run([*install, str(wheel)], folder)
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a package `services` of another project."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise ImportError('the services of another project')")
    return tmp_path


def test_the_wheel_is_one_package_with_every_file(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"warmtalk"}
    tracked = run(["git", "ls-files", ":!src/warmtalk/services", "src/warmtalk", "services"], ROOT).split()
    files = {one.replace("services/", "warmtalk/services/").removeprefix("src/") for one in tracked}
    assert names == files
    assert "warmtalk/py.typed" in names and "warmtalk/services/gateway/page/index.html" in names


def test_the_lock_satisfies_the_wheel(binaries: Path, elsewhere: Path) -> None:
    run([sys.executable, "-m", "uv", "pip", "check", "--python", binaries / "python"], elsewhere)


def test_doctor_finds_nothing_missing(binaries: Path, elsewhere: Path) -> None:
    output = run([binaries / "warmtalk", "doctor"], elsewhere)
    assert "ok       voice" in output and "MISSING" not in output


def test_another_projects_services_do_not_matter(binaries: Path, elsewhere: Path) -> None:
    on_path = {"PYTHONPATH": str(elsewhere)}
    assert "usage: warmtalk" in run([binaries / "warmtalk", "--help"], elsewhere, on_path)
    for service in ("prep", "infer", "session", "gateway"):
        help_text = run([binaries / "python", "-m", f"warmtalk.services.{service}", "--help"], elsewhere, on_path)
        assert "--config" in help_text


def test_the_demo_makes_two_conversations(binaries: Path, elsewhere: Path) -> None:
    output = run([binaries / "warmtalk", "demo"], elsewhere)
    paths = [Path(path) for path in re.findall(r"^\w+ conversation +(\S+\.mp4)$", output, re.MULTILINE)]
    assert len(paths) == 2
    assert all(path.stat().st_size > 10_000 for path in paths)


def run(args: list[str | Path], folder: Path, environ: dict[str, str] | None = None) -> str:
    """Returns what the program printed. It must succeed; it does not see this checkout."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        args, cwd=folder, env={**clean, **(environ or {})}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
