"""A W&B server of a few answers, on this machine: what is asked of it went over HTTP, and nothing reaches W&B."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECTS = {"models": {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}}
VIEWER = {"viewer": {"id": "1", "entity": "someone", "username": "someone", "email": "", "flags": "{}", "teams": None}}


class WandbServer:
    """Answers dashboards that are saved, and keeps them.

    Attributes:
        saved: The variables of every view that was saved, in order.
        refusal: What saving is answered with, if it is not empty.
    """

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.refusal = ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/graphql":  # W&B's own statistics
                    self.send_error(404)
                    return
                asked = json.loads(body)
                content = json.dumps(server.answer(asked["query"], asked.get("variables") or {})).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a query of GraphQL."""
        (name,) = re.findall(r"^\s*(?:query|mutation) (\w+)", query)
        if not name.lower().startswith("upsertview"):
            known = {"GetProjects": PROJECTS, "CreateProject": {"upsertModel": {"inserted": True}}}
            return {"data": known.get(name, VIEWER)}
        if self.refusal:
            return {"errors": [{"message": self.refusal}]}
        self.saved.append(variables)
        view = {"id": f"view{len(self.saved)}", "updatedAt": "2026-01-01T00:00:00", "description": ""}
        view |= {key: variables[key] for key in ("name", "type", "displayName", "spec")}
        view["project"] = {"id": "1", "name": variables["projectName"], "entityName": variables["entityName"]}
        return {"data": {"upsertView": {"view": view, "inserted": True}}}

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
