"""Measure how plain the docstrings are, and fail when they are not: python -m scripts.check_prose [PATH ...]

Without a PATH: the product (src, services, benchmarks, training, envs, scripts), with the limits on coverage and
volume.
With a PATH: the wording of those files or folders alone, and the ten worst docstrings.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PRODUCT = ("src/warmtalk", "services", "benchmarks", "training", "envs", "scripts")
PRONOUNS = frozenset(
    "it its that what who whom whose there them they those these whoever whatever".split()  # noqa: SIM905 - a word list
)
FRAGMENT_OPENINGS = frozenset(
    "what who where how of as until whether when those whatever whoever with also".split()  # noqa: SIM905
)
MAX_PRONOUNS_PCT = 2.5
MAX_FRAGMENTS_PCT = 2.0
MIN_FUNCTIONS_PCT = 74.0
MIN_CLASSES_PCT = 79.0
MIN_MODULES_PCT = 99.0
MIN_WORDS = 31_280
"""85 % of the docstring words of the product when this check was introduced."""


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring or an attribute docstring. `pronouns` and `words` are counts."""

    path: Path
    line: int
    text: str
    attribute: bool
    words: int
    pronouns: int
    fragment: bool


@dataclass(slots=True)
class Coverage:
    """Documented and all public definitions of one kind."""

    documented: int = 0
    total: int = 0

    def add(self, node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef | ast.Module) -> None:
        self.total += 1
        self.documented += ast.get_docstring(node) is not None

    @property
    def percent(self) -> float:
        return 100 * self.documented / max(1, self.total)


@dataclass(slots=True)
class Measure:
    """Figures of a set of files."""

    docstrings: list[Docstring] = field(default_factory=list)
    functions: Coverage = field(default_factory=Coverage)
    classes: Coverage = field(default_factory=Coverage)
    modules: Coverage = field(default_factory=Coverage)

    @property
    def words(self) -> int:
        return sum(one.words for one in self.docstrings)

    @property
    def pronouns_pct(self) -> float:
        return 100 * sum(one.pronouns for one in self.docstrings) / max(1, self.words)

    @property
    def fragments_pct(self) -> float:
        return 100 * sum(one.fragment for one in self.docstrings) / max(1, len(self.docstrings))


def python_files(paths: list[str]) -> list[Path]:
    """Sorted Python files below `paths`, without generated code and without the link to services."""
    found: set[Path] = set()
    for path in map(Path, paths):
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return sorted(
        path
        for path in found
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        and "warmtalk/services" not in path.as_posix()
        and not any(part.startswith(".venv") for part in path.parts)
    )


def measure(files: list[Path]) -> Measure:
    """Parse `files` and count. Raises SyntaxError for a file that is not Python."""
    found = Measure()
    for path in files:
        tree = ast.parse(path.read_text("utf-8"))
        found.docstrings.extend(docstrings(path, tree))
        if tree.body:
            found.modules.add(tree)
        add_public(found, tree.body)
    return found


def add_public(found: Measure, body: list[ast.stmt]) -> None:
    """Count the public classes and functions of a module or class body; nested functions do not count."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found.classes.add(node)
            add_public(found, node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found.functions.add(node)


def docstrings(path: Path, tree: ast.Module) -> Iterator[Docstring]:
    """Yield each string statement of `tree`: docstrings of definitions and of attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for index, statement in enumerate(body):
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    words = re.findall(r"[A-Za-z']+", text.lower())
                    if words:
                        pronouns = sum(word in PRONOUNS for word in words)
                        fragment = words[0] in FRAGMENT_OPENINGS
                        line = statement.lineno
                        yield Docstring(path, line, " ".join(text.split()), index > 0, len(words), pronouns, fragment)


def problems(found: Measure) -> list[str]:
    """Limits that the wording breaks, a line each."""
    broken = []
    if found.pronouns_pct >= MAX_PRONOUNS_PCT:
        broken.append(f"pronouns are {found.pronouns_pct:.1f} % of the words; the limit is {MAX_PRONOUNS_PCT} %")
    if found.fragments_pct >= MAX_FRAGMENTS_PCT:
        broken.append(f"{found.fragments_pct:.1f} % open with a fragment word; the limit is {MAX_FRAGMENTS_PCT} %")
    broken += [
        f'{one.path}:{one.line}: an attribute docstring opens with "Of": {one.text[:80]}'
        for one in found.docstrings
        if one.attribute and one.text.startswith("Of ")
    ]
    return broken


def coverage_problems(found: Measure) -> list[str]:
    """Limits that coverage and volume break, a line each."""
    limits = (
        ("public functions", found.functions, MIN_FUNCTIONS_PCT),
        ("public classes", found.classes, MIN_CLASSES_PCT),
        ("modules", found.modules, MIN_MODULES_PCT),
    )
    broken = [
        f"{one.percent:.1f} % of the {name} have a docstring; the limit is {least} %"
        for name, one, least in limits
        if one.percent < least
    ]
    if found.words < MIN_WORDS:
        broken.append(f"the docstrings hold {found.words} words; the limit is {MIN_WORDS}")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH")
    paths: list[str] = parser.parse_args().paths
    found = measure(python_files(paths or list(PRODUCT)))
    broken = problems(found) + ([] if paths else coverage_problems(found))
    print(
        f"{len(found.docstrings)} docstrings, {found.words} words: pronouns {found.pronouns_pct:.2f} %, "
        f"fragment openings {found.fragments_pct:.2f} %; documented: functions {found.functions.percent:.1f} %, "
        f"classes {found.classes.percent:.1f} %, modules {found.modules.percent:.1f} %"
    )
    if paths or broken:
        rows = sorted(found.docstrings, key=lambda one: one.pronouns / one.words, reverse=True)
        for one in [row for row in rows if row.pronouns >= 2 or row.fragment][:10]:
            print(f"  {one.path}:{one.line}  {100 * one.pronouns / one.words:.0f} %  {one.text[:110]}")
    for line in broken:
        print(f"prose: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
