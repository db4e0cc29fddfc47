"""What a frame costs the record: the same in a small case and in a huge one, and fast through the real daemon."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import event

from broker_config.delivery import publication
from clinician_dashboard.record import RecordWriter

IMAGE_BYTES = 60_000
WINDOW = 200


def test_one_more_frame_costs_the_same_in_a_case_of_any_size(store, make):
    record = store.record()
    record.start()
    statements = []
    event.listen(record.writing().bind, "before_cursor_execute", lambda *given: statements.append(given[2]))
    writer = RecordWriter(record)

    def cost():
        statements.clear()
        frame = make.frame(image=os.urandom(100))
        assert writer.apply([frame, make.diagnosis(frame)]).newly_recorded == 1
        return sorted(statement.split(" \n")[0][:60] for statement in statements)

    cost()
    few = cost()
    frames = [make.frame(image=os.urandom(100)) for _ in range(300)]
    writer.apply([*frames, *map(make.diagnosis, frames)])
    assert cost() == few
    if store.engine == "postgresql":  # its plans depend on how much a table holds
        record.stop()
        return
    with record.session() as session:
        plans = [
            session.connection().exec_driver_sql(f"explain query plan {statement}", parameters).all()
            for statement, parameters in [
                ("select * from frames where frame_id in (?)", ("a",)),
                (
                    "select case_id, count(*) from frames where case_id in (?) and recorded_at is null group by 1",
                    (1,),
                ),
                ("select * from gaps where site = ? and device = ? and generation = ?", ("a", "b", 0)),
            ]
        ]
    assert not [step for plan in plans for step in plan if step[-1].startswith("SCAN")]
    record.stop()


def drive(far, make, *, frames, per_case):
    """Send frames and their diagnoses as fast as their receipts come; return frames recorded a second.

    As edges do, it keeps a window: a broker that must queue more than its bound drops.
    """
    image = os.urandom(IMAGE_BYTES - 16)
    made = [make.frame(f"HL-{make.count // per_case}", image=os.urandom(16) + image) for _ in range(frames)]
    ready = [
        [publication(far._topic(message), message) for message in (frame, make.diagnosis(frame))]
        for frame in made
    ]
    before = len(far.receipts)
    began = time.perf_counter()
    deadline = began + 120
    for sent, pair in enumerate(ready):
        while sent - (len(far.receipts) - before) > WINDOW and time.perf_counter() < deadline:
            time.sleep(0.002)
        for one in pair:
            far.session.publish_soon(one)
    while len(far.receipts) - before < frames:
        assert time.perf_counter() < deadline, "receipts do not come"
        time.sleep(0.005)
    return frames / (time.perf_counter() - began)


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_daemon_records_as_fast_in_a_case_of_five_thousand_as_in_one_of_a_hundred(
    mosquitto_broker, desk_process, far_side, make, capsys
):
    daemon = desk_process(mosquitto_broker.port)
    daemon.start()
    rates, costs = {}, {}

    def measured(size, **plan):
        before = cpu_s(daemon.process.pid)
        rates[size] = drive(far, make, **plan)
        costs[size] = (cpu_s(daemon.process.pid) - before) / plan["frames"]

    with far_side(mosquitto_broker.port, protocol="5") as far:
        drive(far, make, frames=200, per_case=10)
        measured(100, frames=1000, per_case=100)
        make.count = 1_000_000
        drive(far, make, frames=4000, per_case=5_000)
        measured(5000, frames=1000, per_case=5_000)
    with capsys.disabled():
        print("\n  case of   recorded and receipted   processor time a frame   (60 kB each)")
        for size, rate in rates.items():
            print(f"  {size:>7}   {rate:14.0f} frames/s   {costs[size] * 1000:19.2f} ms")
    # Of the processor's time, since other work on the machine does not change that.
    assert costs[5000] < 1.3 * costs[100]
    assert daemon.summary()["recorded"] == 6200
    assert daemon.summary()["duplicates"] == 0
