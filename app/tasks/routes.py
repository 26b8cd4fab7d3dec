"""The tasks over HTTP: each route reads as its line of the contract."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.tasks.models import TaskCompletion, TaskCreate, TaskPatch, TaskQuery, TaskRead, TaskReplace
from app.tasks.queries import Tasks
from app.web import answers
from app.web.docs import problems
from app.web.etags import NOT_MODIFIED, IfMatch, IfNoneMatch
from app.web.idempotency import IdempotencyKey
from app.web.params import Id
from app.web.route import ApiRoute

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=ApiRoute)

TASK = TypeAdapter(TaskRead)
TASKS = TypeAdapter(list[TaskRead])
COMPLETE = TaskCompletion()


@router.get("", operation_id="listTasks", response_model=list[TaskRead])
def list_tasks(tasks: Tasks, query: Annotated[TaskQuery, Query()], request: Request) -> Response:
    """List the user's tasks, a page at a time; a `Link` header leads to the next page while there is one."""
    return answers.page(TASKS, tasks.page(query), request)


@router.post("", operation_id="createTask", status_code=201, response_model=TaskRead)
def create_task(tasks: Tasks, body: TaskCreate, key: IdempotencyKey, request: Request) -> Response:
    """Create a task; with an `Idempotency-Key` the request may be sent again, and makes one task."""
    return answers.created(TASK, tasks.create(body, key), request)


@router.get("/{id}", operation_id="getTask", response_model=TaskRead, responses=NOT_MODIFIED)
def get_task(tasks: Tasks, id: Id, known: IfNoneMatch) -> Response:
    """Read a task, or learn that it is still as it was (`If-None-Match`)."""
    return answers.one(TASK, tasks.get(id), known)


@router.put("/{id}", operation_id="replaceTask", response_model=TaskRead, responses=problems(412))
def replace_task(tasks: Tasks, id: Id, body: TaskReplace, versions: IfMatch) -> Response:
    """Replace a task: every field is required, so that nothing is reset by being left out."""
    return answers.one(TASK, tasks.change(id, body.model_dump(), versions))


@router.patch("/{id}", operation_id="updateTask", response_model=TaskRead, responses=problems(412))
def update_task(tasks: Tasks, id: Id, body: TaskPatch, versions: IfMatch) -> Response:
    """Change any part of a task; `null` clears the description, `{}` changes nothing."""
    return answers.one(TASK, tasks.change(id, body.model_dump(exclude_unset=True), versions))


@router.patch("/{id}/complete", operation_id="completeTask", response_model=TaskRead, responses=problems(412))
def complete_task(tasks: Tasks, id: Id, versions: IfMatch, body: TaskCompletion = COMPLETE) -> Response:
    """Complete a task, or reopen it with `{"completed": false}`; a retry never flips it back."""
    return answers.one(TASK, tasks.change(id, body.model_dump(), versions))


@router.delete("/{id}", operation_id="deleteTask", status_code=204, responses=problems(412))
def delete_task(tasks: Tasks, id: Id, versions: IfMatch) -> Response:
    """Delete a task."""
    tasks.delete(id, versions)
    return Response(status_code=204)
