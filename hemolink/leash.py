"""Runs a module as ``python -m`` would, and ends it when the process that started it is gone.

``python -m hemolink.leash PARENT_PID MODULE ARGUMENT...``: the kernel sends SIGTERM to this process when its parent dies,
however it dies, so that a demo that was killed leaves no daemon behind. Linux only; elsewhere it only runs the module.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def take(parent: int, *, at_its_death: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies; end at once if the parent is gone already.

    Args:
        parent: The parent's process id.
        at_its_death: The signal. It is sent when the parent's *thread* that started this process ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, at_its_death, 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the line above
            sys.exit(1)


def main() -> None:
    """Take the leash, then become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    take(parent)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
