"""The application with the page around it, as `make dev` serves it."""

import logging
import time
from functools import partial
from threading import Event

from app.auth import development
from app.main import create_app
from app.settings import Settings
from app.telemetry.logs import ConsoleFormatter
from app.web.api import Api
from devtools.page.now import Now
from devtools.page.server import ROOT, Page
from devtools.page.store import Lines, Store


def create_with_page(settings: Settings, draining: Event) -> Api:
    """Return the application, whose terminal's lines lead to the page. For a process of one application.

    Raises: what create_app raises.
    """
    store = Store()
    api = create_app(settings, draining, span_processors=(store,))
    api.swagger_ui_parameters = {"persistAuthorization": True}  # so that the page can sign in there
    facts = {"title": api.title, "replay": "", "slow_ms": settings.slow_query_ms, "started": time.time() * 1000}
    make_token = partial(development.token, settings, minutes=24 * 60)
    api.outer = Page(api.outer, store, Now(api.state.metrics and api.state.metrics.registry), facts, make_token)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, ConsoleFormatter):
            handler.formatter.lead = f"http://{settings.host}:{settings.port}{ROOT}/trace/"
    logging.getLogger().addHandler(Lines(store))
    return api
