"""The OpenAPI document: a contract that clients are generated from."""

from typing import Any

import httpx
import pytest
import schemathesis

from app.main import create_app
from devtools.examples.routes import router as examples
from tests.support import Api

OPERATIONS = {
    "listExamples": ("GET", "/api/examples"),
    "createExample": ("POST", "/api/examples"),
    "getExample": ("GET", "/api/examples/{id}"),
    "replaceExample": ("PUT", "/api/examples/{id}"),
    "updateExample": ("PATCH", "/api/examples/{id}"),
    "completeExample": ("PATCH", "/api/examples/{id}/complete"),
    "deleteExample": ("DELETE", "/api/examples/{id}"),
}


@pytest.fixture(scope="module")
def document(stranger: httpx.Client) -> Any:
    return stranger.get("/openapi.json").json()


def test_it_is_valid(shared_api: Api, document: Any) -> None:
    """OpenAPI 3.1, by the standard's own schema, open to anyone.

    Without a team's routes: FastAPI describes a stream of events by a word that only OpenAPI 3.2 has.
    """
    assert document["openapi"].startswith("3.1.")
    own = create_app(shared_api.settings, entities=(examples,)).openapi()
    schemathesis.openapi.from_dict(own).validate()


def test_operations_have_stable_names(document: Any) -> None:
    """Generated clients name their methods after them; no two are alike."""
    named = [
        (operation["operationId"], (method.upper(), path))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(dict(named)) == len(named)
    assert {name: call for name, call in named if call[1].startswith("/api/examples")} == OPERATIONS


def test_a_patch_has_no_defaults(document: Any) -> None:
    """A client that filled in what its user left out would reset it."""
    properties = document["components"]["schemas"]["ExamplePatch"]["properties"]
    assert set(properties) == {"title", "description", "completed"}
    assert not any("default" in schema for schema in properties.values())


def test_read_only_fields_are_not_asked_for(document: Any) -> None:
    """They may be sent back, and nobody is invited to."""
    schemas = document["components"]["schemas"]
    for name in ("ExampleCreate", "ExampleReplace", "ExamplePatch"):
        assert set(schemas[name]["properties"]) == {"title", "description", "completed"}
        assert schemas[name]["additionalProperties"] is False
    assert schemas["ExampleReplace"]["required"] == ["title", "description", "completed"]
    assert schemas["ExampleCreate"]["required"] == ["title"]


def test_parameters_say_what_they_take(document: Any) -> None:
    """Each with its bounds, and none with a null, which no query can hold."""
    parameters = {p["name"]: p["schema"] for p in document["paths"]["/api/examples"]["get"]["parameters"]}
    assert set(parameters) == {"limit", "cursor", "completed", "q", "order"}
    assert (parameters["limit"]["minimum"], parameters["limit"]["maximum"], parameters["limit"]["default"]) == (
        1,
        100,
        50,
    )
    assert (parameters["q"]["minLength"], parameters["q"]["maxLength"]) == (1, 200)
    assert parameters["order"]["enum"] == ["newest", "oldest"]
    assert {name: schema["type"] for name, schema in parameters.items()} == {
        "limit": "integer",
        "cursor": "string",
        "completed": "boolean",
        "q": "string",
        "order": "string",
    }


def test_the_page_that_shows_it_is_served(stranger: httpx.Client) -> None:
    """/docs is for people."""
    response = stranger.get("/docs")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
