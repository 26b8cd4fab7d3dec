"""The application for servers that want a name to import: `uvicorn app.asgi:app`, `fastapi dev`."""

from app.main import create_app

app = create_app()
app.state.tracing.trace_process()
