"""What Schemathesis must not hold against the application: it loads this file."""

from typing import Any

import schemathesis

TRIMMED = "violates `maxLength` at /properties/title"
MAX_TITLE = 200


@schemathesis.hook
def filter_failure(_context: schemathesis.HookContext, failure: Any, case: Any, _response: Any) -> bool:
    """Pass over a title that is too long only with its blanks: it is trimmed first, which no schema can say."""
    too_long = failure.code == "ST201" and TRIMMED in failure.message
    return not too_long or len(case.body["title"].strip()) > MAX_TITLE
