"""The tasks over HTTP: each route reads as its line of the contract."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.tasks.models import TaskCompletion, TaskCreate, TaskPatch, TaskQuery, TaskRead, TaskReplace
from app.tasks.queries import Found, Tasks
from app.web.docs import problems
from app.web.etags import NOT_MODIFIED, IfMatch, IfNoneMatch, etag, not_modified
from app.web.idempotency import IdempotencyKey
from app.web.paging import next_link, path_of
from app.web.params import Id
from app.web.route import ApiRoute, json

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=ApiRoute)

TASK = TypeAdapter(TaskRead)
PAGE = TypeAdapter(list[TaskRead])
COMPLETE = TaskCompletion()


@router.get("", operation_id="listTasks", response_model=list[TaskRead])
def list_tasks(tasks: Tasks, query: Annotated[TaskQuery, Query()], request: Request) -> Response:
    """List the user's tasks, a page at a time; a `Link` header leads to the next page while there is one."""
    page, last_id = tasks.page(query)
    return json(PAGE.dump_json(page), headers=next_link(request, last_id))


@router.post("", operation_id="createTask", status_code=201, response_model=TaskRead)
def create_task(tasks: Tasks, body: TaskCreate, key: IdempotencyKey, request: Request) -> Response:
    """Create a task; with an `Idempotency-Key` the request may be sent again, and makes one task."""
    made = tasks.create(body, key)
    headers = {"Location": f"{path_of(request)}/{made.task['id']}", "ETag": etag(made.version)}
    return json(TASK.dump_json(made.task), 201, headers | ({"Idempotency-Replayed": "true"} if made.replayed else {}))


@router.get("/{id}", operation_id="getTask", response_model=TaskRead, responses=NOT_MODIFIED)
def get_task(tasks: Tasks, id: Id, known: IfNoneMatch) -> Response:
    """Read a task, or learn that it is still as it was (`If-None-Match`)."""
    read = tasks.get(id)
    return not_modified(read.version) if known.holds(read.version) else answer(read)


@router.put("/{id}", operation_id="replaceTask", response_model=TaskRead, responses=problems(412))
def replace_task(tasks: Tasks, id: Id, body: TaskReplace, versions: IfMatch) -> Response:
    """Replace a task: every field is required, so that nothing is reset by being left out."""
    return answer(tasks.change(id, body.model_dump(), versions))


@router.patch("/{id}", operation_id="updateTask", response_model=TaskRead, responses=problems(412))
def update_task(tasks: Tasks, id: Id, body: TaskPatch, versions: IfMatch) -> Response:
    """Change any part of a task; `null` clears the description, `{}` changes nothing."""
    return answer(tasks.change(id, body.model_dump(exclude_unset=True), versions))


@router.patch("/{id}/complete", operation_id="completeTask", response_model=TaskRead, responses=problems(412))
def complete_task(tasks: Tasks, id: Id, versions: IfMatch, body: TaskCompletion = COMPLETE) -> Response:
    """Complete a task, or reopen it with `{"completed": false}`; a retry never flips it back."""
    return answer(tasks.change(id, body.model_dump(), versions))


@router.delete("/{id}", operation_id="deleteTask", status_code=204, responses=problems(412))
def delete_task(tasks: Tasks, id: Id, versions: IfMatch) -> Response:
    """Delete a task."""
    tasks.delete(id, versions)
    return Response(status_code=204)


def answer(read: Found) -> Response:
    """Return a task with the tag of its version."""
    return json(TASK.dump_json(read.task), headers={"ETag": etag(read.version)})
