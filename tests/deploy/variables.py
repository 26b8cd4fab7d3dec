"""What the manifests say of settings: each variable is one of ours, its value parses, and no secret is written out."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_settings import PydanticBaseSettingsSource as Source

from app.settings import Settings, refusal
from tests.deploy.manifests import ROOT, Kustomization, Mapping, Variable, containers

OURS = ("api", "migrate")
NAMES = {name.upper() for name in Settings.model_fields}
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
EXAMPLES = {  # for what a Secret has
    "DATABASE_URL": "postgresql://tasks@postgresql/tasks",
    "DATABASE_MIGRATION_URL": "postgresql://tasks@postgresql/tasks",
    "BETTER_AUTH_SECRET": "s" * 32,
    "RATE_LIMIT_STORAGE_URI": "redis://redis:6379/0",
}
DOCKERFILE = dict(re.findall(r"^(?:ENV|   ) ([A-Z]+)=([\w.]+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
OF_IMAGE = {name: value for name, value in DOCKERFILE.items() if name in NAMES}


class Given(Settings):
    """The settings by what is given, without the environment of the test."""

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Source, ...]:
        return (sources["init_settings"],)


def own(manifest: Mapping) -> list[Mapping]:
    """Our containers of a workload, or of a patch of one."""
    return [container for container in containers(manifest) if container["name"] in OURS]


def check_variables(manifest: Mapping) -> Iterator[str]:
    """Find variables of our containers that are none, or that nobody can look at."""
    for container in own(manifest):
        for variable in container.get("env", ()):
            yield from check_variable(variable["name"], variable.get("value"), variable.place)
            key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key", variable["name"])
            if key != variable["name"]:
                yield f"{variable.place}: {variable['name']} has another key in the Secret, {key}"
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield f"{source.place}: name each variable of a Secret, so that it can be looked at"


def check_variable(name: str, value: str | None, place: str) -> Iterator[str]:
    """Find a variable that is none, or a secret whose value is written out."""
    if name not in NAMES:
        yield f"{place}: {name} is no setting of this application"
    elif value is not None and name in SECRETS:
        yield f"{place}: {name} is a secret: take it from a Secret by secretKeyRef"
    elif value is not None:
        yield from (f"{place}: {line}" for line in wrong({name: value}) if line.startswith(f"{name}: "))


def check_reach(variable: Variable) -> Iterator[str]:
    """Find a variable of a settings.env that only the migration reads: the Job does not take the file."""
    if variable.name.startswith("MIGRATE_"):
        yield f"{variable.place}: {variable.name} does not reach the migration: write it into base/migration.yaml"


def wrong(variables: dict[str, str]) -> list[str]:
    """What the application says of these variables, and of no others, a line for each fault."""
    given = {name.lower(): value for name, value in variables.items() if value}  # an empty one counts as none
    try:
        return Given.model_validate(given).missing()
    except ValidationError as error:
        return str(refusal(error)).splitlines()


def values(overlay: Kustomization) -> dict[str, Variable]:
    """The variables of the API, with an example of each secret."""
    found = {name: Variable(name, value, "Dockerfile:1") for name, value in OF_IMAGE.items()}
    for part in overlay.parts():
        found |= {variable.name: variable for variable in part.variables()}
        for manifest in [*part.objects(), *part.changes()]:
            served = own(manifest) if manifest["kind"] == "Deployment" else []
            for variable in (variable for container in served for variable in container.get("env", ())):
                given = EXAMPLES.get(variable["name"], "") if "valueFrom" in variable else variable["value"]
                found[variable["name"]] = Variable(variable["name"], given, variable.place)
    return found


def check_together(overlay: Kustomization) -> Iterator[str]:
    """Find what the application would refuse at its start."""
    found = values(overlay)
    known = {name: variable.value for name, variable in found.items() if name in NAMES}
    for line in wrong(known):
        name = line.split()[0].rstrip(":")
        yield f"{found[name].place if name in found else overlay.body.place}: {line}"
