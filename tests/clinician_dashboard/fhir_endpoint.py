"""A small FHIR server for tests: transactions with conditional create and update, judged by fhir.resources, and faults on order."""

import contextlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

UPDATED = {"DiagnosticReport", "Observation", "DocumentReference"}


def outcome(text, code="invalid"):
    issue = {"severity": "error", "code": code, "diagnostics": text, "expression": ["Bundle.entry[0]"]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


class FhirEndpoint:
    """Keeps what it was given, across restarts of its listener.

    Attributes:
        resources: Kind and id to (number of its version, resource).
        faults: What to do with the next requests, first come first served; each a function of the request's handler that
            answers by itself and returns true, or returns false to let the request through.
        seen: Statuses of the DiagnosticReports of each case, in the order in which they were taken.
    """

    def __init__(self, release="r4b", token=None):
        self.release = release
        self.token = token
        self.resources: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.faults: list[Callable[[Any], bool]] = []
        self.always: Callable[[Any], bool] | None = None
        self.seen: dict[str, list[str]] = {}
        self.requests = 0
        self.complaints: list[str] = []
        self.lock = threading.Lock()
        self.port = 0
        self._server = None

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/fhir"

    def start(self):
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.body = self.rfile.read(int(self.headers["Content-Length"]))
                with endpoint.lock:
                    endpoint.requests += 1
                    fault = endpoint.faults.pop(0) if endpoint.faults else endpoint.always
                    if fault is not None and fault(self):
                        return
                    status, answer = endpoint.take(self)
                self.answer(status, answer)

            def answer(self, status, body, **headers):
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/fhir+json", **headers}.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def drop(self):
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *_arguments):
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def take(self, handler):
        """Judge a transaction and keep it whole, or answer why not and keep nothing."""
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, outcome("no valid token", "login")
        try:
            bundle = self.bundle_type().model_validate_json(handler.body)
        except ValueError as error:
            self.complaints.append(str(error)[:500])
            return 422, outcome(str(error)[:200])
        del bundle
        sent = json.loads(handler.body)
        if sent["type"] != "transaction" or handler.path != "/fhir":
            self.complaints.append(sent["type"])
            return 400, outcome("a transaction at the base address is wanted")
        try:
            kept, answers = self._apply(sent["entry"])
        except Conflict as error:
            return error.args[0], outcome(error.args[1])
        self.resources = kept
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def bundle_type(self):
        if self.release == "r4b":
            from fhir.resources.R4B.bundle import Bundle  # noqa: PLC0415
        else:
            from fhir.resources.bundle import Bundle  # noqa: PLC0415
        return Bundle

    def _apply(self, entries):
        kept = dict(self.resources)
        places, plans = {}, []
        for entry in entries:
            resource, request = entry["resource"], entry["request"]
            kind = resource["resourceType"]
            query = condition_of(resource, request)
            found = [one for one in kept if one[0] == kind and matches(kept[one][1], query)]
            if len(found) > 1:
                raise Conflict(412, f"{len(found)} resources match")
            place = found[0] if found else (kind, f"s{len(kept) + len(plans) + 1}")
            plans.append((place, bool(found), request["method"], resource))
            places[entry["fullUrl"]] = f"{kind}/{place[1]}"
        answers = []
        for place, known, method, resource in plans:
            text = json.dumps(resource)
            for url, name in places.items():
                text = text.replace(f'"{url}"', f'"{name}"')
            if "urn:uuid" in text:
                raise Conflict(400, "a reference leads nowhere")
            if method == "PUT" or not known:
                kept[place] = (kept.get(place, (0, {}))[0] + 1, json.loads(text))
            if place[0] == "DiagnosticReport":
                case = resource["identifier"][0]["value"]
                self.seen.setdefault(case, []).append(resource["status"])
            answers.append({"response": {"status": "200 OK" if known else "201 Created"}})
        return kept, answers

    def of(self, kind):
        return [resource for (one, _id), (_version, resource) in self.resources.items() if one == kind]

    def twice(self):
        """What is here more than once: identifiers and acts that two resources share."""
        counted = Counter()
        for (kind, _id), (_version, resource) in self.resources.items():
            if resource.get("identifier"):
                first = resource["identifier"][0]
                counted[kind, first["system"], first["value"]] += 1
            for tag in resource.get("meta", {}).get("tag", ()):
                counted[kind, tag["system"], tag["code"]] += 1
        return {name: number for name, number in counted.items() if number > 1}


class Conflict(Exception):
    pass


def condition_of(resource, request):
    if "id" in resource:
        raise Conflict(400, "ids are the server's affair")
    address = urlsplit(request["url"])
    if address.path != resource["resourceType"]:
        raise Conflict(400, f"{resource['resourceType']} at {address.path}")
    query = request.get("ifNoneExist") if request["method"] == "POST" else address.query
    if not query:
        raise Conflict(400, "nothing here is unconditional")
    return query


def matches(resource, query):
    ((name, values),) = parse_qs(query, strict_parsing=True).items()
    system, value = values[0].split("|", 1)
    if name == "_tag":
        tags = resource.get("meta", {}).get("tag", ())
        return any((tag["system"], tag["code"]) == (system, value) for tag in tags)
    assert name == "identifier"
    return any((one.get("system"), one["value"]) == (system, value) for one in resource.get("identifier", ()))


# Faults


def say(status, text="for a test", **headers):
    return lambda handler: handler.answer(status, outcome(text), **headers) or True


def drop(handler):
    handler.drop()
    return True


def take_and_drop(endpoint):
    """Keep the transaction, and break off before the answer: the sender cannot know."""

    def fault(handler):
        status, _answer = endpoint.take(handler)
        assert status == 200
        handler.drop()
        return True

    return fault


def garbage(handler):
    handler.answer(200, b"<html>a proxy's greeting</html>", Content_Type="text/html")
    return True


class Receiver:
    """An HL7 v2 receiver over MLLP; ``codes`` are the acknowledgements to come, AA after them."""

    def __init__(self):
        self.codes: list[str] = []
        self.messages: list[str] = []
        self.taken: dict[str, str] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self):
        while True:
            try:
                line, _address = self._socket.accept()
            except OSError:
                return
            with line, contextlib.suppress(OSError):
                line.settimeout(5)
                self._answer(line)

    def _answer(self, line):
        held = b""
        while b"\x1c\r" not in held:
            part = line.recv(65536)
            if not part:
                return
            held += part
        message = re.fullmatch(rb"\x0b(.*)\x1c\r", held, re.DOTALL).group(1).decode()
        self.messages.append(message)
        code = self.codes.pop(0) if self.codes else "AA"
        if code == "silent":
            return
        control_id = "0" if code == "other" else message.split("|", 10)[9]
        if code == "AA":
            self.taken[control_id] = message
        answer = f"MSH|^~\\&|LAB||HEMOLINK||20261122||ACK^R01|1|P|2.5.1\rMSA|{code}|{control_id}|for a test\r"
        line.sendall(b"\x0b" + answer.encode() + b"\x1c\r")
