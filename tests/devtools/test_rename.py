"""`make rename` gives a copy its own name, everywhere and once, or says plainly why not."""

import subprocess
from pathlib import Path

import pytest

from devtools.rename import RenameError, rename
from tests.devtools.template import ENVIRONMENT, NAME, commit, copy_template, mentions, run, texts

# Not written out: a name that stands in the files is refused.
NEW = "-".join(("parcel", "tracking", "desk", "api"))
NEWER = "-".join(("lost", "and", "found"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of three files, in no repository."""
    (tmp_path / "app").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "wood-api"\n')
    (tmp_path / "app/main.py").write_text('TITLE = "Wood API"\nMETRIC = "wood_api_build"\r\nSOFTWOOD = "wood"\n')
    (tmp_path / "CHANGELOG.md").write_text("wood-api was made.\n")
    return tmp_path


def test_every_spelling_follows(project: Path) -> None:
    """Package, Python and title; line ends stay, and so do other words."""
    rename(project, NEWER)
    assert (project / "app/main.py").read_bytes() == (
        b'TITLE = "Lost And Found"\nMETRIC = "lost_and_found_build"\r\nSOFTWOOD = "wood"\n'
    )
    assert mentions(project, "wood-api") == []


def test_it_says_what_it_did(project: Path) -> None:
    """How many files, which spellings, what was left."""
    done = rename(project, NEWER)
    assert done.startswith("2 files changed:\n  wood-api -> lost-and-found\n")
    assert "CHANGELOG.md and template.toml still name the template" in done


def test_the_changelog_is_left(project: Path) -> None:
    """It tells of the template."""
    rename(project, NEWER)
    assert (project / "CHANGELOG.md").read_text() == "wood-api was made.\n"


def test_pictures_are_left(project: Path) -> None:
    """A file with a NUL is no text."""
    (project / "a.png").write_bytes(b"\0wood-api")
    rename(project, NEWER)
    assert (project / "a.png").read_bytes() == b"\0wood-api"


def test_what_tools_put_there_is_left(project: Path) -> None:
    """Without git, the environment, the caches and .env are known by their names."""
    others = [".venv/lib/a.py", ".mypy_cache/a", "app/__pycache__/a", ".env", ".git/config", ".dev/postgres/log"]
    for name in others:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("wood-api")
    rename(project, NEWER)
    assert [(project / name).read_text() for name in others] == ["wood-api"] * len(others)


def test_it_can_be_renamed_again(project: Path) -> None:
    """The present name is the one in pyproject.toml."""
    before = texts(project)
    rename(project, NEWER)
    rename(project, "wood-api")
    assert texts(project) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "wine",
        "Wine-api",
        "wine_api",
        "1st-api",
        "-api",
        "wine-",
        "wine--api",
        "wein-übersicht",
        "a b",
        "a-b\n",
        "a" * 29 + "-b",
    ],
)
def test_a_name_that_cannot_be_used_is_refused(project: Path, name: str) -> None:
    """It has to serve as a package, a metric, a label and a uid."""
    with pytest.raises(RenameError, match="two or more words of a-z and 0-9"):
        rename(project, name)


def test_the_present_name_is_refused(project: Path) -> None:
    """Nothing would change."""
    with pytest.raises(RenameError, match="wood-api is the name of the project already"):
        rename(project, "wood-api")


def test_a_present_name_of_one_word_is_refused(project: Path) -> None:
    """It would be found where it means something else."""
    (project / "pyproject.toml").write_text('[project]\nname = "wood"\n')
    with pytest.raises(RenameError, match="is a single word"):
        rename(project, NEWER)


def test_a_name_that_stands_for_something_else_is_refused(project: Path) -> None:
    """Afterwards nobody could tell the two apart. Examples of the command do not count, nor does the present name."""
    (project / "README.md").write_text("make rename NAME=lost-and-found; wood-api-v2")
    (project / "more.py").write_text("key-set")
    (project / "other.py").write_text("import key_set")
    before = texts(project)
    with pytest.raises(RenameError, match=r" already, for something else$") as refusal:
        rename(project, "key-set")
    assert all(place in str(refusal.value) for place in ("key-set stands in more.py", "key_set stands in other.py"))
    assert texts(project) == before
    (project / "more.py").unlink()
    rename(project, NEWER)


def test_changes_that_are_not_committed_are_not_mixed_in(project: Path) -> None:
    """In a repository the rename can be looked at, and undone, by itself."""
    commit(project)
    (project / "new.py").write_text("wood-api")
    with pytest.raises(RenameError, match="commit or stash them first"):
        rename(project, NEWER)
    commit(project)
    assert "`git checkout .` undoes it" in rename(project, NEWER)
    run(project, "git", "checkout", ".")
    assert (project / "new.py").read_text() == "wood-api"


def test_in_a_repository_ignored_files_are_left(project: Path) -> None:
    """What git does not keep is the developer's own."""
    (project / ".gitignore").write_text("mine\n")
    commit(project)
    (project / "mine").write_text("wood-api")
    rename(project, NEWER)
    assert (project / "mine").read_text() == "wood-api"


def test_a_repository_around_the_project_does_not_count(project: Path) -> None:
    """A copy that was unpacked inside of one, which does not keep it, is renamed as one without git."""
    unpacked = project / "unpacked"
    (project / ".gitignore").write_text("unpacked\n")
    commit(project)
    unpacked.mkdir()
    (unpacked / "pyproject.toml").write_text('[project]\nname = "wood-api"\n')
    rename(unpacked, NEWER)
    assert "lost-and-found" in (unpacked / "pyproject.toml").read_text()
    assert "wood-api" in (project / "pyproject.toml").read_text()


def test_nothing_of_the_old_name_is_left(tmp_path: Path) -> None:
    """`make rename` in a copy of this project: no file has the old name, and there is a way back."""
    copy = copy_template(tmp_path / "a copy")
    before = texts(copy)
    done = run(copy, "make", "rename", f"NAME={NEW}")
    assert f"{NAME} -> {NEW}" in done
    assert mentions(copy, NAME) == []
    run(copy, "make", "rename", f"NAME={NAME}")
    assert texts(copy) == before


def test_make_says_why_not(tmp_path: Path) -> None:
    """Without a name, in one line and with exit code 1 of its own."""
    copy = copy_template(tmp_path / "a copy")
    done = subprocess.run(["make", "rename"], cwd=copy, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a name is two or more words of a-z and 0-9 with hyphens between them")
    assert done.stderr.splitlines()[0].endswith("make rename NAME=orders-api. This one is ''")
    assert texts(copy) == texts(copy_template(tmp_path / "another"))
