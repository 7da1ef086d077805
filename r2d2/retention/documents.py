"""Small files that people write: TOML or YAML, with errors that name the key, and the known ones."""

from __future__ import annotations

import importlib
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r2d2.errors import UsageError

Check = Callable[[str, Any], Any]
"""Turns the value of a key into what the program uses, or raises UsageError with the key's name."""

LARGEST = 1e15


def read_document(path: str, what: str) -> dict[str, Any]:
    """The keys of a TOML file, or of a YAML file where the name ends in `.yaml` or `.yml`.

    Args:
        path: A local file.
        what: What it is, for messages, such as `price book 'x.toml'`.

    Raises:
        UsageError: If it cannot be read or parsed, repeats a key, or is not a table of keys.
    """
    try:
        file = Path(path)
        if file.exists() and not file.is_file():  # a pipe would block for ever
            raise UsageError(f"{what} is not a plain file")
        content = file.read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(f"{what} cannot be read ({type(exc).__name__}); give the path of a TOML or YAML file") from exc
    parse = _parse_yaml if file.suffix.lower() in (".yaml", ".yml") else parse_toml
    return parse(content, what)


def parse_toml(content: bytes, what: str) -> dict[str, Any]:
    """The keys of a TOML text; raises UsageError where it is none."""
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as exc:
        raise UsageError(f"{what} is not UTF-8 text") from exc
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        raise UsageError(f"{what} is not valid TOML: {exc}") from exc


def _parse_yaml(content: bytes, what: str) -> dict[str, Any]:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as exc:
        raise UsageError(f"{what}: YAML needs the package PyYAML; install it or write the file as TOML") from exc

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined] # the module is known at run time only
        """Refuses what YAML allows and nobody means: a key twice, of which the last one would count."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if len({repr(key) for key in keys}) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
            return dict(super().construct_mapping(node, deep=deep))

    try:
        found = yaml.load(content.decode(), Loader=Loader)
    except UnicodeDecodeError as exc:
        raise UsageError(f"{what} is not UTF-8 text") from exc
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as exc:
        place = getattr(exc, "problem_mark", None)
        where = f" in line {place.line + 1}" if place is not None else ""
        why = getattr(exc, "problem", None) or type(exc).__name__
        raise UsageError(f"{what} is not valid YAML{where}: {why}") from exc
    if not isinstance(found, dict):
        raise UsageError(f"{what} must hold keys, got {type(found).__name__}")
    return found


def check_keys(keys: Mapping[Any, Any], allowed: Mapping[str, Any], prefix: str = "", *, needed: bool = True) -> None:
    """Refuse unknown keys, naming those known, and, where all are needed, missing ones."""
    unknown = sorted(str(key) for key in keys if key not in allowed)
    missing = [key for key in allowed if key not in keys]
    if unknown:
        known = ", ".join(prefix + key for key in allowed)
        raise UsageError(f"unknown key {_shown(prefix, unknown)}; known: {known}")
    if missing and needed:
        raise UsageError(f"missing key {_shown(prefix, missing)}")


def _shown(prefix: str, keys: list[str]) -> str:
    return ", ".join(repr(prefix + key) for key in keys)


def as_table(key: str, value: Any) -> dict[str, Any]:
    """A table of keys."""
    if not isinstance(value, dict):
        raise UsageError(f"{key} must be a table of keys, got {type(value).__name__}")
    return value


def as_text(key: str, value: Any) -> str:
    """A text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} must be a text that is not empty, got {value!r}")
    return value


def as_amount(key: str, value: Any) -> float:
    """A number from 0 to LARGEST."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number, got {value!r}")
    if not 0 <= value <= LARGEST:
        raise UsageError(f"{key} must be at least 0 and at most {LARGEST:g}, got {value!r}")
    return float(value)


_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, name: str) -> float:
    """Seconds of a duration such as `90s`, `15min`, `2h` or `1d`; a bare number is seconds.

    Raises:
        UsageError: For anything else, named `name`.
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip()[len(number) :] or "s"
    try:
        seconds = float(number) * _UNITS[unit] if number.strip() and "_" not in number else math.nan
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 <= seconds <= LARGEST:
        raise UsageError(f"{name} must be a duration such as 90s, 15min, 2h or 1d, got {text!r}")
    return seconds


def as_duration(key: str, value: Any) -> float:
    """Seconds: a number, or a text for `parse_duration`."""
    return parse_duration(value, key) if isinstance(value, str) else as_amount(key, value)
