"""The real daemon is killed while it delivers: what it ordered arrives, once, whenever it died."""

import time

import pytest

from tests.clinician_dashboard.fhir_endpoint import FhirEndpoint, drop, take_and_drop

pytestmark = pytest.mark.slow

CASES = 12


def test_a_daemon_killed_again_and_again_delivers_every_case_once(
    embedded_broker, desk_process, far_side, make, eventually
):
    endpoint = FhirEndpoint().start()
    endpoint.always = lambda handler: time.sleep(0.1)  # so that there is something to kill it in
    endpoint.faults = [take_and_drop(endpoint), drop, take_and_drop(endpoint)] * 2
    desk = desk_process(embedded_broker.port, protocol="3.1.1")
    push = f"{{base_url: {endpoint.base_url}, send: [preliminary], settle_s: 0, longest_pause_s: 0.2, with_pdf: false}}"
    desk.settings.write_text(f"{desk.settings.read_text()}fhir_push: {push}\n")
    try:
        desk.start()
        with far_side(embedded_broker.port, protocol="3.1.1") as far:
            for number in range(CASES):
                frame = make.frame(f"HL-{number:04d}")
                far.send(frame, make.diagnosis(frame))
            eventually(lambda: desk.summary()["recorded"] == CASES, within_s=60)
        for arrived in (2, 5, 8):
            eventually(lambda wanted=arrived: len(endpoint.seen) >= wanted, within_s=60)
            desk.kill()
            desk.start()
        eventually(lambda: len(endpoint.seen) == CASES, within_s=60)

        def waiting():
            return desk.get("/api/v1/deliveries?state=waiting").json()["matching"]

        eventually(lambda: waiting() == 0, within_s=60)
        states = desk.get("/api/v1/deliveries").json()["deliveries"]
        assert [row["state"] for row in states] == ["sent"] * CASES
        assert len(endpoint.of("DiagnosticReport")) == CASES
        assert endpoint.twice() == {}
        assert endpoint.complaints == []
        assert "HL-00" not in desk.log.read_text()
    finally:
        endpoint.stop()
