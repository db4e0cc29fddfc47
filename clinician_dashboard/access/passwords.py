"""Passwords: argon2id, and which may be chosen (NIST SP 800-63B-4, section 3.1.1.2).

Length is asked for, and that it is not what everybody would try first; no rule about kinds of characters, no expiry.
"""

import os
import threading
import unicodedata
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from clinician_dashboard.access.errors import PasswordRefused

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 200
MEMORY_KIB: Final = 64 * 1024
PASSES: Final = 3
LANES: Final = 4
"""RFC 9106, section 4, the second recommended choice."""
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes 64 MiB, so a flood of tries takes 128."""
_COMMON: Final = (
    "password", "passwort", "123456", "qwert", "letmein", "welcome", "admin", "hemolink", "hospital", "haematology",
    "hematology", "changeme", "iloveyou", "abcdef", "leukaemia", "leukemia", "laboratory",
)  # fmt: skip
_ENOUGH_OTHER = 6


def normal(password: str) -> bytes:
    """Return a password as it is hashed: one form of Unicode, whatever the keyboard made of it."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def hash_password(password: str) -> str:
    """Return the argon2id hash of ``password`` with a salt of its own, as a PHC string."""
    with _AT_ONCE:
        return Argon2id(
            salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB
        ).derive_phc_encoded(normal(password))


_NOBODYS: Final = (
    f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"
    "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""Stands where there is no user, or one without a password: the same work, and no password has it."""


def matches(password: str, hashed: str | None) -> bool:
    """Return whether ``password`` has the hash; without one the work is the same, and the answer no."""
    if len(password) > MAX_LENGTH:
        password = ""  # never chosen, and not worth hashing
    with _AT_ONCE:
        try:
            Argon2id.verify_phc_encoded(normal(password), hashed or _NOBODYS)
        except (InvalidKey, ValueError):
            return False
    return hashed is not None


def is_outdated(hashed: str) -> bool:
    """Return whether a hash was made with other parameters than today's."""
    return f"$m={MEMORY_KIB},t={PASSES},p={LANES}$" not in hashed


def check_choice(password: str, *names: str) -> None:
    """Raise if ``password`` may not be chosen.

    Args:
        password: As it was typed.
        names: What it may not consist of: the login, parts of the name.

    Raises:
        PasswordRefused: With the reason, for the person who chose it.
    """
    if len(password) < MIN_LENGTH:
        raise PasswordRefused(
            f"The password is too short: {MIN_LENGTH} characters or more. Four words that do not belong together are a good one."
        )
    if len(password) > MAX_LENGTH:
        raise PasswordRefused(f"The password is too long: at most {MAX_LENGTH} characters.")
    folded = unicodedata.normalize("NFKC", password).casefold()
    left = folded
    for part in (*_COMMON, *(word for name in names for word in (name, *name.split()) if len(word) > 2)):  # noqa: PLR2004
        left = left.replace(part.casefold(), "")
    if len(left.strip("0123456789 .,!?_-@#$%&*+")) < _ENOUGH_OTHER and left != folded:
        raise PasswordRefused(
            "The password is your name, or one of the first that anybody tries: choose another."
        )
    if len(set(folded)) < _ENOUGH_OTHER - 1:
        raise PasswordRefused("The password repeats the same few characters: choose another.")
