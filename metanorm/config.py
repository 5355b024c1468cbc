"""`[tool.metanorm]` in pyproject.toml: where specs are and where modules go. Nothing is required."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from metanorm.diagnostics.suggest import did_you_mean
from metanorm.options import Options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ConfigError(Exception):
    """A configuration that cannot be used: the file, the key, what is wrong."""


class Config(BaseModel):
    """What `[tool.metanorm]` may say. Paths are relative to the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    specs: tuple[str, ...] = ("specs",)
    out: str = "norms"
    target: str = "torch"

    def options(self) -> Options:
        """The part that changes generated code."""
        return Options(target=self.target)


def find_config(start: Path) -> tuple[Config, Path]:
    """The configuration of the nearest pyproject.toml that has one, and the folder it is in.

    The defaults, and `start`, where there is none. Raises `ConfigError`.
    """
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            table = _table(path)
            if table is not None:
                return _config(table, path), folder
    return Config(), start


def _table(path: Path) -> dict[str, object] | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path.name}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error
    tool = data.get("tool", {})
    table = tool.get("metanorm") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _config(table: dict[str, object], path: Path) -> Config:
    for key in table:
        if key not in Config.model_fields:
            hint = " ".join(did_you_mean(key, Config.model_fields))
            known = ", ".join(Config.model_fields)
            raise ConfigError(
                f"{path.name}: [tool.metanorm] has no key `{key}`; {hint or f'there are {known}'}"
            )
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: [tool.metanorm] {key}: {first['msg']}") from error
