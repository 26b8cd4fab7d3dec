"""The image holds what production runs, and nothing else."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[3]
CONTENT = {"app", "pyproject.toml", "requirements.lock"}


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def imported(path: Path) -> Iterator[str]:
    """The packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def normal(name: str) -> str:
    """As PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_docker_is_sent_the_application_only() -> None:
    """What it may see is named file by file: no development code and no secret of the checkout can be among it."""
    everything, *others = lines(".dockerignore")
    assert everything == "*"
    assert {rule for rule in others if rule.startswith("!")} == {f"!{name}" for name in CONTENT}


def test_the_dockerfile_copies_the_application_only() -> None:
    """Each COPY from the checkout names one of these; nothing comes by ADD or a mount, but what pip has fetched."""
    instructions = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    copies = re.findall(r"^COPY (?!--from=)(.+) \S+$", instructions, re.MULTILINE)
    assert {source for sources in copies for source in sources.split()} == CONTENT
    foreign = re.findall(r"^ADD .*|--mount\S+", instructions, re.MULTILINE)
    assert foreign == ["--mount=type=cache,target=/root/.cache/pip"]


def test_the_application_needs_what_the_image_installs() -> None:
    """It imports the standard library, itself and what requirements.lock names: no devtools, and nothing of theirs."""
    locked = {normal(line.partition("==")[0]) for line in lines("requirements.lock") if "==" in line}
    distributions = packages_distributions()
    foreign = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in (ROOT / "app").rglob("*.py")
        for package in imported(path)
        if package not in {"app", *sys.stdlib_module_names}
        and not any(normal(name) in locked for name in distributions.get(package, ()))
    }
    assert foreign == set()
