"""Under which licenses the locked packages are, and whether pyproject.toml allows them."""

import tomllib
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import NamedTuple

from license_expression import ExpressionError, get_spdx_licensing

from devtools.supply.lock import Package, read_locks

SPDX = get_spdx_licensing()
# The classifiers that mean one license. "BSD License" could be several.
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}


class Policy(NamedTuple):
    """`[tool.licenses]` of pyproject.toml."""

    allow: list[str]
    read: dict[str, str]  # what a person read in a package, by the package's name
    exceptions: dict[str, str]  # why a package is used all the same


def read_policy(project: Path) -> Policy:
    """Return what pyproject.toml says of licenses."""
    table = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["licenses"]
    return Policy(table["allow"], table["read"], table["except"])


def find_license(package: Package, policy: Policy) -> str | None:
    """Return a package's license as an SPDX expression, or None if this version is not installed.

    Where neither a person nor the metadata says which, it is `NOASSERTION`, which SPDX has for it.
    """
    told = find_metadata(package)
    if told is None:
        return None
    if package.name in policy.read:
        return policy.read[package.name]
    for key in ("License-Expression", "License"):
        if key in told and _is_expression(told[key]):
            return told[key]
    classified = [CLASSIFIERS[line] for line in told.get_all("Classifier") or [] if line in CLASSIFIERS]
    return " AND ".join(classified) or "NOASSERTION"


def find_metadata(package: Package) -> PackageMetadata | None:
    """Return what a package says of itself, or None if this version is not installed."""
    try:
        told = metadata(package.name)
    except PackageNotFoundError:
        return None
    return told if told["Version"] == package.version else None


def _is_expression(text: str) -> bool:
    try:
        SPDX.parse(text, validate=True)
    except ExpressionError:
        return False
    return True


def is_allowed(expression: str, allow: list[str]) -> bool:
    """Whether one may use what is under this license: all that AND joins, one of what OR joins."""
    return _holds(SPDX.parse(expression), allow)


def _holds(tree: object, allow: list[str]) -> bool:
    if isinstance(tree, SPDX.AND):
        return all(_holds(part, allow) for part in tree.args)
    if isinstance(tree, SPDX.OR):
        return any(_holds(part, allow) for part in tree.args)
    return str(tree) in allow


def check_licenses(project: Path) -> tuple[list[str], str]:
    """Return a line for each fault, and a line on what was looked at."""
    policy = read_policy(project)
    packages = read_locks(project)
    found = {package: find_license(package, policy) for package in packages}
    known = {package.name: expression for package, expression in found.items() if expression}
    refused = {name: expression for name, expression in known.items() if not is_allowed(expression, policy.allow)}
    faults = [
        f"{name} is under {expression}, which pyproject.toml does not allow"
        for name, expression in refused.items()
        if name not in policy.exceptions
    ]
    faults += [f"{name} needs no exception in pyproject.toml" for name in policy.exceptions if name not in refused]
    absent = ", ".join(f"{package.name} {package.version}" for package, expression in found.items() if not expression)
    return faults, f"{len(known)} packages have their licenses checked. Not installed here, so not checked: {absent}"
