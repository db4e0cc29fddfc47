"""A receiver of HL7 v2 messages as a target: MLLP, release 1 (HL7 v2.5.1, appendix C.4), one message and its acknowledgement a connection."""

import socket
import ssl
import time
from typing import Final

from broker_config.credentials import tls_context
from broker_config.settings import BrokerSettings
from clinician_dashboard.delivery.errors import NotNow, Refused
from clinician_dashboard.delivery.settings import MllpSettings, TargetSettings
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.reports import hl7
from clinician_dashboard.reports.case_report import CaseReport

START: Final = b"\x0b"
END: Final = b"\x1c\r"
LARGEST_ANSWER: Final = 1024 * 1024
ACCEPTED: Final = frozenset({"AA", "CA"})
REFUSED: Final = frozenset({"AE", "CE"})
MOST_WORDS: Final = 1000


class MllpReceiver:
    """The receiver that the settings name.

    Args:
        settings: Its settings.
    """

    def __init__(self, settings: MllpSettings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        """Its name in the record."""
        return "mllp"

    @property
    def settings(self) -> TargetSettings:
        """Its settings."""
        return self._settings

    def send(self, report: CaseReport, reader: RecordReader) -> None:
        """Send a report as one ORU^R01; see `Target`."""
        del reader
        message = hl7.oru_message(report, receiver=(self._settings.application, self._settings.facility))
        hl7.check_message(message)
        answer = self._exchange(START + message.encode() + END)
        _judge(answer, control_id=message.split("|", 10)[9])

    def _exchange(self, message: bytes) -> str:
        host, port, timeout_s = self._settings.host, self._settings.port, self._settings.timeout_s
        deadline = time.monotonic() + timeout_s
        try:
            with (
                socket.create_connection((host, port), timeout=timeout_s) as plain,
                self._secured(plain) as line,
            ):
                line.sendall(message)
                return _read(line, deadline)
        except ssl.SSLCertVerificationError as error:
            raise NotNow(
                f"{host} shows a certificate that is not trusted ({error.verify_message}): name its authority in tls.ca_file",
                cause="certificate",
            ) from None
        except TimeoutError:
            raise NotNow(f"{host} did not acknowledge within {timeout_s:g} s", cause="timeout") from None
        except OSError as error:
            raise NotNow(
                f"{host} port {port} cannot be reached, or broke off ({error.strerror or error})",
                cause="connection",
            ) from None

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self._settings.tls is None:
            return plain
        context = tls_context(BrokerSettings(tls=self._settings.tls))
        return context.wrap_socket(plain, server_hostname=self._settings.host)


def _read(line: socket.socket, deadline: float) -> str:
    held = b""
    while END not in held:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        line.settimeout(left_s)
        part = line.recv(65536)
        if not part:
            raise ConnectionResetError("it closed the line without an acknowledgement")
        held += part
        if len(held) > LARGEST_ANSWER:
            raise ConnectionAbortedError("its acknowledgement has no end")
    return held.partition(END)[0].partition(START)[2].decode("utf-8", "replace")


def _judge(answer: str, *, control_id: str) -> None:
    """Return if the receiver has taken the message (HL7 v2.5.1, 2.9.2).

    Raises:
        Refused: On AE and CE: its content is at fault there.
        NotNow: On AR and CR, which say nothing of the content, and on what is no acknowledgement of this message.
    """
    segments = [segment.split("|") for segment in answer.replace("\n", "\r").split("\r") if segment]
    told = next((segment for segment in segments if segment[0] == "MSA"), [])
    code = told[1] if len(told) > 1 else ""
    words = _words(segments, told)
    if len(told) < 3 or told[2] != control_id:  # noqa: PLR2004
        raise NotNow("the answer is no acknowledgement of this message", cause="no_acknowledgement")
    if code in ACCEPTED:
        return
    if code in REFUSED:
        raise Refused(f"the receiver refuses this message ({code}{words})")
    raise NotNow(
        f"the receiver does not take messages now ({code or 'no code'}{words})",
        cause=f"ack_{code or 'none'}"[:8],
    )


def _words(segments: list[list[str]], told: list[str]) -> str:
    parts = [told[3]] if len(told) > 3 and told[3] else []  # noqa: PLR2004
    parts += [" ".join(filter(None, segment[1:])) for segment in segments if segment[0] == "ERR"]
    return f": {'; '.join(parts)[:MOST_WORDS]}" if parts else ""
