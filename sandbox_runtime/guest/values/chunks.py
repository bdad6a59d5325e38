"""A pickle that came in pieces, read as a file. The standard library only."""

from __future__ import annotations


class Pieces:
    """Reads pieces of bytes one after the other, and lets go of each when it was read."""

    def __init__(self, pieces: list[bytes]) -> None:
        """Takes the pieces out of the list."""
        self._left = pieces
        self._left.reverse()
        self._piece = memoryview(b"")

    def read(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""
        taken = []
        while count > 0 and (piece := self._next(count)):
            taken.append(piece)
            count -= len(piece)
        return b"".join(taken)

    def readinto(self, target: bytearray | memoryview) -> int:
        """Fills the target, if there is enough."""
        view, filled = memoryview(target), 0
        while filled < len(view) and (piece := self._next(len(view) - filled)):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def readline(self) -> bytes:
        """The rest of a line. No pickle of protocol 5 has lines, but a file has them."""
        line = b""
        while not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return line

    def _next(self, count: int) -> memoryview:
        """At most so many bytes of one piece; none at the end."""
        if not self._piece and self._left:
            self._piece = memoryview(self._left.pop())
        taken, self._piece = self._piece[:count], self._piece[count:]
        return taken
