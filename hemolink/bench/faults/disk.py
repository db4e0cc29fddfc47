"""Small disks that can be filled: a tmpfs each, mounted where only the harness and its children see it.

The mounts live in a mount namespace of the harness's own (unshare(2)) and vanish with it, however it ends. Without root a
user namespace is tried; where the kernel allows neither, `private_mounts` says why, and the faults that need a disk are
reported as not possible here.
"""

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 1 << 18
_BALLAST = "ballast"
_STEP = 1 << 20


def private_mounts() -> str:
    """Give this process, and what it starts, mounts of its own; call it before any thread is started.

    Returns:
        Nothing if that was possible, otherwise why not.
    """
    if sys.platform != "linux":
        return "mount namespaces are Linux's"
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    try:
        _libc("unshare", flags)
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
        _libc("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError as error:
        return f"this machine permits no mounts of one's own ({error.strerror or error})"
    return ""


class Disk:
    """A small tmpfs.

    Args:
        path: Where to mount it; made if missing.
        size_bytes: Its size.
    """

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self._mounted = False

    def mount(self) -> None:
        """Mount it.

        Raises:
            OSError: If the kernel refuses.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_bytes},mode=0755".encode()
        _libc("mount", b"tmpfs", str(self.path).encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)
        self._mounted = True

    def unmount(self) -> None:
        """Let it go with all that is in it. Safe to call twice; a disk in use goes when its last user ends."""
        if self._mounted:
            self._mounted = False
            lazily = 2
            _libc("umount2", str(self.path).encode(), lazily)

    def fill(self) -> int:
        """Leave no room on it; returns the bytes that were free."""
        filled = 0
        with (self.path / _BALLAST).open("ab") as ballast:
            for step in (_STEP, 4096, 1):
                try:
                    while True:
                        filled += os.write(ballast.fileno(), b"\0" * step)
                except OSError:
                    continue  # no room for so large a piece: try smaller ones
        return filled

    def empty(self) -> None:
        """Make room again."""
        (self.path / _BALLAST).unlink(missing_ok=True)


def _libc(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
