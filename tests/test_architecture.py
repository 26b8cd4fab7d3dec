"""The code keeps the measures it was written by."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = sorted(path for path in (ROOT / "app").rglob("*.py") if "versions" not in path.parts)
MODULES = [*APP, *sorted((ROOT / "benchmarks").glob("*.py"))]
MAX_MODULE, MAX_FUNCTION = 250, 30

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def lines(function: Function) -> int:
    """The lines of a function from its `def` to its end, without its docstring."""
    assert function.end_lineno
    first = function.body[0]
    docstring = ast.get_docstring(function, clean=False) and (first.end_lineno or 0) - first.lineno + 1
    return function.end_lineno - function.lineno + 1 - (docstring or 0)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_read_in_one_go(path: Path) -> None:
    """No module over 250 lines, no function over 30."""
    assert len(path.read_text().splitlines()) <= MAX_MODULE
    long = {function.name: lines(function) for function in functions(path) if lines(function) > MAX_FUNCTION}
    assert long == {}


def test_the_measure_measures(tmp_path: Path) -> None:
    """A function of 31 lines is seen, its docstring is not counted."""
    path = tmp_path / "module.py"
    path.write_text('def f():\n    """One\n\n    Two\n    """\n' + "    x = 1\n" * 30)
    assert [lines(function) for function in functions(path)] == [31]


def test_only_telemetry_knows_the_sdk() -> None:
    """The rest, a team's code too, uses OpenTelemetry's API; import-linter cannot tell the SDK from it."""
    foreign = re.compile(r"^\s*(?:from|import) opentelemetry\.sdk", re.MULTILINE)
    outside = [path for path in APP if "telemetry" not in path.parts]
    assert [path for path in outside if foreign.search(path.read_text())] == []
