"""Becomes another program that the kernel kills when the harness is gone, even where it is stopped by SIGSTOP.

``python -m hemolink.bench.faults.tether PARENT_PID PROGRAM ARGUMENT...``. The signal survives the exec (prctl(2)).
"""

import os
import signal
import sys

from hemolink.leash import take


def main() -> None:
    """Take the tether, then become the program."""
    take(int(sys.argv[1]), at_its_death=signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main()
