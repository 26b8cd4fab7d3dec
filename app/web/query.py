"""Query parameters by their names: a URL means one thing, so that nothing in it is passed over."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi._compat import ModelField, field_annotation_is_sequence, get_cached_model_fields
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _get_param_aliases, _get_param_model, get_dependant
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, AliasPath

from app.errors import FieldError, InvalidRequest, pointer_to


class QueryNames:
    """The names that an endpoint and its dependencies read from the query: of one value, and of many."""

    def __init__(self, dependant: Dependant) -> None:
        self._dependant, self._any = dependant, False
        self._single: set[str] = set()
        self._lists: set[str] = set()
        self._add(dependant)

    def overridden(self, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> "QueryNames":
        """Return the names with those that the replacements of dependencies read."""
        return QueryNames(_replaced(self._dependant, overrides))

    def refuse_odd(self, query_string: bytes) -> None:
        """Refuse parameters that are unknown, repeated or not UTF-8.

        Raises:
            InvalidRequest: names the first parameters at fault.

        """
        if not query_string:
            return
        try:
            pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise InvalidRequest(errors=[{"pointer": "/query", "message": "must be percent-encoded UTF-8"}]) from None
        counts = Counter(name for name, _ in pairs)
        verdicts: list[FieldError] = [
            {"pointer": pointer_to(("query", name)), "message": verdict}
            for name, times in counts.items()
            if (verdict := self._verdict(name, times))
        ]
        if verdicts:
            raise InvalidRequest(errors=verdicts)

    def _verdict(self, name: str, times: int) -> str | None:
        if name in self._lists:
            return None
        if name in self._single:
            return "is given more than once" if times > 1 else None
        return None if self._any else "is no parameter here"

    def _add(self, dependant: Dependant) -> None:
        for field in dependant.query_params:
            model = _get_param_model(field)
            self._any |= model is not None and model.model_config.get("extra") == "allow"
            for part in get_cached_model_fields(model) if model else [field]:
                many = self._lists if field_annotation_is_sequence(part.field_info.annotation) else self._single
                many.update(name for _, name in _get_param_aliases(part))
                self._lists.update(_first_of_paths(part))
        if isinstance(dependant.call, APIKeyQuery):  # reads the request itself
            self._single.add(dependant.call.model.name)
        for child in dependant.dependencies:
            self._add(child)


def _replaced(dependant: Dependant, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Dependant:
    """Return a dependant whose dependencies are those that FastAPI would solve."""
    children = []
    for child in dependant.dependencies:
        replacement = overrides.get(child.call) if child.call else None
        children.append(get_dependant(path=child.path or "", call=replacement) if replacement else child)
    return replace(dependant, dependencies=[_replaced(child, overrides) for child in children])


def _first_of_paths(field: ModelField) -> Iterator[str]:
    """Give the names under which pydantic looks into a list: AliasPath("point", 0) reads the first `point`."""
    alias = field.field_info.validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, AliasPath):
            yield str(choice.path[0])
