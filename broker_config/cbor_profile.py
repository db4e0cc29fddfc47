"""The part of CBOR that a frame may use, checked before anything is decoded.

A decoder of full CBOR can be made to work hard by a few bytes: a length of 2**60, a thousand levels of nesting, a
big number, a reference to itself. A frame needs none of that. `check` walks the payload once without building
anything, in time and memory bounded by the payload's own size, and admits only: one map of definite length, text
keys, integers, floats, text, bytes, booleans, null, and arrays and maps of the same (RFC 8949, section 3; no tags, no
indefinite lengths, nothing after the end).
"""

MAX_DEPTH = 8
MAX_ITEMS = 4096
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FIRST_EXTENDED = 24
_LAST_EXTENDED = 27
_SIMPLE_VALUES = frozenset({20, 21, 22})  # false, true, null
_FLOATS = frozenset({25, 26, 27})  # half, single, double


class _Walk:
    """One pass over a payload; it recurses at most `MAX_DEPTH` levels."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._items = 0
        self._argument = 0  # bytes of the string last passed over
        self.position = 0

    def item(self, *, depth: int, only: int | None = None, what: str = "") -> None:
        """Pass over one item, and everything in it."""
        major, argument, info = self._head()
        self._items += 1
        if self._items > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} items")
        if only is not None and major != only:
            raise ValueError(f"{what} at byte {self.position}")
        if major in (_BYTES, _TEXT):
            if argument > len(self._payload) - self.position:
                raise ValueError("a length beyond the end")
            self.position += argument
            self._argument = argument
        elif major in (_ARRAY, _MAP):
            self._container(major, argument, depth=depth)
        elif major == _TAG:
            raise ValueError(f"a tag at byte {self.position}")
        elif major == _SIMPLE and info not in _SIMPLE_VALUES and info not in _FLOATS:
            raise ValueError(f"a simple value {info} at byte {self.position}")

    def _container(self, major: int, count: int, *, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if count > len(self._payload) - self.position:
            raise ValueError("a count beyond the end")
        keys: set[bytes] = set()
        for _ in range(count):
            if major == _MAP:
                self.item(depth=depth + 1, only=_TEXT, what="a key that is not text")
                key = self._payload[self.position - self._argument : self.position]
                if key in keys:
                    raise ValueError("a key that stands twice in one map")
                keys.add(key)
            self.item(depth=depth + 1)

    def _head(self) -> tuple[int, int, int]:
        """Read an item's head: major type, argument, additional information (RFC 8949, section 3)."""
        payload, position = self._payload, self.position
        if position >= len(payload):
            raise ValueError("cut short")
        major, info = payload[position] >> 5, payload[position] & 0x1F
        position += 1
        argument = info
        if info > _LAST_EXTENDED:
            raise ValueError(f"an indefinite or reserved length at byte {position}")
        if info >= _FIRST_EXTENDED:
            width = 1 << (info - _FIRST_EXTENDED)
            if position + width > len(payload):
                raise ValueError("cut short")
            argument = int.from_bytes(payload[position : position + width], "big")
            position += width
        self.position = position
        return major, argument, info


def check(payload: bytes) -> None:
    """Raise unless ``payload`` is one map of the admitted kind.

    Raises:
        ValueError: If it is not; the message says what stands where.
    """
    walk = _Walk(payload)
    walk.item(depth=0, only=_MAP, what="not a map")
    if walk.position != len(payload):
        raise ValueError("bytes after the end")
