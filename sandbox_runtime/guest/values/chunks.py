"""A pickle received in chunks, read as a file. Uses only the standard library."""

from __future__ import annotations


class Pieces:
    """Reads chunks of bytes one after the other, and frees each as soon as it was read."""

    def __init__(self, pieces: list[bytes]) -> None:
        """Removes the chunks from the list as they are read."""
        self._pieces = pieces
        self._pieces.reverse()
        self._piece = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Returns the next bytes; fewer only at the end."""
        parts = []
        while count > 0 and (piece := self._next(count)):
            parts.append(piece)
            count -= len(piece)
        return b"".join(parts)

    def readinto(self, target: bytearray | memoryview) -> int:
        """Fills the target as far as there are bytes; returns their number."""
        view, filled = memoryview(target), 0
        while filled < len(view) and (piece := self._next(len(view) - filled)):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def readline(self) -> bytes:
        """Returns the rest of a line. Pickles of protocol 5 have no lines, but `pickle` requires the method."""
        line = b""
        while not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return line

    def _next(self, count: int) -> memoryview:
        """Returns at most `count` bytes of one chunk; none at the end."""
        if not self._piece and self._pieces:
            self._piece = memoryview(self._pieces.pop())
        data, self._piece = self._piece[:count], self._piece[count:]
        return data
