"""What the tests of examples do over and over."""

from typing import Any

import httpx

EXAMPLES = "/api/examples"
Json = dict[str, Any]


def post_example(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post(EXAMPLES, json={"title": "an example"} | fields)


def create_example(client: httpx.Client, **fields: Any) -> Json:
    response = post_example(client, **fields)
    assert response.status_code == 201
    example: Json = response.json()
    return example
