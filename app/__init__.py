"""An API that can be traced, measured and trusted."""

import os

# The stable semantic conventions. The first instrumentation to be imported reads this. It may be a team's.
# https://opentelemetry.io/docs/specs/semconv/non-normative/http-migration/
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
