"""`make sbom`: every package of a lock file, in CycloneDX's words."""

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from devtools.supply.sbom import write_sboms
from tests.process import ROOT

SCHEMAS = files("cyclonedx.schema._res")
ENTRY = re.compile(r"^([\w.-]+)==(\S+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def read_schema(uri: str) -> Any:
    """The schema that the library brings, by the end of its address: nothing is asked of the network."""
    name = uri.rpartition("/")[2].removesuffix(".schema.json").removesuffix(".SNAPSHOT")
    return json.loads(SCHEMAS.joinpath(f"{name}.SNAPSHOT.schema.json").read_text())


@pytest.fixture
def boms(project: Path) -> list[dict[str, Any]]:
    """The bills of requirements.lock and of requirements-dev.lock."""
    return [json.loads(path.read_text()) for path in write_sboms(project)]


def test_each_package_of_both_lock_files_is_in_it(boms: list[dict[str, Any]]) -> None:
    """With its version and each of its hashes."""
    for bom, lock in zip(boms, ("requirements.lock", "requirements-dev.lock"), strict=True):
        locked = {
            (name, version): set(re.findall(r"sha256:(\w{64})", rest))
            for name, version, rest in ENTRY.findall((ROOT / lock).read_text())
        }
        found = {
            (each["name"], each["version"]): {one["content"] for one in each["hashes"] if one["alg"] == "SHA-256"}
            for each in bom["components"]
        }
        assert found == locked


@pytest.mark.slow
def test_it_is_valid(boms: list[dict[str, Any]]) -> None:
    """By the schema of the version that it names."""
    for bom in boms:
        schema = read_schema(bom["$schema"])
        assert bom["specVersion"] == "1.6"
        jsonschema_rs.validator_for(schema, retriever=read_schema).validate(bom)
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validator_for(schema, retriever=read_schema).validate(bom | {"components": [{"name": "x"}]})


@pytest.mark.slow
def test_it_says_what_needs_what(boms: list[dict[str, Any]]) -> None:
    """The project needs what pyproject.toml names, and FastAPI needs Starlette."""
    bom = boms[0]
    names = {each["bom-ref"]: each["name"] for each in bom["components"]}
    needs = {each["ref"]: {names[ref] for ref in each.get("dependsOn", ())} for each in bom["dependencies"]}
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert needs[told["name"]] == {re.split(r"[\[<>=; ]", line)[0] for line in told["dependencies"]}
    (fastapi,) = (ref for ref, name in names.items() if name == "fastapi")
    assert "starlette" in needs[fastapi]


@pytest.mark.slow
def test_it_has_licenses(boms: list[dict[str, Any]]) -> None:
    """Of every package that is installed, in SPDX's words; those that are not are for other platforms."""
    without = [each for each in boms[1]["components"] if not each.get("licenses")]
    assert all(each["properties"][0]["name"] == "python:marker" for each in without)
    (one,) = (each for each in boms[0]["components"] if each["name"] == "cryptography")
    assert one["licenses"] == [{"expression": "Apache-2.0 OR BSD-3-Clause"}]


@pytest.mark.slow
def test_it_is_the_same_again(project: Path) -> None:
    """No time and no random number is in it, so that a change of it is a change of the packages."""
    before = [path.read_bytes() for path in write_sboms(project)]
    assert [path.read_bytes() for path in write_sboms(project)] == before
