"""BrowseComp-Plus: questions over many documents (https://github.com/texttron/BrowseComp-Plus).

Reads the decrypted file that its own script writes. Columns: `query_id`, `query`, `answer`, and `gold_docs`, `evidence_docs` and
`negative_docs`, each a list of objects with `docid` and `text`. The context has all documents of a row, in an order that depends only on
their IDs. The file of the Hub is encrypted, so that answers do not get into training data; this importer does not decrypt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from dspy_rlm.errors import InputError
from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    str,
    "The context has documents, each below a line with its ID. Answer the question from the documents.",
    "the answer, as short as possible",
    scoring.same_words,
    scoring.contains,
)
_FIELDS = ("gold_docs", "evidence_docs", "negative_docs")


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields the rows as items."""
    for row in found:
        texts: dict[str, str] = {}
        for name in _FIELDS:
            for document in row.get(name) or ():
                texts[str(field(document, "docid"))] = str(field(document, "text"))
        if not texts:
            raise InputError(
                "A row has no documents: decrypt the file with the script of BrowseComp-Plus first."
            )
        order = sorted(texts, key=lambda docid: hashlib.sha256(docid.encode()).digest())
        context = "\n\n".join(
            f"######## DOCUMENT {docid} ########\n{texts[docid]}" for docid in order
        )
        yield Item(
            str(field(row, "query_id")),
            context,
            str(field(row, "query")),
            str(field(row, "answer")),
            {"documents": len(texts)},
        )
