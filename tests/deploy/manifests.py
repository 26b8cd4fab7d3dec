"""The manifests as they are written. Each mapping knows its file and its line."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("local", "neon", "pgbouncer", "production")
WORKLOADS = ("Deployment", "Job")


class Mapping(dict[str, Any]):
    """A mapping, and where it begins: `file:line`."""

    place = ""


class Loader(yaml.CSafeLoader):  # libyaml's: ten times as fast
    """Makes each mapping a Mapping."""

    def construct_place(self, node: yaml.MappingNode) -> Mapping:
        values: dict[Any, Any] = self.construct_mapping(node, deep=True)
        mapping = Mapping(values)
        mapping.place = f"{node.start_mark.name}:{node.start_mark.line + 1}"
        return mapping


Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_place)


@cache
def load(path: Path) -> list[Mapping]:
    with path.open() as file:
        return list(yaml.load_all(file, Loader))


class Variable(NamedTuple):
    """A line of a settings.env."""

    name: str
    value: str
    place: str


class Kustomization:
    """What a folder builds, with what it builds upon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.body,) = load(folder / "kustomization.yaml")
        paths = [(folder / name).resolve() for name in self.body.get("resources", ())]
        self.bases = [Kustomization(path) for path in paths if path.is_dir()]
        self.files = [path for path in paths if path.is_file()]
        self.patches = [folder / patch["path"] for patch in self.body.get("patches", ())]

    def parts(self) -> Iterator["Kustomization"]:
        """Itself and all that it builds upon, the base first."""
        for base in self.bases:
            yield from base.parts()
        yield self

    def objects(self) -> Iterator[Mapping]:
        """What is written here, without patches."""
        for path in self.files:
            yield from load(path)

    def changes(self) -> Iterator[Mapping]:
        """The patches that are written here."""
        for path in self.patches:
            yield from load(path)

    def generated(self, source: str) -> Iterator[Path]:
        """The files of generated ConfigMaps, of the kind `envs` or `files`."""
        for generator in self.body.get("configMapGenerator", ()):
            for name in generator.get(source, ()):
                yield self.folder / name.rpartition("=")[2]

    def variables(self) -> Iterator[Variable]:
        """What its settings.env says."""
        for path in self.generated("envs"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if line and not line.startswith("#"):
                    name, _, value = line.partition("=")
                    yield Variable(name, value, f"{path}:{number}")


def containers(manifest: Mapping) -> list[Mapping]:
    """The containers of a workload or of a patch of one."""
    if manifest["kind"] not in WORKLOADS:
        return []
    pod = manifest["spec"].get("template", {}).get("spec", {})
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def labels(manifest: Mapping) -> dict[str, str]:
    """The labels of a workload's pods."""
    found: dict[str, str] = manifest["spec"]["template"]["metadata"]["labels"]
    return found


def selects(selector: dict[str, str], chosen: dict[str, str]) -> bool:
    """Whether a selector chooses what has these labels."""
    return selector.items() <= chosen.items()
