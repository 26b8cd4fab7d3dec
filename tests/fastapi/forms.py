"""Tutorial: Form Data, Form Models, Request Files, Request Forms and Files."""

from typing import Annotated, Any

from fastapi import File, Form, Request, UploadFile
from pydantic import BaseModel, Field

from tests.fastapi.case import Routes, note

routes = Routes("/api/forms")
router = routes.router


class Login(BaseModel):
    model_config = {"extra": "forbid"}

    username: str = Field(min_length=2)
    password: str
    tags: list[str] = []


@routes.post("/login")
async def login(username: Annotated[str, Form()], password: Annotated[str, Form(min_length=4)]) -> Any:
    note(username)
    return {"username": username, "length": len(password)}


@routes.post("/model")
def model(data: Annotated[Login, Form()]) -> Any:
    return data


@routes.post("/list")
async def listed(n: Annotated[list[int], Form()], flag: Annotated[bool, Form()] = False) -> Any:  # noqa: FBT002
    return [n, flag]


@routes.post("/file")
async def file(file: Annotated[bytes, File()]) -> Any:
    return {"file_size": len(file)}


@routes.post("/upload")
async def upload(file: UploadFile) -> Any:
    return [file.filename, file.content_type, file.size, (await file.read()).decode()]


@routes.post("/upload-sync")
def upload_sync(file: UploadFile) -> Any:
    return [file.filename, file.file.read().decode()]


@routes.post("/optional")
async def optional(file: UploadFile | None = None, data: Annotated[bytes | None, File()] = None) -> Any:
    return [file and file.filename, data and data.decode()]


@routes.post("/several")
async def several(files: list[UploadFile], more: Annotated[list[bytes], File(description="as bytes")] = []) -> Any:  # noqa: B006
    return [[file.filename for file in files], [len(part) for part in more]]


@routes.post("/mixed")
async def mixed(
    file: Annotated[bytes, File()], upload: Annotated[UploadFile, File()], token: Annotated[str, Form()]
) -> Any:
    return {"file_size": len(file), "token": token, "content_type": upload.content_type}


@routes.post("/request")
async def of_the_request(request: Request) -> Any:
    async with request.form() as form:
        return sorted((name, str(value)) for name, value in form.multi_items())


A = ("a.txt", b"one", "text/plain")
B = ("b.csv", b"1,2", "text/csv")

case = routes.case
CASES = [
    case("fields", "POST /login", data={"username": "ada", "password": "s cr&t"}),
    case("a field that is missing", "POST /login", data={"username": "ada"}),
    case("an empty field", "POST /login", data={"username": "", "password": "secret"}),
    case("a field at fault", "POST /login", data={"username": "ada", "password": "s"}),
    case("no form", "POST /login"),
    case("JSON for a form", "POST /login", json={"username": "ada", "password": "secret"}),
    case("fields as multipart", "POST /login", files={"username": (None, "ada"), "password": (None, "secret")}),
    case("a model", "POST /model", data={"username": "ada", "password": "x", "tags": ["a", "b"]}),
    case("a model at fault", "POST /model", data={"username": "a", "unknown": "field"}),
    case("a list and a bool", "POST /list", data={"n": ["1", "2"], "flag": "on"}),
    case("a list with one at fault", "POST /list", data={"n": ["1", "second"]}),
    case("a file as bytes", "POST /file", files={"file": A}),
    case("no file", "POST /file"),
    case("text where a file is asked for", "POST /upload", data={"file": "not a file"}),
    case("an upload", "POST /upload", files={"file": A}),
    case("an upload in a thread", "POST /upload-sync", files={"file": B}),
    case("an optional upload", "POST /optional", files={"file": A, "data": B}),
    case("no optional upload", "POST /optional"),
    case("several uploads", "POST /several", files=[("files", A), ("files", B), ("more", A), ("more", A)]),
    case("uploads and a field", "POST /mixed", files={"file": A, "upload": B}, data={"token": "t"}),
    case("uploads without the field", "POST /mixed", files={"file": A, "upload": B}),
    case("a multipart body that is none", "POST /file", content=b"x", headers={"Content-Type": "multipart/form-data"}),
    case("request.form()", "POST /request", data={"a": ["1", "2"], "b": "3"}),
]
