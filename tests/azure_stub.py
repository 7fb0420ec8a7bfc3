"""A stand-in for the service's files and fine-tuning endpoints, on 127.0.0.1, with faults on request."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote


class AzureStub:
    """Serves until closed. `script` maps "METHOD path-pattern" to a list of faults, used up one a request.

    A fault is "429" (rate limit), "500", "drop" (the line is lost before the request counts), "lose" (the
    request counts, its answer is lost), "html" (a page of a proxy), "text" (a page that says it is JSON),
    "other" (JSON of another service) or "echo" (an error that repeats the key). `statuses` are what a job
    goes through, one a look.
    """

    def __init__(self, statuses=("queued", "running", "succeeded"), script=None, error=None) -> None:
        self.statuses, self.script, self.error = list(statuses), dict(script or {}), error
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict] = {}
        self.requests: list[tuple[str, str, dict]] = []
        self.looks = 0
        self.event = ""
        handler = type("Handler", (Handler,), {"stub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.handle_error = lambda *_: None  # clients that are killed say nothing of interest
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method: str, path: str) -> str | None:
        for pattern, faults in self.script.items():
            wanted, _, rest = pattern.partition(" ")
            if method == wanted and re.search(rest, path) and faults:
                return faults.pop(0)
        return None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("POST", "/files"):
            file_id = f"file-{len(self.files) + 1}"
            self.files[file_id] = body
            return 201, json.dumps(self.file(file_id, "pending")).encode()
        if found := re.fullmatch(r"/files/([\w-]+)/content", path):
            return 200, b"step,train_reward\n1,0.31\n2,0.64\n" if found[1] == "file-results" else b""
        if found := re.fullmatch(r"/files/([\w-]+)", path):
            return 200, json.dumps(self.file(found[1], "processed")).encode()
        if (method, path) == ("POST", "/fine_tuning/jobs"):
            job_id = f"ftjob-{len(self.jobs) + 1}"
            self.jobs[job_id] = json.loads(body)
            return 201, json.dumps(self.job(job_id, "queued")).encode()
        if path == "/fine_tuning/jobs":
            data = [self.job(job_id, "queued") for job_id in self.jobs]
            return 200, json.dumps({"object": "list", "data": data, "has_more": False}).encode()
        if re.fullmatch(r"/fine_tuning/jobs/([\w-]+)/events", path):
            events = [
                {
                    "id": f"e{n}",
                    "object": "fine_tuning.job.event",
                    "created_at": n,
                    "level": "info",
                    "message": self.event or f"step {n}",
                }
                for n in range(self.looks, 0, -1)
            ]
            return 200, json.dumps({"object": "list", "data": events, "has_more": False}).encode()
        if (found := re.fullmatch(r"/fine_tuning/jobs/([\w-]+)", path)) and found[1] in self.jobs:
            status = self.statuses[min(self.looks, len(self.statuses) - 1)]
            self.looks += 1
            return 200, json.dumps(self.job(found[1], status)).encode()
        return 404, json.dumps({"error": {"code": "404", "message": "Resource not found"}}).encode()

    def file(self, file_id: str, status: str) -> dict:
        size = len(self.files.get(file_id, b""))
        named = {"id": file_id, "object": "file", "filename": "x.jsonl", "purpose": "fine-tune"}
        return {**named, "bytes": size, "created_at": 1, "status": status}

    def job(self, job_id: str, status: str) -> dict:
        done = status == "succeeded"
        return {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": 1,
            "finished_at": 2 if done else None,
            "model": self.jobs[job_id]["model"],
            "status": status,
            "fine_tuned_model": "o4-mini.ft-reversed-sums" if done else None,
            "error": self.error if status == "failed" else None,
            "result_files": ["file-results"] if done else [],
            "hyperparameters": {},
            "organization_id": "",
            "seed": 0,
            "training_file": self.jobs[job_id]["training_file"],
            "validation_file": self.jobs[job_id]["validation_file"],
            "trained_tokens": None,
            "metadata": self.jobs[job_id].get("metadata"),
        }


class Handler(BaseHTTPRequestHandler):
    """Strips the prefix that Azure's client adds, plays the faults, and asks the stub for the answer."""

    stub: AzureStub
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        path = path.removeprefix("/openai")
        self.stub.requests.append((self.command, path, {"query": query, "key": self.headers.get("api-key")}))
        fault = self.stub.fault(self.command, path)
        if fault == "drop":
            return self.hang_up()
        if fault in ("429", "500"):
            answer = json.dumps({"error": {"code": fault, "message": "try again"}}).encode()
            return self.reply(int(fault), answer, {"Retry-After": "0"})
        if fault == "html":
            return self.reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"})
        if fault == "text":
            return self.reply(200, b"<html>sign in</html>")
        if fault == "other":
            return self.reply(200, b'{"hello": ["world"]}')
        if fault == "echo":
            said = f"wrong key {self.headers.get('api-key')}, again: {quote(self.headers.get('api-key'))}"
            return self.reply(401, json.dumps({"error": {"code": "401", "message": said}}).encode())
        status, answer = self.stub.answer(self.command, path, body)
        return self.hang_up() if fault == "lose" else self.reply(status, answer)

    do_GET = do_POST = handle_any  # the names that http.server looks for

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def reply(self, status: int, answer: bytes, headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(answer),
            **(headers or {}),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass
