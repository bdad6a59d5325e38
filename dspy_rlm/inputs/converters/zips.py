"""The check of a document that is a ZIP archive of XML, before a library that does not bound it reads it."""

from __future__ import annotations

import re
import zipfile

from dspy_rlm.inputs.converters.main import Limits, UnreadableError

MAX_ENTRIES = 20_000
MAX_EXPANDED_BYTES = 1024**3

# A document type in a part of an Office file is an attack: the format forbids it (ECMA-376, part 2, 6.2.5).
_DOCTYPE = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_HEAD_BYTES = 4096


def checked_zip(path: str, *, document_types: bool = False) -> None:
    """Checks the sizes of the parts, and that no XML among them defines entities.

    Raises:
        UnreadableError: It is too large, encrypted, or an attack.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise UnreadableError(
                f"it has {len(entries):,} parts; at most {MAX_ENTRIES:,} are read"
            )
        expanded = sum(entry.file_size for entry in entries)
        most = min(MAX_EXPANDED_BYTES, Limits.output_bytes)
        if expanded > most:
            raise UnreadableError(f"it expands to {expanded:,} bytes; at most {most:,} are read")
        for entry in entries:
            if entry.flag_bits & 1:
                raise UnreadableError("it is encrypted; remove its password first")
            if document_types or not entry.filename.endswith((".xml", ".rels")):
                continue
            with archive.open(entry) as part:
                if _DOCTYPE.search(part.read(_HEAD_BYTES).replace(b"\0", b"")):
                    raise UnreadableError(
                        f"its part {entry.filename[:100]} defines entities, which documents may not"
                    )
