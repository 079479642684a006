"""YAML files -> validated models. A wrong key or value is an error that names it, before anything starts."""

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

_LONGEST_VALUE = 100  # characters of a wrong value in a message
# No setting nests numbers deeper. A limit is needed: YAML references can describe lists that are too large to walk.
_NESTED_NUMBERS = 2
_VALUES = reprlib.Repr()
_VALUES.maxlevel = 2
_VALUES.maxlist = _VALUES.maxtuple = _LONGEST_VALUE
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 2 * _LONGEST_VALUE


class Section(BaseModel):
    """A part of a configuration: immutable. It refuses unknown keys, infinite numbers and booleans for numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_boolean_as_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false if a number is expected: pydantic would convert them to 1 and 0."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if _contains_boolean(value) and {int, float} & _types_in(annotation) and bool not in _types_in(annotation):
            raise ValueError("true and false (also yes, no, on and off) are not numbers, expected a number")
        return value


def _contains_boolean(value: object, depth: int = _NESTED_NUMBERS) -> bool:
    if isinstance(value, bool) or not (depth and isinstance(value, list | tuple)):
        return isinstance(value, bool)
    return any(_contains_boolean(each, depth - 1) for each in value)


def _types_in(annotation: Any) -> set[Any]:
    """Return the types that an annotation names, at any depth."""
    return {annotation}.union(*map(_types_in, get_args(annotation))) if get_args(annotation) else {annotation}


Model = TypeVar("Model", bound=Section)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises InputError if it is missing, malformed or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: the file is not text, or contains an impossible date
        raise InputError(f"{path} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not valid YAML: its brackets are nested too deeply") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(
            f"{path} contains {kind}, expected a mapping of keys to values", hint="write lines of the form KEY: VALUE"
        )
    not_text = [key for key in content if not isinstance(key, str)]
    if not_text:
        raise InputError(f"{path}: key {_shortened(not_text[0])} is not text, expected a name")
    return content


def load_configuration(path: Path, model: type[Model]) -> Model:
    """Return the validated configuration in `path`.

    `extends: NAME` starts from NAME.yaml in the same folder, or else from the packaged NAME.yaml. Mappings are merged
    key by key; any other value is replaced. Raises InputError that names every wrong key and the closest valid ones.
    """
    return validated(_extended(path, ()), model, str(path))


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the content of a file, merged over the file that it extends.

    `above` are the files that extend this one; a cycle raises InputError.
    """
    content = read_yaml(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    below = path.parent / f"{base}.yaml"
    if not below.is_file():
        below = Path(str(resources.files("neuroseg.configs"))) / f"{base}.yaml"
    if below.resolve() in {each.resolve() for each in (path, *above)}:
        raise InputError(
            f"{path} extends {base}, which extends it", hint="remove the key `extends` from one of these files"
        )
    return _merged(_extended(below, (*above, path)), content)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def validated(content: dict[str, Any], model: type[Model], where: str) -> Model:
    """Return `content` as `model`. Raises InputError that names `where` and every wrong key or value."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_explained(problem, model) for problem in error.errors()]
        raise InputError(f"{where}: " + "; ".join(problems)) from error


def _explained(problem: Any, model: type[BaseModel]) -> str:
    """Return one validation problem as 'key: message', without the key if it concerns the whole model.

    One message may list several problems. So the suggestion for an unknown key stays next to that key.
    """
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=2)
        suggestion = f"did you mean {' or '.join(close)}?" if close else f"valid: {', '.join(known)}"
        return f"unknown key {key!r} ({suggestion})"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message: str = problem["msg"].removeprefix("Value error, ")
    if not location:
        return message
    found = problem["input"]
    if not isinstance(found, Mapping | BaseModel):
        return f"{key} = {_shortened(found)}: {message}"
    # Our own checks of a section name the value found. Messages of pydantic name only what it expects.
    return f"{key}: {message}" + ("" if problem["type"] == "value_error" else ", found a mapping")


def _shortened(value: object) -> str:
    """Return a value as text of bounded length: lists with repeated YAML references could fill the memory."""
    text = _VALUES.repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the valid keys of the section at `location`."""
    section: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    return list(section.model_fields)
