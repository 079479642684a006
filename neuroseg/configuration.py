"""YAML files into validated models: a wrong key or value fails before anything starts and is named."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from neuroseg.errors import InputError

_LONGEST_VALUE = 100  # characters of a wrong value that are told
# Numbers stand in rows of rows at most; lists that YAML repeats by reference would hold more than can be looked at.
_NESTED_NUMBERS = 2
_VALUES = reprlib.Repr()
_VALUES.maxlevel = 2
_VALUES.maxlist = _VALUES.maxtuple = _LONGEST_VALUE
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 2 * _LONGEST_VALUE


class Section(BaseModel):
    """A part of a configuration: immutable, no key that it does not know, and finite numbers that are no switches."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false, which count as 1 and 0, where a number is expected."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if _holds_switch(value) and {int, float} & _types_in(annotation) and bool not in _types_in(annotation):
            raise ValueError("true and false (also yes, no, on and off) are no numbers; write a number")
        return value


def _holds_switch(value: object, depth: int = _NESTED_NUMBERS) -> bool:
    if isinstance(value, bool) or not (depth and isinstance(value, list | tuple)):
        return isinstance(value, bool)
    return any(_holds_switch(each, depth - 1) for each in value)


def _types_in(annotation: Any) -> set[Any]:
    """Return the types that an annotation names, at any depth."""
    return {annotation}.union(*map(_types_in, get_args(annotation))) if get_args(annotation) else {annotation}


Model = TypeVar("Model", bound=Section)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises InputError when it is missing, malformed or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or a date that there is not
        raise InputError(f"{path} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not valid YAML: brackets within brackets, too deep to be read") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping of keys to values, found {type(content).__name__}")
    odd = [key for key in content if not isinstance(key, str)]
    if odd:
        raise InputError(f"{path}: key {_shortened(odd[0])} is no text; a name is expected")
    return content


def load_configuration(path: Path, model: type[Model]) -> Model:
    """Return the validated configuration in `path`; raises InputError naming every wrong key and the close ones.

    `extends: NAME` takes what NAME.yaml beside it (or, where there is none, the packaged one) says; mappings are merged
    key by key, anything else is replaced.
    """
    return validated(_extended(path, ()), model, str(path))


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the content of a file on top of what it extends."""
    content = read_yaml(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    below = path.parent / f"{base}.yaml"
    if not below.is_file():
        below = Path(str(resources.files("neuroseg.configs"))) / f"{base}.yaml"
    if below.resolve() in {each.resolve() for each in (path, *above)}:
        raise InputError(f"{path} extends {base}, which extends it")
    return _merged(_extended(below, (*above, path)), content)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def validated(content: dict[str, Any], model: type[Model], where: str) -> Model:
    """Return `content` as `model`; raises InputError naming `where` and every wrong key or value."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_explained(problem, model) for problem in error.errors()]
        raise InputError(f"{where}: " + "; ".join(problems)) from error


def _explained(problem: Any, model: type[BaseModel]) -> str:
    """Return one validation problem as 'key: what is wrong (what to write)', of several keys without one."""
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        return f"unknown key {key!r}, {hint}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message: str = problem["msg"].removeprefix("Value error, ")
    if not location:
        return message
    found = problem["input"]
    if not isinstance(found, Mapping | BaseModel):
        return f"{key} = {_shortened(found)}: {message}"
    # What a check of ours says of a section tells what it found; what pydantic says, only what it expects.
    return f"{key}: {message}" + ("" if problem["type"] == "value_error" else ", found a mapping")


def _shortened(value: object) -> str:
    """Return a value as text of bounded length: lists that YAML repeats by reference would fill the memory."""
    text = _VALUES.repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the section at `location` takes."""
    section: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    return list(section.model_fields)
