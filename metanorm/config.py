"""`[tool.metanorm]` in pyproject.toml: where specs are, where modules go. All keys are optional."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

from metanorm.diagnostics.suggest import did_you_mean
from metanorm.options import DEFAULT_TARGET, Options, Target
from metanorm.usage_error import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# What TOML calls some types; others have one name in TOML and in Python.
IN_TOML = {
    "tuple_type": 'Input should be an array, such as ["specs"]',
    "dict_type": 'Input should be a table, such as {eps = "variance_epsilon"}',
}


class ConfigError(UsageError):
    """A configuration that cannot be used: the file, the key, what is wrong."""


@dataclass(frozen=True)
class Config:
    """The keys of `[tool.metanorm]`. Paths are relative to the file."""

    specs: tuple[str, ...] = ("specs",)
    out: str = "norms"
    target: Target = DEFAULT_TARGET
    standalone: bool = False
    hub_version: int = 0
    hub_license: str = "unknown"
    rename: dict[str, str] = field(default_factory=dict)

    def options(self) -> Options:
        """The options that change generated code."""
        return Options(target=self.target)


def find_config(start: Path) -> tuple[Config, Path]:
    """The configuration of the nearest pyproject.toml that has one, and the folder it is in.

    The defaults, and `start`, where there is none. Raises `ConfigError`.
    """
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            table = _read_table(path)
            if table is not None:
                return _config_from_table(table, path), folder
    return Config(), start


def _read_table(path: Path) -> dict[str, object] | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path.name}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error
    tool = data.get("tool", {})
    table = tool.get("metanorm") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _config_from_table(table: dict[str, object], path: Path) -> Config:
    from pydantic import TypeAdapter, ValidationError  # slow to import, and rarely needed

    keys = [field.name for field in fields(Config)]
    for key in table:
        if key not in keys:
            hint = " ".join(did_you_mean(key, keys)) or f"there are {', '.join(keys)}"
            raise ConfigError(f"{path.name}: [tool.metanorm] has no key `{key}`; {hint}")
    try:
        return TypeAdapter(Config).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        needed = IN_TOML.get(first["type"], first["msg"])
        raise ConfigError(f"{path.name}: [tool.metanorm] {key}: {needed}") from error
