"""A made-up Hugging Face Hub on this machine, for the real huggingface_hub to talk to."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """The few addresses that a push and a download need.

    Attributes:
        repos: repository -> commit -> name -> bytes; the last commit is `main`.
        seen: the method and the address of each request.
    """

    repos: dict
    seen: list

    def log_message(self, *args):
        pass

    def answer(self, content, code=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.repos.setdefault(name, {})
            self.answer({"url": f"http://{self.headers['Host']}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif re.fullmatch("/api/models/.+/preupload/main", self.path):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self.answer({"files": modes})
        elif found := re.fullmatch("/api/models/(.+)/commit/main", self.path):
            commits = self.repos[found[1]]
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            oid = hashlib.sha1(body).hexdigest()
            before = [*commits.values()][-1] if commits else {}
            commits[oid] = before | {f["path"]: base64.b64decode(f["content"]) for f in files}
            self.answer(
                {"commitUrl": f"https://huggingface.co/{found[1]}/commit/{oid}", "commitOid": oid}
            )
        else:
            self.answer({}, 404)

    def do_GET(self):  # noqa: N802
        self.seen.append((self.command, self.path))
        found = re.fullmatch("/(.+)/resolve/(.+)/([^/]+)", self.path)
        commits = self.repos.get(found[1]) if found else None
        if commits is None:
            self.answer({}, 401, X_Error_Code="RepoNotFound")
            return
        oid = [*commits][-1] if found[2] == "main" and commits else found[2]
        if oid not in commits:
            self.answer({}, 404, X_Error_Code="RevisionNotFound")
        elif found[3] not in commits[oid]:
            self.answer({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        else:
            content = commits[oid][found[3]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.answer(content, X_Repo_Commit=oid, ETag=etag)

    do_HEAD = do_GET


@contextlib.contextmanager
def serving():
    """The address of such a Hub, and its handler."""
    handler = type("Served", (Handler,), {"repos": {}, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
