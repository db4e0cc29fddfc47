"""After the messages: second selves of edge and worker, a flood of dead letters, and a start on top of what was left behind."""

import time
from random import Random
from typing import Any

from hemolink.bench.hostile import honest, strangers
from hemolink.bench.hostile.attack import Attack
from hemolink.bench.hostile.shot import Shot
from hemolink.bench.hostile.site import READY_S, STOP_S, Site
from hemolink.errors import FrontDoorError

TWIN_S = 5.0
FLOOD = 1000
FOUND_WITHIN_S = 30.0
PICTURES = 5


def twins(attack: Attack, site: Site, *, seconds: float = TWIN_S) -> dict[str, Any]:
    """Run a second edge, then a second worker, of the same name as the first, while good frames flow.

    A broker ends the earlier of two clients of one name, so both push each other out; meanwhile nothing may fall, and
    afterwards every good frame is recorded.

    Returns:
        How long each lasted in seconds.
    """
    for role in ("edge", "worker"):
        twin = site.start_twin(role)
        ends_at = time.monotonic() + seconds
        attack.give_pictures(PICTURES)
        while time.monotonic() < ends_at:
            time.sleep(0.2)
        twin.stop(timeout_s=STOP_S)
        attack.look()
    return {"each_s": seconds}


def told(attack: Attack, *, seed: int) -> dict[str, Any]:
    """Announce one genuine dead letter, and then a flood of invented ones: a person must still find the first.

    Returns:
        At which place of the list it stands, and how many stand there.
    """
    random = Random(f"{seed}/told")
    content = honest.fields("rejected", random) | {
        "code": "corrupt_image",
        "reason": "the image is cut short",
    }
    genuine = Shot(
        "dead letters", "a genuine one", honest.topic("rejected"), honest.encode("rejected", content)
    )
    attack.fire([genuine, *(strangers.rejection_flood(random) for _ in range(FLOOD))])
    deadline = time.monotonic() + FOUND_WITHIN_S
    while True:
        place, listed = attack.browser.place_of_rejection(str(content["frame_id"]))
        if place is not None and (place >= FLOOD or time.monotonic() > deadline):
            return {"place": place, "listed": listed}
        if time.monotonic() > deadline:
            attack.findings.blame(
                f"a dead letter is not among the {listed} listed after a flood of invented ones"
            )
            return {"place": None, "listed": listed}
        time.sleep(0.3)


def restart(attack: Attack, site: Site) -> dict[str, Any]:
    """Stop and start record, worker and edge, on a broker full of retained junk and a record full of strangers.

    Returns:
        Seconds until each was ready again.
    """
    took = {}
    for role in ("record", "worker", "edge"):
        watched = site.daemons[role]
        began = time.monotonic()
        if not watched.child.stop(timeout_s=STOP_S):
            attack.findings.blame(f"the {role} did not stop within {STOP_S:.0f} s")
        watched.child.start()
        try:
            watched.child.wait_ready(timeout_s=READY_S, stopping=lambda: False)
        except FrontDoorError as error:
            attack.findings.blame(f"the {role} does not start again after the attack: {error}")
        took[role] = round(time.monotonic() - began, 1)
    attack.see_again()
    attack.give_pictures(PICTURES)
    attack.look(everywhere=True)
    return took
