"""Loads a Config from a YAML file and WARMTALK_* variables. Variables override the file."""

from __future__ import annotations

import difflib
import logging
import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import yaml

from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput

T = TypeVar("T")
log = logging.getLogger(__name__)

_KINDS: dict[Any, str] = {
    int: "a whole number",
    int | None: "a whole number or auto",
    float: "a number",
    bool: "true or false",
    Fraction: "a number, for example 25 or 30000/1001",
}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Returns the configuration. Raises InvalidInput with the file or variable, the key and the valid values."""
    raw: Any = {}
    if path is not None:
        if not path.is_file():
            raise InvalidInput(f"there is no configuration file {path}", "Check --config and WARMTALK_CONFIG")
        try:
            raw = yaml.safe_load(path.read_text("utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidInput(
                f"the configuration {path} cannot be read: {_reason(error)}", "Correct the file"
            ) from error
        if not isinstance(raw, dict):
            raise InvalidInput(f"the configuration {path} is not a mapping of keys", "See docs/configuration.md")
    _warn_about_misspelt(environ)
    return _build(Config, raw, environ, "")


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(getattr(error, "strerror", None) or error)


def _suggestion(name: object, known: Iterable[str]) -> str:
    """Returns text such as "Did you mean voice?", or ""."""
    similar = difflib.get_close_matches(str(name), known, 1)
    return f"Did you mean {similar[0]}?" if similar else ""


def _warn_about_misspelt(environ: Mapping[str, str]) -> None:
    """Logs a warning for variables similar to a known one.

    An unknown variable is no error, because other programs set variables with this prefix, for example Kubernetes.
    """
    known = {_variable(key) for key, *_ in describe()} | {"WARMTALK_CONFIG"}
    for name in environ:
        similar = difflib.get_close_matches(name, known, 1, cutoff=0.9)
        if name.startswith("WARMTALK_") and name not in known and similar:
            log.warning("the variable %s has no effect. Did you mean %s?", name, similar[0])


def describe(kind: type = Config, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Returns (key, variable, default, help) of every key, for the documentation and --help."""
    rows: list[tuple[str, str, str, str]] = []
    hints = typing.get_type_hints(kind)
    for one in fields(kind):
        if is_dataclass(hints[one.name]):
            rows += describe(hints[one.name], f"{prefix}{one.name}.")
        else:
            key = f"{prefix}{one.name}"
            default = "auto" if one.default is None else str(one.default)
            rows.append((key, _variable(key), default, one.metadata["help"]))
    return rows


def _variable(key: str) -> str:
    return "WARMTALK_" + key.replace(".", "_").upper()


def _build(kind: type[T], raw: Mapping[str, Any], environ: Mapping[str, str], prefix: str) -> T:
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise InvalidInput(
                f"the configuration has an unknown key {prefix}{name}",
                _suggestion(name, known) or f"Known keys: {', '.join(known)}",
                field=str(name),
            )
    hints = typing.get_type_hints(kind)
    values = {name: _value(one, hints[name], raw, environ, f"{prefix}{name}") for name, one in known.items()}
    return kind(**values)


def _value(one: Field[Any], hint: Any, raw: Mapping[str, Any], environ: Mapping[str, str], key: str) -> Any:
    if is_dataclass(hint):
        section = raw.get(one.name) or {}
        if not isinstance(section, dict):
            raise InvalidInput(f"the configuration key {key} is not a section", f"Write keys under {key}:", field=key)
        return _build(typing.cast(type[Any], hint), section, environ, f"{key}.")
    if environ.get(_variable(key)):  # an empty variable counts as unset: docker compose passes empty variables
        return _parse(environ[_variable(key)], hint, _variable(key))
    if raw.get(one.name) is not None:
        return _parse(raw[one.name], hint, key)
    return one.default if one.default is not MISSING else None


def _parse(value: Any, hint: Any, key: str) -> Any:
    try:
        if hint is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).lower()]
        if hint == int | None:
            return None if str(value).lower() == "auto" else int(str(value))
        return hint(str(value))
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise InvalidInput(f"{key} is {value!r}", f"Write {_KINDS.get(hint, 'another value')}", field=key) from error


def _markdown_page() -> str:
    """Returns docs/configuration.md."""
    head = (
        "# Configuration\n\n"
        "<!-- Generated by `make docs` from src/warmtalk/config.py. -->\n\n"
        "One YAML file, given as `warmtalk --config FILE COMMAND` or in `WARMTALK_CONFIG`. Every key has a default "
        "value and\nan environment variable; the variable overrides the file. A key with a dot belongs to a "
        "section:\n\n"
        "```yaml\navatar_id: anna\nvideo_path: anna.mp4\npreparation: true   # build the avatar at startup\n"
        "fps: 25\nsession:\n  voice: openai\n  openai_url: http://127.0.0.1:8880/v1\n```\n\n"
        "| key | variable | default | description |\n|---|---|---|---|\n"
    )
    rows = [f"| `{key}` | `{variable}` | `{default}` | {text} |" for key, variable, default, text in describe()]
    return head + "\n".join(rows).replace("``", "(empty)")


if __name__ == "__main__":
    print(_markdown_page())  # noqa: T201 - prints the page
