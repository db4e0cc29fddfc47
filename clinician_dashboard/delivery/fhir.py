"""A FHIR server as a target: one transaction a report, conditional throughout."""

import base64
import json
import ssl
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

from broker_config.credentials import tls_context
from broker_config.settings import BrokerSettings
from clinician_dashboard.delivery.errors import NotNow, Refused
from clinician_dashboard.delivery.http_client import Answer, post
from clinician_dashboard.delivery.settings import ClientCredentials, FhirPushSettings, TargetSettings
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.reports import fhir, pdf
from clinician_dashboard.reports.case_report import CaseReport
from clinician_dashboard.reports.fhir_transaction import transaction
from clinician_dashboard.reports.gather import read_images

BEFORE_IT_ENDS_S: Final = 30.0
OF_THE_TARGET: Final = frozenset({301, 302, 303, 307, 308, 404, 405, 410})
"""Statuses that say that the address is wrong, and nothing of the report."""

TRY_AGAIN: Final = frozenset({408, 425, 429})
DENIED: Final = frozenset({401, 403})
CONFLICTS: Final = frozenset({409})
MOST_WORDS: Final = 1000


class FhirServer:
    """The server that the settings name.

    Args:
        settings: Its settings.
    """

    def __init__(self, settings: FhirPushSettings) -> None:
        self._settings = settings
        self._token = ""
        self._token_ends = 0.0

    @property
    def name(self) -> str:
        """Its name in the record."""
        return "fhir"

    @property
    def settings(self) -> TargetSettings:
        """Its settings."""
        return self._settings

    def send(self, report: CaseReport, reader: RecordReader) -> None:
        """Send a report as one transaction; see `Target`."""
        release = self._settings.version
        paper = (
            pdf.case_pdf(report, read_images(reader, pdf.pictured_frames(report)))
            if self._settings.with_pdf
            else None
        )
        bundle = fhir.fhir_bundle(report, release, pdf=paper, desk_url=self._settings.desk_url)
        fhir.check_bundle(bundle, release)
        sent = transaction(bundle, leave_out=self._settings.leave_out)
        headers = {
            "Content-Type": f"{fhir.MEDIA_TYPE[release]}; charset=utf-8",
            "Accept": fhir.MEDIA_TYPE[release],
            "User-Agent": "hemolink",
            **self._authorization(),
        }
        answer = post(
            self._settings.base_url,
            json.dumps(sent, ensure_ascii=False).encode(),
            headers=headers,
            timeout_s=self._settings.timeout_s,
            tls=_tls(self._settings),
        )
        _judge(answer, expected=len(sent["entry"]), forget_token=self._forget_token)

    def _authorization(self) -> dict[str, str]:
        if self._settings.token_file is not None:
            try:
                token = self._settings.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise NotNow(
                    f"the token cannot be read from {self._settings.token_file} ({error}): make it readable",
                    cause="token_file",
                ) from None
            return {"Authorization": f"Bearer {_header_safe(token)}"}
        credentials = self._settings.client_credentials
        if credentials is None:
            return {}
        if time.monotonic() > self._token_ends - BEFORE_IT_ENDS_S:
            self._token, lasts_s = _ask_for_token(credentials, self._settings)
            self._token_ends = time.monotonic() + lasts_s
        return {"Authorization": f"Bearer {_header_safe(self._token)}"}

    def _forget_token(self) -> None:
        self._token_ends = 0.0


def _judge(answer: Answer, *, expected: int, forget_token: Callable[[], None]) -> None:
    """Return if the server has taken the transaction.

    Raises:
        Refused: If it looked at the report and will not have it.
        NotNow: In every other case.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's classes of statuses
        entries = answer.as_json().get("entry")
        took = isinstance(entries, list) and len(entries) == expected and all(map(_is_taken, entries))
        if answer.as_json().get("type") != "transaction-response" or not took:
            raise NotNow(
                f"the answer ({status}) is no whole transaction-response: is base_url a FHIR server's base address?",
                cause="no_transaction",
                of_this=True,
            )
        return
    words = words_of(answer)
    if status in DENIED:
        forget_token()
        raise NotNow(
            f"the server denies access ({status}{words}): see to the token or the client's rights there",
            cause=f"http_{status}",
            after_s=answer.retry_after_s,
        )
    if status in OF_THE_TARGET:
        raise NotNow(
            f"there is no FHIR server at base_url ({status}{words}): correct the address",
            cause=f"http_{status}",
        )
    if status in TRY_AGAIN or status >= 500:  # noqa: PLR2004
        raise NotNow(
            f"the server is not ready ({status}{words})",
            cause=f"http_{status}",
            after_s=answer.retry_after_s,
            of_this=status >= 500 and status not in (502, 503, 504),  # noqa: PLR2004
        )
    raise Refused(f"the server refuses this report ({status}{words})")


def _is_taken(entry: Any) -> bool:
    response = entry.get("response") if isinstance(entry, dict) else None
    return isinstance(response, dict) and str(response.get("status", "")).startswith("2")


def words_of(answer: Answer) -> str:
    """Return what an OperationOutcome says, after a colon; empty if there is none. May hold what was sent: never for a log."""
    outcome = answer.as_json()
    if outcome.get("resourceType") != "OperationOutcome":
        return ""
    told = []
    for issue in outcome.get("issue") or []:
        if not isinstance(issue, dict):
            continue
        details = issue.get("details")
        text = issue.get("diagnostics") or (details.get("text") if isinstance(details, dict) else "")
        where = issue.get("expression") or issue.get("location") or []
        place = f" at {', '.join(map(str, where))}" if isinstance(where, list) and where else ""
        told.append(
            f"{issue.get('severity', '')} {issue.get('code', '')}: {text or 'no words'}{place}".strip()
        )
    return f": {'; '.join(told)[:MOST_WORDS]}" if told else ""


def _ask_for_token(credentials: ClientCredentials, settings: FhirPushSettings) -> tuple[str, float]:
    try:
        secret = credentials.client_secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotNow(
            f"the client's secret cannot be read from {credentials.client_secret_file} ({error}): make it readable",
            cause="client_secret_file",
        ) from None
    form = {"grant_type": "client_credentials"} | ({"scope": credentials.scope} if credentials.scope else {})
    pair = f"{quote(credentials.client_id, safe='')}:{quote(secret, safe='')}"  # RFC 6749, 2.3.1
    answer = post(
        credentials.token_url,
        urlencode(form).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
        },
        timeout_s=settings.timeout_s,
        tls=_tls(settings),
    )
    token = answer.as_json().get("access_token")
    if answer.status != 200 or not isinstance(token, str) or not token:  # noqa: PLR2004
        raise NotNow(
            f"the token server gave no token ({answer.status} {str(answer.as_json().get('error', ''))[:60]}): see to "
            "client_credentials",
            cause=f"token_{answer.status}",
            after_s=answer.retry_after_s,
        )
    lasts_s = answer.as_json().get("expires_in", 300)
    return token, float(lasts_s) if isinstance(lasts_s, int | float) else 300.0


def _header_safe(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise NotNow("the token holds a character that no header may carry", cause="token")
    return token


def _tls(settings: TargetSettings) -> Callable[[], ssl.SSLContext]:
    def context() -> ssl.SSLContext:
        if settings.tls is None:
            return ssl.create_default_context()
        return tls_context(BrokerSettings(tls=settings.tls))

    return context
