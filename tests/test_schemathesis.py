"""The application against its own document: requests that nobody thought of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT
from tests.support import Api, make_token

SECONDS = 100
UNSAID = "positive_data_acceptance"  # blank titles, control characters and cursors are refused by rules no schema says


@pytest.mark.slow
def test_the_application_keeps_its_word(shared_api: Api, tmp_path: Path) -> None:
    """No status, content type, schema or Allow header that is not documented, and no data taken that is not."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{shared_api.url}/openapi.json"]
    options = [
        "--checks=all",
        f"--exclude-checks={UNSAID}",
        f"--max-time={SECONDS}",
        "--seed=7",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
    ]
    token = ["--header", f"Authorization: Bearer {make_token('schemathesis')}"]
    run = subprocess.run(
        [*command, *options, *token],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=SECONDS * 2,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.unsaid"},
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
