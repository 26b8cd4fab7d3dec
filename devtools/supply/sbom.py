"""The bill of materials of a lock file, in CycloneDX's JSON. The same lock file and `.venv` give the same bytes."""

import tomllib
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from devtools.supply.licenses import Policy, find_license, find_metadata, read_policy
from devtools.supply.lock import LOCKS, Package, read_lock

FOLDER = Path(".dev/sbom")


def write_sboms(project: Path) -> list[Path]:
    """Write the bill of each lock file into `.dev/sbom`; return where they are."""
    policy = read_policy(project)
    folder = project / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{Path(lock).stem}.cdx.json" for lock in LOCKS]
    for lock, path in zip(LOCKS, paths, strict=True):
        bom = make_bom(project, project / lock, policy)
        path.write_text(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n")
    return paths


def make_bom(project: Path, lock: Path, policy: Policy) -> Bom:
    """Return the bill of a lock file: each package, its files' hashes, its license, and what needs it."""
    root = describe_project(project)
    components = {package: describe(package, policy) for package in read_lock(lock)}
    # Not random, so that the same lock file has the same number; and without a time, for the same reason.
    bom = Bom(components=components.values(), serial_number=uuid5(NAMESPACE_URL, lock.read_text()))
    bom.metadata.timestamp = None  # type: ignore[assignment]  # which the format allows
    bom.metadata.component = root
    bom.metadata.tools.components.add(this_component())
    for needing in (root, *components.values()):
        needed = [component for package, component in components.items() if needing.name in package.needed_by]
        bom.register_dependency(needing, needed)
    return bom


def describe_project(project: Path) -> Component:
    """Return the project itself, of which the bill is."""
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    return Component(
        type=ComponentType.APPLICATION,
        name=told["name"],
        version=told["version"],
        description=told["description"],
        licenses=[LicenseFactory().make_from_string(told["license"])],
        bom_ref=told["name"],
    )


def describe(package: Package, policy: Policy) -> Component:
    """Return a package as CycloneDX has it. Each hash is that of one of its files."""
    told = find_metadata(package)
    url = PackageURL("pypi", name=package.name, version=package.version)
    license_ = find_license(package, policy)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        description=told["Summary"] if told else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.hashes],
        licenses=[LicenseFactory().make_from_string(license_)] if license_ else [],
        properties=[Property(name="python:marker", value=package.marker)] if package.marker else [],
        purl=url,
        bom_ref=url.to_string(),
    )
