"""All cases, by theme."""

from types import ModuleType

from tests.fastapi import (
    application,
    background,
    bodies,
    dependencies,
    differences,
    errors,
    forms,
    headers,
    nested,
    paths,
    queries,
    raw,
    responses,
    security,
    streams,
    strict,
    yields,
)
from tests.fastapi.case import Case

THEMES: list[ModuleType] = [
    paths,
    queries,
    headers,
    bodies,
    raw,
    forms,
    dependencies,
    yields,
    security,
    responses,
    streams,
    background,
    errors,
    nested,
    strict,
    differences,
]
CASES: list[Case] = [case for theme in (*THEMES, application) for case in theme.CASES]
