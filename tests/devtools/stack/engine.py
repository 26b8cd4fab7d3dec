"""Stands in for `docker` with replicas of the API: keeps them in a file, and how many served after each command."""

import json
import sys
from pathlib import Path
from typing import Any

TABLE = "# pxname,svname,addr,check_status\n"


def label(replica: dict[str, str]) -> dict[str, str]:
    return {
        "com.docker.compose.container-number": replica["number"],
        "com.docker.compose.config-hash": replica["hash"],
    }


def describe(replica: dict[str, str]) -> dict[str, object]:
    networks = {"default": {"IPAddress": f"10.0.0.{replica['number']}"}}
    return {
        "Id": replica["number"],
        "Name": f"/x-api-{replica['number']}",
        "Image": replica["image"],
        "State": {"Status": replica["state"]},
        "Config": {"Labels": label(replica)},
        "NetworkSettings": {"Networks": networks},
    }


def look(state: dict[str, Any], command: list[str]) -> str | None:
    """Answer a question; None where the command is another one."""
    replicas: list[dict[str, str]] = state["replicas"]
    match command:
        case ["image", "inspect", *_]:
            found = str(state["image"])
        case ["compose", "config", "--hash", "api"]:
            found = f"api {state['hash']}"
        case ["compose", "ps", "--all", "--quiet", "api"]:
            found = "\n".join(replica["number"] for replica in replicas)
        case ["inspect", *ids]:
            found = json.dumps([describe(replica) for replica in replicas if replica["number"] in ids])
        case ["compose", "exec", *_, "http://127.0.0.1:8001/replicas;csv"]:
            serving = [replica["number"] for replica in replicas if replica["state"] == "running"]
            found = TABLE + "".join(f"api,api{number},10.0.0.{number}:8000,L7OK\n" for number in serving)
        case ["compose", "logs", *_, "--index", number, "api"]:
            found = f"api-{number} | RATE_LIMIT: wrong"
        case _:
            return None
    return found


def change(state: dict[str, Any], command: list[str]) -> None:
    """Start, stop or remove; end the program where the command is another one."""
    replicas = state["replicas"]
    match command:
        case ["compose", "up", "--detach", "--no-deps", "--no-recreate", "--scale", scale, "api"]:
            new = {"image": state["made_of"], "hash": state["hash"], "state": state["start"]}
            while len(replicas) < int(scale.removeprefix("api=")):
                number = max(int(replica["number"]) for replica in replicas) + 1
                replicas.append(new | {"number": str(number)})
        case ["stop", number]:
            next(replica for replica in replicas if replica["number"] == number)["state"] = "exited"
        case ["rm", *_, number]:
            replicas[:] = [replica for replica in replicas if replica["number"] != number]
        case _:
            sys.exit(f"no answer to: {command}")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    state = json.loads(path.read_text())
    found = look(state, sys.argv[2:])
    if found is None:
        change(state, sys.argv[2:])
    sys.stdout.write(f"{found or ''}\n")
    state["served"].append(sum(replica["state"] == "running" for replica in state["replicas"]))
    path.write_text(json.dumps(state))
