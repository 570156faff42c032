"""llama.cpp as an oracle: its server, inside this process."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable

import needs


def llama_server(path: str | os.PathLike[str], *, context: int, threads: int) -> Callable[[str, dict], dict]:
    """Serves a model until the function that is returned goes: from a path and a JSON body to the answer."""
    llama = needs.module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = context, 1, False, threads
    server = llama.Server(params)

    def ask(where: str, body: dict) -> dict:
        request = urllib.request.Request(
            server.listening_address + where, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    return ask
