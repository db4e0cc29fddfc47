"""The spool: every frame on disk until the far end has it.

One SQLite database in write-ahead mode, one row a frame (and its payload beside it). A frame is durable (synced to the disk)
before `Spool.add` returns. What the uplink notes about it afterwards (sent, diagnosed, deleted) is committed without a sync:
after a power cut it may be forgotten, the frame is then sent again, and the record knows it by its id. So a frame costs one
sync, and what it costs does not depend on how many others there are.

States::

    waiting --publish--> sent --receipt diagnosed--> diagnosed
       ^                  |                             |
       '---- resend ------'        receipt recorded: the row is deleted
    any of them --rejected, or too large for the broker--> parked (until a person retries or exports it)
    any of them --the disk has lost it--> named in the table of the lost, told to the far end

A lost frame that certainly never left, and came from a file, is captured again. Damage, at start or in use, is repaired
(`edge_agent.spool.repair`); a full disk is survived (`edge_agent.spool.reserve`).
"""

from edge_agent.spool.repair import FILE_NAME, damaged_spools
from edge_agent.spool.rows import LostFrame, SpooledFrame, SpoolRow, SpoolTotals, Untold
from edge_agent.spool.spool import Spool

__all__ = [
    "FILE_NAME",
    "LostFrame",
    "Spool",
    "SpoolRow",
    "SpoolTotals",
    "SpooledFrame",
    "Untold",
    "damaged_spools",
]
