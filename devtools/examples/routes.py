"""The examples over HTTP: each route reads as its line of the contract."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.web import answers
from app.web.docs import problems
from app.web.etags import NOT_MODIFIED, IfMatch, IfNoneMatch
from app.web.idempotency import IdempotencyKey
from app.web.params import Id
from app.web.route import ApiRoute
from devtools.examples.models import (
    ExampleCompletion,
    ExampleCreate,
    ExamplePatch,
    ExampleQuery,
    ExampleRead,
    ExampleReplace,
)
from devtools.examples.queries import Examples

router = APIRouter(prefix="/api/examples", tags=["examples"], route_class=ApiRoute)

EXAMPLE = TypeAdapter(ExampleRead)
EXAMPLES = TypeAdapter(list[ExampleRead])
COMPLETE = ExampleCompletion()


@router.get("", operation_id="listExamples", response_model=list[ExampleRead])
def list_examples(examples: Examples, query: Annotated[ExampleQuery, Query()], request: Request) -> Response:
    """List the user's examples, a page at a time; a `Link` header leads to the next page while there is one."""
    return answers.page(EXAMPLES, examples.page(query), request)


@router.post("", operation_id="createExample", status_code=201, response_model=ExampleRead)
def create_example(examples: Examples, body: ExampleCreate, key: IdempotencyKey, request: Request) -> Response:
    """Create an example; with an `Idempotency-Key` the request may be sent again, and makes one example."""
    return answers.created(EXAMPLE, examples.create(body, key), request)


@router.get("/{id}", operation_id="getExample", response_model=ExampleRead, responses=NOT_MODIFIED)
def get_example(examples: Examples, id: Id, known: IfNoneMatch) -> Response:
    """Read an example, or learn that it is still as it was (`If-None-Match`)."""
    return answers.one(EXAMPLE, examples.get(id), known)


@router.put("/{id}", operation_id="replaceExample", response_model=ExampleRead, responses=problems(412))
def replace_example(examples: Examples, id: Id, body: ExampleReplace, versions: IfMatch) -> Response:
    """Replace an example: every field is required, so that nothing is reset by being left out."""
    return answers.one(EXAMPLE, examples.change(id, body.model_dump(), versions))


@router.patch("/{id}", operation_id="updateExample", response_model=ExampleRead, responses=problems(412))
def update_example(examples: Examples, id: Id, body: ExamplePatch, versions: IfMatch) -> Response:
    """Change any part of an example; `null` clears the description, `{}` changes nothing."""
    return answers.one(EXAMPLE, examples.change(id, body.model_dump(exclude_unset=True), versions))


@router.patch("/{id}/complete", operation_id="completeExample", response_model=ExampleRead, responses=problems(412))
def complete_example(examples: Examples, id: Id, versions: IfMatch, body: ExampleCompletion = COMPLETE) -> Response:
    """Complete an example, or reopen it with `{"completed": false}`; a retry never flips it back."""
    return answers.one(EXAMPLE, examples.change(id, body.model_dump(), versions))


@router.delete("/{id}", operation_id="deleteExample", status_code=204, responses=problems(412))
def delete_example(examples: Examples, id: Id, versions: IfMatch) -> Response:
    """Delete an example."""
    examples.delete(id, versions)
    return Response(status_code=204)
