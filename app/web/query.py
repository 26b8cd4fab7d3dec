"""Query parameters by their names: a URL means one thing, so that nothing in it is passed over."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi._compat import ModelField, field_annotation_is_sequence, get_cached_model_fields
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _get_param_aliases, _get_param_model, get_dependant
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, AliasPath

from app.errors import FieldError, InvalidRequest, list_known
from app.web.problems import pointer_to

Overrides = dict[Callable[..., Any], Callable[..., Any]]


class QueryNames:
    """The names that an endpoint and its dependencies read from the query: `single` ones, and those of `lists`."""

    def __init__(self, dependant: Dependant) -> None:
        self.single: set[str] = set()
        self.lists: set[str] = set()
        self.takes_any = False
        self._documented: set[str] = set()  # those that the OpenAPI document has
        self._add(dependant)

    def check(self, query_string: bytes) -> None:
        """Raise InvalidRequest for parameters that are unknown, repeated or not UTF-8."""
        try:
            pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise InvalidRequest(errors=[{"pointer": "/query", "message": "must be percent-encoded UTF-8"}]) from None
        counts = Counter(name for name, _ in pairs)
        errors: list[FieldError] = [
            {"pointer": pointer_to(("query", name)), "message": message}
            for name, times in counts.items()
            if (message := self._find_fault(name, times))
        ]
        if errors:
            raise InvalidRequest(errors=errors)

    def _find_fault(self, name: str, times: int) -> str | None:
        if name in self.lists:
            return None
        if name in self.single:
            return "is given more than once" if times > 1 else None
        return None if self.takes_any else f"is no parameter here; {list_known(self._documented)}"

    def _add(self, dependant: Dependant) -> None:
        for field in dependant.query_params:
            model = _get_param_model(field)
            self.takes_any |= model is not None and model.model_config.get("extra") == "allow"
            for part in get_cached_model_fields(model) if model else [field]:
                names = self.lists if field_annotation_is_sequence(part.field_info.annotation) else self.single
                found = {name for _, name in _get_param_aliases(part)}
                names |= found
                self._documented |= found if getattr(field.field_info, "include_in_schema", True) else set()
                self.lists.update(_names_of_paths(part))
        if isinstance(dependant.call, APIKeyQuery):  # reads the request itself
            self.single.add(dependant.call.model.name)
            self._documented.add(dependant.call.model.name)
        for child in dependant.dependencies:
            self._add(child)


def override(dependant: Dependant, overrides: Overrides) -> Dependant:
    """Return a dependant whose dependencies are those that FastAPI solves under `dependency_overrides`."""
    children = []
    for child in dependant.dependencies:
        replacement = overrides.get(child.call) if child.call else None
        children.append(get_dependant(path=child.path or "", call=replacement) if replacement else child)
    return replace(dependant, dependencies=[override(child, overrides) for child in children])


def _names_of_paths(field: ModelField) -> Iterator[str]:
    """Give the names under which pydantic looks into a list: AliasPath("point", 0) reads the first `point`."""
    alias = field.field_info.validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, AliasPath):
            yield str(choice.path[0])
