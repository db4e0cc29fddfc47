"""Reads rows straight from the pages of a SQLite file, whatever state its trees are in.

SQL stops at the first page that makes no sense, and everything beneath a broken inner page is out of its reach. A leaf page,
however, says by itself what rows it holds. So each page of the file (in the version of the write-ahead log, where that has
one) is looked at alone; which table a row belongs to shows by its shape and its checksum. The format is that of
https://www.sqlite.org/fileformat2.html (1.5 b-tree pages, 1.6 overflow pages, 2.1 records, 4.1 the write-ahead log).
"""

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

Value = None | int | float | str | bytes

_PAGE_BYTES = 4096  # SQLite's default, which the spool keeps
_MAGIC = b"SQLite format 3\x00"
_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF = 0x02, 0x0A, 0x0D
_WAL_HEADER, _WAL_FRAME = 32, 24
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_MAX_COLUMNS = 32
_MAX_RECORD = 256 * 1024 * 1024
_WITH_ROWS = (_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF)
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class _Nonsense(Exception):
    """Raised when bytes are no record."""


@dataclass(frozen=True)
class Cell:
    """A row as it lies in a page.

    Attributes:
        rowid: Its number in a table; None in an index.
        columns: Its values up to the first that lies beyond the page; `PageReader.whole` reads them all.
        page: The page's number.
        start: Where its record starts in the page.
        size: Bytes of the record.
        beneath: Whether it was found in the database's version of a page that the log has too.
    """

    rowid: int | None
    columns: tuple[Value, ...]
    page: int
    start: int
    size: int
    beneath: bool


class PageReader:
    """Finds rows in a database file and its write-ahead log. Use it in a with-block.

    Args:
        path: The database; its log is ``path`` + ``-wal``. Neither is changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._page_bytes = _PAGE_BYTES
        self._database = _File(path)
        self._log = _File(path.with_name(path.name + "-wal"))
        self._in_log: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Open the files; one that cannot be read counts as empty."""
        self._database.open()
        self._log.open()
        head = self._database.read(0, 100)
        if head[:16] == _MAGIC:
            size = int.from_bytes(head[16:18], "big")
            size = 65536 if size == 1 else size
            if size >= 512 and size & (size - 1) == 0:  # noqa: PLR2004 - the format's bounds
                self._page_bytes = size
        self._in_log = self._log_pages()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._log.close()

    def cells(self, *, beneath: bool = False) -> Iterator[Cell]:
        """Yield every row of every page that is in use and can be understood.

        Args:
            beneath: Read, of the pages that the log has, the version that is still in the database.
        """
        free = self._free_pages()
        in_file = self._database.size // self._page_bytes
        if beneath:
            numbers = [number for number in sorted(self._in_log) if number <= in_file]
        else:
            numbers = [*range(1, in_file + 1), *sorted(number for number in self._in_log if number > in_file)]
        for number in numbers:
            page = self._page(number, beneath=beneath)
            if number not in free and page[100 if number == 1 else 0] in _WITH_ROWS:
                yield from self._page_cells(number, page, beneath=beneath)

    def whole(self, cell: Cell) -> tuple[Value, ...] | None:
        """Return all columns of a row, those on overflow pages too; None if its chain of pages is broken."""
        try:
            local = self._local(cell.size, in_table=cell.rowid is not None)
            page = self._page(cell.page, beneath=cell.beneath)
            record = bytearray(page[cell.start : cell.start + local])
            following = int.from_bytes(page[cell.start + local : cell.start + local + 4], "big")
            while len(record) < cell.size:
                page = self._page(following, beneath=cell.beneath)
                following = int.from_bytes(page[:4], "big")
                record += page[4 : 4 + cell.size - len(record)]
            return _columns(bytes(record), cell.size)
        except (_Nonsense, struct.error, IndexError, UnicodeDecodeError):
            return None

    # Inside

    def _page(self, number: int, *, beneath: bool) -> bytes:
        """Return a page; one that cannot be read is all zero.

        Raises:
            _Nonsense: If there is no such page.
        """
        if not beneath and number in self._in_log:
            return self._log.read(self._in_log[number], self._page_bytes)
        start = (number - 1) * self._page_bytes
        if number < 1 or start + self._page_bytes > self._database.size:
            raise _Nonsense
        return self._database.read(start, self._page_bytes)

    def _page_cells(self, number: int, page: bytes, *, beneath: bool) -> Iterator[Cell]:
        header = 100 if number == 1 else 0
        kind = page[header]
        pointers = header + (12 if kind == _INDEX_INTERIOR else 8)
        count = int.from_bytes(page[header + 3 : header + 5], "big")
        for at in range(pointers, min(pointers + 2 * count, self._page_bytes - 1), 2):
            offset = int.from_bytes(page[at : at + 2], "big")
            try:
                rowid, start, size, columns = self._row(page, kind, offset)
            except (_Nonsense, struct.error, IndexError, UnicodeDecodeError):
                continue
            yield Cell(rowid, columns, number, start, size, beneath)

    def _row(self, page: bytes, kind: int, at: int) -> tuple[int | None, int, int, tuple[Value, ...]]:
        rowid = None
        size, at = _varint(page, at + 4 if kind == _INDEX_INTERIOR else at)
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
        local = self._local(size, in_table=kind == _TABLE_LEAF)
        if not 2 <= size <= _MAX_RECORD or at + local > self._page_bytes:  # noqa: PLR2004
            raise _Nonsense
        return rowid, at, size, _columns(page[at : at + local], size)

    def _local(self, size: int, *, in_table: bool) -> int:
        """Return how many bytes of a record lie in its page itself (1.6 of the format)."""
        usable = self._page_bytes
        most = usable - 35 if in_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return size
        least = (usable - 12) * 32 // 255 - 23
        kept = least + (size - least) % (usable - 4)
        return kept if kept <= most else least

    def _free_pages(self) -> set[int]:
        """Return the pages on the list of free ones, as far as it can be followed: what lies there is deleted."""
        free: set[int] = set()
        try:
            page = self._page(1, beneath=False)
            trunk = int.from_bytes(page[32:36], "big") if page[:16] == _MAGIC else 0
            while trunk and trunk not in free:
                page = self._page(trunk, beneath=False)
                count = int.from_bytes(page[4:8], "big")
                if count > self._page_bytes // 4 - 2:
                    break  # no such page
                free.add(trunk)
                free.update(struct.unpack_from(f">{count}I", page, 8))
                trunk = int.from_bytes(page[:4], "big")
        except _Nonsense:
            pass
        return free

    def _log_pages(self) -> dict[int, int]:
        """Return where in the log the last version of each page starts; damaged frames are not told from sound ones."""
        step = _WAL_FRAME + self._page_bytes
        head = self._log.read(0, _WAL_HEADER)
        salts = head[16:24] if int.from_bytes(head[:4], "big") in _WAL_MAGIC else None
        found = {}
        for at in range(_WAL_HEADER, self._log.size - step + 1, step):
            frame = self._log.read(at, _WAL_FRAME)
            number = int.from_bytes(frame[:4], "big")
            if 0 < number < 1 << 24 and (salts is None or frame[8:16] == salts):
                found[number] = at + _WAL_FRAME
        return found


class _File:
    """A file of which some parts may be unreadable; those read as zeros."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self.size = 0

    def open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("%s cannot be read (%s)", self._path.name, error.strerror)

    def read(self, start: int, size: int) -> bytes:
        try:
            found = os.pread(self._descriptor, size, start) if self._descriptor >= 0 else b""
        except OSError:
            found = b""  # a bad sector
        return found.ljust(size, b"\0")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _columns(data: bytes, size: int) -> tuple[Value, ...]:
    """Return a record's values; a blob or text that reaches beyond ``data`` is left out with all behind it."""
    header_bytes, at = _varint(data, 0)
    if not 2 <= header_bytes <= min(len(data), 9 * _MAX_COLUMNS):  # noqa: PLR2004
        raise _Nonsense
    kinds = []
    while at < header_bytes:
        kind, at = _varint(data, at)
        kinds.append(kind)
    if (
        at != header_bytes
        or not 0 < len(kinds) <= _MAX_COLUMNS
        or header_bytes + sum(map(_bytes_of, kinds)) != size
    ):
        raise _Nonsense
    values: list[Value] = []
    for kind in kinds:
        end = at + _bytes_of(kind)
        if end > len(data):
            break
        values.append(_value(kind, data[at:end]))
        at = end
    return tuple(values)


def _bytes_of(kind: int) -> int:
    if kind >= 12:  # noqa: PLR2004 - from here on: blobs (even) and texts (odd)
        return (kind - 12) // 2
    if kind in (10, 11):
        raise _Nonsense
    return 8 if kind == 7 else _INTEGER_BYTES.get(kind, 0)  # noqa: PLR2004 - 7: a float


def _value(kind: int, data: bytes) -> Value:
    if kind == 0:
        return None
    if kind in _INTEGER_BYTES:
        return int.from_bytes(data, "big", signed=True)
    if kind == 7:  # noqa: PLR2004
        return float(struct.unpack(">d", data)[0])
    if kind in (8, 9):
        return kind - 8
    return data if kind % 2 == 0 else data.decode("utf-8")
