"""What the tests of tasks do over and over."""

from typing import Any

import httpx

TASKS = "/api/tasks"
Json = dict[str, Any]


def post_task(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post(TASKS, json={"title": "a task"} | fields)


def create_task(client: httpx.Client, **fields: Any) -> Json:
    response = post_task(client, **fields)
    assert response.status_code == 201
    task: Json = response.json()
    return task
