"""What a clinician's browser gets while the site is under attack: never a server error, never hostile text unescaped."""

import http.client
import json
from collections.abc import Iterable
from random import Random
from typing import Any
from urllib.parse import quote

from hemolink.bench.hostile.shot import GOOD_CASE, SITE, UNESCAPED

FIXED = (
    "/",
    "/attention",
    "/fleet",
    "/health",
    f"/cases/{SITE}/{GOOD_CASE}",
    f"/cases/{SITE}/H-TIME",
    f"/cases/{SITE}/H-FLOOD",
    "/fragments/worklist",
    "/fragments/attention",
    "/fragments/fleet",
    "/fragments/health",
    "/api/v1/summary",
    "/api/v1/cases?limit=500",
    "/api/v1/rejections?limit=500",
    "/api/v1/fleet",
    f"/api/v1/cases/{GOOD_CASE}?site={SITE}&limit=50",
    "/healthz",
    "/readyz",
    "/metrics",
)
HOSTILE = (
    "/?page=-1",
    "/?page=1e9",
    "/?page=99999",
    "/?q=%00",
    "/?q=%ff%fe",
    "/?q=%25_%25",
    "/?urgency=%3Cscript%3E",
    "/cases/%2e%2e/%2e%2e%2fetc",
    "/cases/a/%00",
    "/static/..%2f..%2fpages.py",
    "/api/v1/cases?limit=99999",
    "/api/v1/cases?offset=9223372036854775808",
    "/api/v1/frames/../../etc/passwd",
    "/api/v1/frames/" + "0" * 31 + "%0a",
    "/api/v1/cases/" + "A" * 5000,
    "/" + "a/" * 500,
)
_SLOW_MB = 4.0


class Browser:
    """Fetches pages and judges them.

    Args:
        port: The record's web port.
        token: What lets it in.
        random: Chooses among cases and frames.
        known: The one before, whose figures it takes over.
    """

    def __init__(self, port: int, random: Random, *, token: str, known: "Browser | None" = None) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._random = random
        self.fetched: int = known.fetched if known else 0

    def look(self, *, everywhere: bool = False) -> list[str]:
        """Fetch pages, hostile addresses, cases and frames, some or all of them; return what is wrong."""
        faults: list[str] = []
        fixed, hostile = (len(FIXED), len(HOSTILE)) if everywhere else (6, 3)
        for path in (*self._random.sample(FIXED, fixed), *self._random.sample(HOSTILE, hostile)):
            faults += self._judge(path)
        for path in self._some():
            faults += self._judge(path)
        return faults

    def good_count(self) -> int:
        """Return how many frames of the good case are recorded."""
        path = f"/api/v1/cases/{GOOD_CASE}?site={SITE}&limit=1"
        return sum(self._json(path).get("by_state", {}).get(state, 0) for state in ("report", "refer"))

    def good_frames(self) -> list[dict[str, Any]]:
        """Return every frame of the good case, as the record's interface lists them."""
        frames: list[dict[str, Any]] = []
        page, last = 1, 1
        while page <= last:
            answer = self._json(f"/api/v1/cases/{GOOD_CASE}?site={SITE}&limit=500&page={page}")
            frames += answer.get("frames", [])
            page, last = page + 1, int(answer.get("last_page", 1))
        return frames

    def place_of_rejection(self, frame_id: str) -> tuple[int | None, int]:
        """Return at which place of the list of dead letters a frame's stands, if it does, and how many are listed."""
        offset, listed = 0, 1
        while offset < listed:
            answer = self._json(f"/api/v1/rejections?limit=500&offset={offset}")
            listed = int(answer.get("matching", 0))
            found = answer.get("rejections", [])
            for number, one in enumerate(found):
                if one.get("frame_id") == frame_id:
                    return offset + number, listed
            if not found:
                break
            offset += len(found)
        return None, listed

    def _some(self) -> Iterable[str]:
        cases = self._json("/api/v1/cases?limit=100").get("cases", [])
        for case in self._random.sample(cases, min(2, len(cases))):
            code, site = quote(str(case.get("code"))), quote(str(case.get("site")))
            yield f"/cases/{site}/{code}"
            frames = self._json(f"/api/v1/cases/{code}?site={site}&limit=20").get("frames", [])
            for frame in self._random.sample(frames, min(1, len(frames))):
                yield f"/api/v1/frames/{frame['frame_id']}"
                yield f"/api/v1/frames/{frame['frame_id']}/image"
                yield f"/fragments/frames/{frame['frame_id']}"

    def _judge(self, path: str) -> list[str]:
        try:
            status, kind, body = self._get(path)
        except (OSError, http.client.HTTPException) as error:
            return [f"{path} gives no answer ({type(error).__name__}: {error})"]
        self.fetched += 1
        megabytes = len(body) / 1e6
        faults = []
        if status in (401, 403) and path in FIXED:
            faults.append(f"{path} does not let its own reader in: {status}")
        if status >= 500 and path != "/readyz":  # noqa: PLR2004 - a server error; a daemon that is not ready says 503
            faults.append(f"{path} answers {status}: {body[:200]!r}")
        if megabytes > _SLOW_MB:
            faults.append(f"{path} has grown to {megabytes:.1f} MB")
        if "html" in kind:
            text = body.decode("utf-8", "replace")
            faults += [f"{path} holds {mark!r} unescaped" for mark in UNESCAPED if mark in text]
        return faults

    def _json(self, path: str) -> dict[str, Any]:
        try:
            status, _, body = self._get(path)
            found = json.loads(body) if status == 200 else {}  # noqa: PLR2004 - OK
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _get(self, path: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type", ""), answer.read()
        finally:
            connection.close()
