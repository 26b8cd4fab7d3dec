"""What the tests of tasks do over and over."""

from typing import Any

import httpx

TASKS = "/api/tasks"
Json = dict[str, Any]


def create(client: httpx.Client, **fields: Any) -> Json:
    response = client.post(TASKS, json={"title": "a task"} | fields)
    assert response.status_code == 201
    task: Json = response.json()
    return task
