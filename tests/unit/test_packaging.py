"""Requirements, lock files, vendored files and links agree with each other."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import warmtalk

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(path for path in (ROOT / "envs" / "locks").glob("*.txt") if not path.stem.endswith("-torch"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(path: str) -> dict[str, Requirement]:
    """The requirements of a file by name; a name alone gets the range of requirements.txt."""
    lines = [line.partition(" #")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    found = {one.name: one for one in (Requirement(line) for line in lines if line and line[0] not in "#-")}
    if "-c requirements.txt" in lines:
        shared = requirements("requirements.txt")
        found |= {name: shared[name] for name, one in found.items() if not one.specifier}
    if "-r requirements.txt" in lines:
        found |= requirements("requirements.txt")
    return found


def extra(name: str) -> dict[str, Requirement]:
    found = (Requirement(one) for one in PROJECT["optional-dependencies"][name])
    return {one.name: one for one in found if one.name != "warmtalk"}


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_hashes(path: Path) -> None:
    entries = re.findall(r"^[a-z0-9-]+==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)*", path.read_text(), re.MULTILINE)
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_lock_takes_the_same_version_of_a_package() -> None:
    versions: dict[str, set[str]] = {}
    for path in LOCKS:
        for name, version in pins(path).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("lock", "source"),
    [
        ("default", "requirements.txt"),
        ("gateway", "requirements_gateway.txt"),
        ("streaming", "requirements_streaming.txt"),
        ("full", "requirements_full.txt"),
        ("full-no-deps", "envs/requirements_full_no_deps.txt"),
    ],
)
def test_a_lock_lies_within_the_ranges_and_misses_nothing(lock: str, source: str) -> None:
    locked = pins(ROOT / "envs" / "locks" / f"{lock}.txt")
    for name, wanted in requirements(source).items():
        version = locked_torch(lock) if name == "torch" else locked[name.lower().replace("_", "-")]
        assert wanted.specifier.contains(version), f"{wanted} but {lock} has {version}"


def locked_torch(lock: str) -> str:
    return pins(ROOT / "envs" / "locks" / f"{lock}-torch.txt")["torch"]


def test_no_lock_but_its_own_holds_torch_or_a_second_opencv() -> None:
    for path in LOCKS:
        assert not {"torch", "torchvision", "tensorflow", "opencv-python", "opencv-contrib-python"} & pins(path).keys()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("musetalk", "requirements_streaming.txt"),
        ("full", "requirements_full.txt"),
        ("enhance", "requirements_full.txt"),
    ],
)
def test_an_extra_has_the_ranges_of_the_requirement_file(name: str, source: str) -> None:
    wanted = requirements(source)
    for package, one in extra(name).items():
        if package != "torch" or source == "requirements_streaming.txt":
            assert one.specifier == wanted[package].specifier


def test_the_build_requirement_is_the_locked_one() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert build == [str(one) for one in requirements("envs/requirements_build.txt").values()]
    assert all("setuptools" in pins(path) for path in LOCKS if path.stem != "full-no-deps")


def test_hints_name_versions_within_the_ranges() -> None:
    wanted = requirements("envs/requirements_full_no_deps.txt")
    code = "".join(path.read_text() for path in (ROOT / "src" / "warmtalk").rglob("*.py"))
    hints = re.findall(r"pip install --no-deps ([a-z-]+)==([\d.]+)", code)
    assert {name for name, _ in hints} == wanted.keys()
    assert all(wanted[name].specifier.contains(version) for name, version in hints)


def test_the_packages_the_product_is_built_on_are_required() -> None:
    names = set(requirements("requirements_streaming.txt")) | set(requirements("requirements_full.txt"))
    names |= set(extra("dev")) | set(requirements("envs/requirements_full_no_deps.txt"))
    named = (
        "grpcio grpcio-tools protobuf torch diffusers transformers opencv-python-headless face-alignment ffmpeg-python"
    )
    assert {*named.split(), "pyyaml"} <= names


def test_vendored_files_are_the_ones_that_notice_names() -> None:
    entries = re.findall(r"(src/warmtalk/\S*data/\S+)\n +sha256 ([0-9a-f]{64})", (ROOT / "NOTICE").read_text())
    assert len(entries) == 3
    for path, digest in entries:
        assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest, path


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version", "dependencies"]
    assert importlib.metadata.version("warmtalk") == warmtalk.__version__
    assert f"## [{warmtalk.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_docker_bases_have_digests() -> None:
    for path in sorted((ROOT / "envs").glob("*.Dockerfile")):
        bases = re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE)
        assert bases
        assert all(re.fullmatch(r"python:3\.12\.\d+-(slim-)?bookworm@sha256:[0-9a-f]{64}", base) for base in bases)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "training").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}"


def test_the_package_page_has_no_link_into_the_repository() -> None:
    page = ROOT / PROJECT["readme"]
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", page.read_text()))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
