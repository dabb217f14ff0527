"""The far end of a sidecar: `python serve.py VERBS.py` reads requests and writes replies, one JSON line each.

Runs in the sidecar's own interpreter, so it imports the standard library alone and keeps to Python 3.8's syntax.
VERBS.py holds a dictionary `VERBS` of functions from keyword arguments to plain data. One that raises ValueError
refuses what it was given; any other error is a failure of the sidecar.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from typing import IO, Any


def serve(script: str) -> None:
    """Answers until the other end closes."""
    requests, replies = _own_pipes()
    verbs: dict[str, Callable[..., Any]] = {}
    broken: Exception | None = None
    try:
        verbs = runpy.run_path(script)["VERBS"]
    except Exception as error:  # sent back to whoever asks: most often a package is missing
        broken = error
    for line in requests:
        replies.write(json.dumps(_answer(verbs, broken, json.loads(line))) + "\n")
        replies.flush()


def _own_pipes() -> tuple[IO[str], IO[str]]:
    """Both pipes under new numbers: what a library prints goes to stderr, and it can read nothing."""
    requests, replies = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _answer(verbs: dict[str, Callable[..., Any]], broken: Exception | None, request: dict[str, Any]) -> dict[str, Any]:
    if broken is not None:
        return _failed(broken)
    try:
        return {"result": verbs[request["verb"]](**request["arguments"])}
    except ValueError as error:
        return {"refused": _line(error)}
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> dict[str, str]:
    return {"failed": f"{type(error).__name__}: {_line(error)}"}


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    serve(sys.argv[1])
