"""The task API: each route reads as its line of the contract."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.tasks.models import TaskCompletion, TaskCreate, TaskPatch, TaskQuery, TaskRead, TaskReplace
from app.tasks.queries import Tasks
from app.web.paging import next_link
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
    link = {} if last_id is None else {"Link": next_link(request, last_id)}
    return json(PAGE.dump_json(page), headers=link)


@router.post("", operation_id="createTask", status_code=201, response_model=TaskRead)
def create_task(tasks: Tasks, body: TaskCreate) -> Response:
    """Create a task."""
    task = tasks.create(body)
    return json(TASK.dump_json(task), 201, {"Location": f"{router.prefix}/{task['id']}"})


@router.get("/{id}", operation_id="getTask", response_model=TaskRead)
def get_task(tasks: Tasks, id: Id) -> Response:
    """Read a task."""
    return json(TASK.dump_json(tasks.get(id)))


@router.put("/{id}", operation_id="replaceTask", response_model=TaskRead)
def replace_task(tasks: Tasks, id: Id, body: TaskReplace) -> Response:
    """Replace a task: every field is required, so that nothing is reset by being left out."""
    return json(TASK.dump_json(tasks.change(id, body.model_dump())))


@router.patch("/{id}", operation_id="updateTask", response_model=TaskRead)
def update_task(tasks: Tasks, id: Id, body: TaskPatch) -> Response:
    """Change any part of a task; `null` clears the description, `{}` changes nothing."""
    return json(TASK.dump_json(tasks.change(id, body.model_dump(exclude_unset=True))))


@router.patch("/{id}/complete", operation_id="completeTask", response_model=TaskRead)
def complete_task(tasks: Tasks, id: Id, body: TaskCompletion = COMPLETE) -> Response:
    """Complete a task, or reopen it with `{"completed": false}`; a retry never flips it back."""
    return json(TASK.dump_json(tasks.change(id, body.model_dump())))


@router.delete("/{id}", operation_id="deleteTask", status_code=204)
def delete_task(tasks: Tasks, id: Id) -> Response:
    """Delete a task."""
    tasks.delete(id)
    return Response(status_code=204)
