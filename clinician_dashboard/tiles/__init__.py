"""Pictures as the pages need them: small ones for lists, and tiles of large frames, made when asked for and kept in a cache.

`pyramid` cuts a frame, `cache` keeps what was cut within a bound, `pictures` joins the two with the record's images.
"""

from clinician_dashboard.tiles.pictures import Pictures

__all__ = ["Pictures"]
