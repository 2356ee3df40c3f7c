"""A stand-in for Kibana: no Kibana can be had where the tests run.

It does what the documentation of Kibana's HTTP API says of the two requests that are made: the
status, and the import of saved objects. Whether a real Kibana shows what it is given is not tested.
"""

import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from urllib.parse import parse_qs, urlsplit

AVAILABLE = (200, {"status": {"overall": {"level": "available"}}})
UNAVAILABLE = (503, {"status": {"overall": {"level": "unavailable"}}})
DEGRADED = (200, {"status": {"overall": {"level": "degraded"}}})
STARTING = (503, "Kibana server is not ready yet")


class StandIn:
    """Keeps the objects it is given.

    Attributes:
        statuses: What it answers when it is asked how it is: one after the other, the last again
            and again. None in place of an answer breaks the connection off.
        imports: The same of imports, before it does what they ask.
        api_key: What it lets in, if anything.
        newest: The newest versions of the types it knows.
        objects: What it has, by type and id.
        seen: Method and path of each request.
    """

    def __init__(self, base="", address=("127.0.0.1", 0)):
        self.statuses = [AVAILABLE]
        self.imports = []
        self.api_key = None
        self.newest = {"index-pattern": "8.0.0", "search": "10.5.0", "dashboard": "10.2.0"}
        self.objects = {}
        self.seen = []
        self._base = base
        self._http = ThreadingHTTPServer(address, self._connection())
        self.url = f"http://127.0.0.1:{self._http.server_port}{base}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def serve(self):
        """Serve for ever."""
        self._http.serve_forever()

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method, path, headers, body):
        """Return the status and the body that a request is answered with."""
        url = urlsplit(path.removeprefix(self._base))
        if self.api_key and headers.get("Authorization") != f"ApiKey {self.api_key}":
            return problem(401, "Unauthorized", "[security_exception]: missing credentials")
        if (method, url.path) == ("GET", "/api/status"):
            return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if (method, url.path) == ("POST", "/api/saved_objects/_import"):
            overwrite = parse_qs(url.query).get("overwrite") == ["true"]
            return self.imports.pop(0) if self.imports else self._import(headers, body, overwrite)
        return problem(404, "Not Found", "Not Found")

    def _import(self, headers, body, overwrite):
        if "kbn-xsrf" not in headers:
            return problem(400, "Bad Request", "Request must contain a kbn-xsrf header.")
        name, content = uploaded(headers, body)
        if PurePath(name or "").suffix != ".ndjson":
            return problem(400, "Bad Request", f"Invalid file extension {PurePath(name).suffix}")
        return self._take(content, overwrite=overwrite)

    def _take(self, content, *, overwrite):
        given = [json.loads(line) for line in content.splitlines() if line.strip()]
        newer = [o for o in given if number(o["typeMigrationVersion"]) > self._limit(o)]
        if newer:
            return problem(
                422, "Unprocessable Content", f"newer than this Kibana: {newer[0]['id']}"
            )
        known = {*self.objects, *map(key, given)}
        errors = []
        for each in given:
            missing = [r for r in each["references"] if (r["type"], r["id"]) not in known]
            if missing:
                errors.append(error(each, "missing_references", references=missing))
            elif key(each) in self.objects and not overwrite:
                errors.append(error(each, "conflict"))
        if not errors:
            self.objects.update({key(each): each for each in given})
        bad = {(e["type"], e["id"]) for e in errors}
        stored = [
            {"type": o["type"], "id": o["id"], "managed": False, "meta": meta(o)}
            for o in given
            if key(o) not in bad
        ]
        answer = {"success": not errors, "successCount": len(stored), "successResults": stored}
        return 200, {**answer, **({"errors": errors} if errors else {})}

    def _limit(self, given):
        return number(self.newest.get(given["type"], "0"))

    def _connection(stand_in):  # noqa: N805 - `self` is the connection's, below
        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stand_in.seen.append((self.command, self.path))
                answer = stand_in.answer(self.command, self.path, self.headers, body)
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = respond  # noqa: N815 - as the base class calls them

            def log_message(self, *arguments):
                pass

        return Connection


def uploaded(headers, body):
    """Return the name and content of the part `file` of a form."""
    form = message_from_bytes(b"Content-Type: %b\n\n" % headers["Content-Type"].encode() + body)
    assert form.get_content_type() == "multipart/form-data"
    [part] = form.get_payload()
    assert part.get_param("name", header="Content-Disposition") == "file"
    return part.get_filename(), part.get_payload(decode=True)


def key(given):
    """Return an object's type and id."""
    return given["type"], given["id"]


def number(version):
    """Return a version as numbers."""
    return tuple(int(part) for part in version.split("."))


def meta(given):
    """Return what Kibana shows of an object."""
    return {"title": given["attributes"].get("name") or given["attributes"]["title"], "icon": "x"}


def error(given, kind, **rest):
    """Return why an object was not taken."""
    return {
        "type": given["type"],
        "id": given["id"],
        "meta": meta(given),
        "error": {"type": kind, **rest},
    }


def problem(status, error, message):
    """Return a refusal."""
    return status, {"statusCode": status, "error": error, "message": message}


if __name__ == "__main__":  # in a container, in Kibana's place
    StandIn(address=("0.0.0.0", 5601)).serve()  # noqa: S104 - the container's own network
