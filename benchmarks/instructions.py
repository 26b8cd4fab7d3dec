"""How many instructions a request takes in each mode, by callgrind: hardly any noise, so a small change shows.

They are no time: a cache miss counts as one, and the kernel not at all. Their ratios are what a gate can compare on
machines that are busy, or of another kind (https://valgrind.org/docs/manual/cl-manual.html).
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from benchmarks.calls import Calls
from benchmarks.rounds import Show
from benchmarks.servers import OTHER_CORES, Mode, environment_of, run_process
from benchmarks.targets import MEASURED

REQUESTS = 200  # of each call
LIMIT_S = 600.0
TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class NoValgrind(RuntimeError):
    """Nothing can be counted; the message is one line."""


def count_instructions(
    modes: Mapping[str, Mode], databases: Mapping[str, str], receiver: str, calls: Mapping[str, Calls], show: Show
) -> dict[str, dict[str, float]]:
    """Return the thousands of instructions a request in each mode of each call of MEASURED.

    Raises:
        NoValgrind: it is not installed.
        RuntimeError: an answer was no success.
    """
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise NoValgrind("valgrind is not installed: instructions cannot be counted")
    found = {}
    for name, mode in modes.items():
        show(f"counting instructions: {name}")
        environment = environment_of(mode, databases, receiver) | {"OTEL_BSP_SCHEDULE_DELAY": "1000"}
        found[name] = _count(valgrind, mode, environment, calls[mode.database])
    return found


def _count(valgrind: str, mode: Mode, environment: Mapping[str, str], calls: Calls) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file, dumps = Path(folder, "requests.json"), Path(folder, "dump")
        requests = {call: [r.decode() for r in islice(calls.requests(call), REQUESTS)] for call in MEASURED}
        file.write_text(json.dumps(requests))
        program = [sys.executable, "-m", "benchmarks.counted", str(file), *mode.command]
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={dumps}", f"--log-file={dumps}.log"]
        with run_process([valgrind, *options, *program], environment, OTHER_CORES) as child:
            if child.wait(LIMIT_S):
                raise RuntimeError(f"{mode.command} ended with {child.returncode} under valgrind")
        totals = [TOTALS.findall(Path(f"{dumps}.{number}").read_text()) for number in range(1, len(MEASURED) + 1)]
    return {call: int(total) / REQUESTS / 1000 for call, (total,) in zip(MEASURED, totals, strict=True)}
