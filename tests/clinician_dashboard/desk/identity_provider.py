"""A small OpenID provider on loopback that signs with real keys, and that can be told to do it wrongly."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwk, jwt

CLIENT = "hemolink"
SECRET = "a client's secret: of a test"


def _new_keys(number: int) -> dict[str, Any]:
    return {
        "RS256": jwk.RSAKey.generate_key(2048, {"kid": f"rsa-{number}"}),
        "ES256": jwk.ECKey.generate_key("P-256", {"kid": f"ec-{number}"}),
    }


@dataclass
class IdentityProvider:
    """What it says of the person who signs in next, and how."""

    port: int = 0
    algorithm: str = "RS256"
    claims: dict[str, Any] = field(
        default_factory=lambda: {
            "sub": "u-1",
            "preferred_username": "Ada",
            "name": "Dr Ada Example",
            "groups": ["staff", "blood"],
        }
    )
    change: Callable[[dict[str, Any]], Any] = lambda claims: None
    unsigned: bool = False
    stranger_signs: bool = False
    issuer_says: str = ""
    keys: dict[str, Any] = field(default_factory=lambda: _new_keys(1))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def roll_keys(self) -> None:
        self.keys = _new_keys(2)

    def settings(self, **changes: Any) -> dict[str, Any]:
        roles = {"blood": "haematologist", "heads": "lab_lead", "keys": "admin"}
        return {
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "roles": roles,
            **changes,
        }

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        match path:
            case "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
                said = {name: f"{self.issuer}/{place}" for name, place in names.items()}
                return 200, {}, {"issuer": self.issuer_says or self.issuer, **said}
            case "/jwks":
                return 200, {}, {"keys": [key.as_dict(private=False) for key in self.keys.values()]}
            case "/authorize":
                code = secrets.token_urlsafe(8)
                self.codes[code] = query
                back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
                return 302, {"Location": f"{query['redirect_uri']}?{back}"}, None
            case "/token" if method == "POST":
                return self._token(query, headers)
        return 404, {}, {"error": "no such place"}

    def _token(self, form: dict[str, str], headers: Any) -> tuple[int, dict[str, str], Any]:
        asked = self.codes.pop(form.get("code", ""), None)
        expected = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or headers.get("Authorization") != expected
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            self.faults.append(f"refused {form}")
            return 400, {}, {"error": "invalid_grant"}
        at = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": at,
            "exp": at + 300,
            "nonce": asked["nonce"],
        } | self.claims
        self.change(claims)
        return (
            200,
            {},
            {"access_token": "of no use", "token_type": "Bearer", "id_token": self._signed(claims)},
        )

    def _signed(self, claims: dict[str, Any]) -> str:
        if self.unsigned:
            parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        key = self.keys[self.algorithm]
        signing = _new_keys(1)[self.algorithm] if self.stranger_signs else key
        return jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, signing)


@contextmanager
def run_provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do("GET", "")

        def do_POST(self) -> None:
            self._do("POST", self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _do(self, method: str, form: str) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(form or parts.query).items()}
            status, headers, content = provider.answer(method, parts.path, query, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if content is not None:
                self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
