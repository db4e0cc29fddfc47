"""One HTTP request at a time, with a deadline, no redirects, and every failure told as whose it is."""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from clinician_dashboard.delivery.errors import NotNow

LARGEST_ANSWER: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What a server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def as_json(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty one if it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def retry_after_s(self) -> float | None:
        """When the server wants to be asked again (RFC 9110, 10.2.3), in seconds from now; none if it did not say."""
        told = self.headers.get("retry-after", "").strip()
        if told.isascii() and told.isdecimal():
            return float(told[:9])
        try:
            return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
        except (TypeError, ValueError, IndexError):
            return None


def post(
    address: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    tls: Callable[[], ssl.SSLContext],
) -> Answer:
    """Send a POST request and return the answer, whatever its status. Nothing is followed and nothing is kept open.

    Args:
        address: Of http or https.
        body: What to send.
        headers: With it.
        timeout_s: Without a byte for so long, the other side is taken for lost.
        tls: Gives the TLS context, read anew so that certificates may be exchanged.

    Raises:
        NotNow: If there is no answer.
    """
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port
    try:
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout_s, context=tls())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout_s)
        )
        try:
            connection.request("POST", parts.path or "/", body=body, headers=dict(headers))
            answer = connection.getresponse()
            content = answer.read(LARGEST_ANSWER)
            return Answer(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
            )
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        raise NotNow(
            f"{host} shows a certificate that is not trusted ({error.verify_message}): name its authority in tls.ca_file",
            cause="certificate",
        ) from None
    except TimeoutError:
        raise NotNow(f"{host} did not answer within {timeout_s:g} s", cause="timeout") from None
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotNow(f"{host} cannot be reached, or broke off ({said})", cause="connection") from None
