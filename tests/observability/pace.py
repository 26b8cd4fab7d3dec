"""Rules and queries in seconds where they say minutes: an hour is a minute, and a day 24."""

import re

MINUTES = {"m": 1, "h": 60, "d": 1440}
DURATION = re.compile(r"(?<![\w.])(\d+)([mhd])(?!\w)")
FOR = re.compile(r"for: (\d+)m")
INTERVAL = re.compile(r"interval: \d+s")
STEP = re.compile(r"(?<=:)30s(?=\])")  # of a subquery: as often as rules are evaluated
# Numbers that are seconds: factors of a rate, and bounds of what is measured in seconds.
SECONDS = re.compile(
    r"((?<=\* )|(?:time\(\) - [\w{}=\"~/. ]+|(?:_seconds|_duration|_age)(?:\{[^}]*\})?\)*) [<>]=? )"
    r"(60|[1-9]\d*00)(?![\w.])"
)
# The event loop is looked at ten times a second: of a window's fifty looks the worst hundredth is a single one.
FEW = re.compile(r"histogram_quantile\(0\.99(?=, [^\n]*event_loop_lag)")


def in_seconds(text: str) -> str:
    """Return rules or a query at the pace of a test.

    What an alert waits for is a little longer than its window, since one bad scrape of a few must not suffice, as one
    of a hundred does not.
    """
    text = FOR.sub(lambda found: f"for: {round(int(found[1]) * 1200 + 500)}ms", text)
    text = INTERVAL.sub("interval: 500ms", text)
    text = SECONDS.sub(lambda found: found[1] + f"{int(found[2]) / 60:g}", text)
    text = FEW.sub("histogram_quantile(0.9", text)
    text = STEP.sub("500ms", text)
    return DURATION.sub(lambda found: f"{int(found[1]) * MINUTES[found[2]]}s", text)
