"""Copies of the project, as it is or with a team's own entity."""

import shutil
from pathlib import Path

from tests.process import ROOT


def copy_project(folder: Path) -> Path:
    """Copy the application and the settings of Alembic into `folder`. Return the folder."""
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def copy_project_with(folder: Path, name: str, module: str) -> Path:
    """Copy the application into `folder`, with `app/<name>.py` as the `router` of its one entity. Return the folder."""
    copy_project(folder)
    (folder / "app" / f"{name}.py").write_text(module, encoding="utf-8")
    main = folder / "app" / "main.py"
    with main.open("a", encoding="utf-8") as file:
        file.write(f"\n\nfrom app.{name} import router\n\nENTITIES = (router,)\n")
    return folder
