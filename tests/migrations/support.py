"""What the tests of migrations share."""

from typing import Any

from app.settings import Settings
from tests.support import SECRET


def settings(url: str, **others: Any) -> Settings:
    return Settings(database_url=url, better_auth_secret=SECRET, **others)
