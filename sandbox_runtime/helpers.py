"""Helpers for libraries built on the sandbox: text, types, secrets, and bounds on the cost of work.

Public, but without the stability promise of the names in `sandbox_runtime` itself: they may change with any release.
"""

from sandbox_runtime.admission import SESSION_BYTES, SESSIONS_A_CORE, Slot
from sandbox_runtime.engine.assets import engine_key, python_library
from sandbox_runtime.engine.atomic_folder import staging
from sandbox_runtime.engine.deno import find_deno
from sandbox_runtime.guest.namespace.submit import OPTIONAL as OPTIONAL_OUTPUT
from sandbox_runtime.host_costs import (
    MATCHING_SECONDS,
    MAX_MATCHED_CHARS,
    MAX_MATCHING_STEPS,
    MAX_PATTERN_CHARS,
    MAX_PATTERN_SLOTS,
    MAX_PATTERN_STATES,
    MAX_REPETITIONS,
    MAX_TABLE_CELLS,
    SECONDS_PER_MATCHED_BYTE,
    TABLE_CELLS_PER_ENTRY,
)
from sandbox_runtime.host_time import counted, counted_for_cell, uncounted
from sandbox_runtime.isolation.bounded_python import Ended, ProcessBounds, run_python
from sandbox_runtime.open import ready_packages
from sandbox_runtime.redaction.redact import (
    SignatureText,
    environment_secrets,
    forms_of,
    hiding,
    redact_secrets,
    shown_signature,
)
from sandbox_runtime.redaction.secret_patterns import (
    HIDDEN,
    is_secret_name,
    secrets_of,
    url_without_secrets,
)
from sandbox_runtime.sessions.loans import Loan
from sandbox_runtime.texts.bytes import UnreadableTextError
from sandbox_runtime.texts.compression import compression_of, decompressed, decompressor
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.forms import decoded, form_of
from sandbox_runtime.texts.listing.walk import LeftOut
from sandbox_runtime.texts.objects.store import Address, Store, address_of
from sandbox_runtime.texts.regular_files import open_regular, open_regular_below
from sandbox_runtime.texts.whole import no_decompressor, text_and_note, text_of
from sandbox_runtime.threads import DaemonPool, call_after, fulfil, run_in_thread, start_thread
from sandbox_runtime.tools.call_scope import blocks_its_cell, call_line
from sandbox_runtime.tools.exits import as_error
from sandbox_runtime.truncation import (
    MAX_MARK_CHARS,
    abridged,
    abridged_again,
    bounded,
    in_one_line,
    omission_at,
    omission_in,
    with_gap,
)
from sandbox_runtime.values.annotations import (
    annotation_text,
    classes_in,
    field_types,
    is_typed_dict,
)
from sandbox_runtime.values.bounds.conversion_cost import EffortError, check_text_effort
from sandbox_runtime.values.bounds.converted_keys import check_made_keys, check_making, check_tree
from sandbox_runtime.values.bounds.exponents import check_exponents
from sandbox_runtime.values.bounds.flags import FlagError, bounded_flags, unbounded_flags
from sandbox_runtime.values.bounds.key_collisions import check_keys

__all__ = [
    "HIDDEN",
    "MATCHING_SECONDS",
    "MAX_MARK_CHARS",
    "MAX_MATCHED_CHARS",
    "MAX_MATCHING_STEPS",
    "MAX_PATTERN_CHARS",
    "MAX_PATTERN_SLOTS",
    "MAX_PATTERN_STATES",
    "MAX_REPETITIONS",
    "MAX_TABLE_CELLS",
    "OPTIONAL_OUTPUT",
    "SECONDS_PER_MATCHED_BYTE",
    "SESSIONS_A_CORE",
    "SESSION_BYTES",
    "TABLE_CELLS_PER_ENTRY",
    "Address",
    "DaemonPool",
    "Deadline",
    "EffortError",
    "Ended",
    "FlagError",
    "LeftOut",
    "Loan",
    "ProcessBounds",
    "SignatureText",
    "Slot",
    "Store",
    "UnreadableTextError",
    "abridged",
    "abridged_again",
    "address_of",
    "annotation_text",
    "as_error",
    "blocks_its_cell",
    "bounded",
    "bounded_flags",
    "call_after",
    "call_line",
    "check_exponents",
    "check_keys",
    "check_made_keys",
    "check_making",
    "check_text_effort",
    "check_tree",
    "classes_in",
    "compression_of",
    "counted",
    "counted_for_cell",
    "decoded",
    "decompressed",
    "decompressor",
    "engine_key",
    "environment_secrets",
    "field_types",
    "find_deno",
    "form_of",
    "forms_of",
    "fulfil",
    "hiding",
    "in_one_line",
    "is_secret_name",
    "is_typed_dict",
    "no_decompressor",
    "omission_at",
    "omission_in",
    "open_regular",
    "open_regular_below",
    "python_library",
    "ready_packages",
    "redact_secrets",
    "run_in_thread",
    "run_python",
    "secrets_of",
    "shown_signature",
    "staging",
    "start_thread",
    "text_and_note",
    "text_of",
    "unbounded_flags",
    "uncounted",
    "url_without_secrets",
    "with_gap",
]
