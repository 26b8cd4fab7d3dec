"""`docs/settings.md` says what `Settings` holds."""

import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def values(field: FieldInfo) -> str:
    """What a variable may be, if its type says so: a choice, a switch or a range; else nothing."""
    kind = without_none(field.annotation)
    if kind is bool:
        return "`true` or `false`"
    if get_origin(kind) is Literal:
        choices = [f"`{choice}`" for choice in get_args(kind)]
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    bounds = {type(bound).__name__: bound for part in metadata(field) for bound in getattr(part, "metadata", (part,))}
    least, most = getattr(bounds.get("Ge"), "ge", None), getattr(bounds.get("Le"), "le", None)
    if "Gt" in bounds:
        return f"above {bounds['Gt'].gt}, up to {most}"
    if least is None:
        return ""
    return f"{least} to {most}" if most is not None else f"{least} or more"


def metadata(field: FieldInfo) -> list[Any]:
    """The bounds of a field, also where it may be none."""
    inner = [part for choice in get_args(field.annotation) for part in getattr(choice, "__metadata__", ())]
    return [*field.metadata, *inner]


def without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [choice for choice in get_args(annotation) if choice is not type(None)]
    return annotation


def default(field: FieldInfo) -> str:
    """The default as it is written in a variable; `none` for none."""
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value in (None, "", ()):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_page_lists_every_variable_once() -> None:
    """And none that is not there."""
    names = [name for name, *_ in ROW.findall(PAGE.read_text())]
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)


def test_each_variable_has_its_values_and_its_default() -> None:
    """A choice, a switch and a range are those of the type; other values are described."""
    for name, told, told_default, what in ROW.findall(PAGE.read_text()):
        field = Settings.model_fields[name.lower()]
        assert told == (values(field) or told), name
        assert told_default == default(field), name
        assert len(what) > 10, name
