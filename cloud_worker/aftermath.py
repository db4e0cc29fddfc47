"""What a new process makes of the death of the one before it."""

import logging
from collections.abc import Iterator, Sequence

from broker_config.delivery import Publication
from cloud_worker.answers import Answers
from cloud_worker.journal import Journal, Leftover
from cloud_worker.suspects import DEATHS_ALONE, SuspectBook

logger = logging.getLogger(__name__)

_DIED = "the worker that had taken this frame died"


class Aftermath:
    """Accuses what was at work when the process died, and asks the edges for what it had taken.

    Args:
        journal: What the dead process had in hand.
        suspects: Where deaths are remembered.
    """

    def __init__(self, journal: Journal, suspects: SuspectBook) -> None:
        self._journal = journal
        self._suspects = suspects
        self._asked_for: Sequence[Leftover] = ()
        self._condemned: Sequence[Leftover] = ()

    def look_back(self, birth: int) -> None:
        """Remember the deaths before anything can kill this process, and begin the journal anew.

        Args:
            birth: Number of this start.

        Raises:
            SettingsError: If journal or book cannot be read or written.
        """
        self._suspects.open()
        died, leftovers = self._journal.open(birth=birth)
        accused = self._suspects.accuse(leftovers, birth=died)
        self._journal.begin()
        # One that was there when the process died before is left to its edge's patience: it may be the culprit, and the
        # deaths that it still has in store should not come in a row.
        again = {one.sha256 for one in accused if one.deaths > 1}
        self._asked_for = [
            one
            for one in leftovers
            if one.frame_id and one.site and not (one.at_work and one.sha256 in again)
        ]
        self._condemned = [
            one for one in leftovers if one.at_work and self._suspects.verdict(one.sha256) == "condemned"
        ]
        if leftovers:
            logger.warning(
                "the last process died with %d frames in hand, %d of them at work: these are run alone from now on, and "
                "one that kills the worker %d times alone becomes a dead letter",
                len(leftovers),
                len(accused),
                DEATHS_ALONE,
            )
        for one in accused:
            logger.warning(
                "a suspect frame: %d deaths, %d of them alone",
                one.deaths,
                one.deaths_alone,
                extra={"frame_id": one.frame_id, "payload_sha256": one.sha256},
            )

    def receipts(self, answers: Answers) -> Iterator[Publication]:
        """Compose, once, what the edges are to know at once.

        That is ``retry`` for what the dead process had taken, which spares them their patience; and the dead letter of a
        frame that this death condemned, before it can visit another worker.

        Args:
            answers: Composes what is published.
        """
        asked_for, self._asked_for = self._asked_for, ()
        condemned, self._condemned = self._condemned, ()
        for one in asked_for:
            yield answers.receipt_for(
                one.frame_id, site=one.site, device=one.device, status="retry", reason=_DIED
            )
        for one in condemned:
            if one.frame_id and one.site:
                yield from answers.posthumous(one, self._suspects.sentence(one.sha256))
