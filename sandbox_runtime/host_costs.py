"""The most that the sandbox may cost the host's process: every bound in one place, with its reason.

`SECURITY.md` promises these numbers and `tests/security/test_host_costs.py` measures them. The bounds of
one session that a user can set are in `limits.py`.
"""

from __future__ import annotations

MEBIBYTE = 1024 * 1024

# ---- One value -------------------------------------------------------------------------------------

# A decoded value takes at most this many bytes of host memory per byte of `Limits.frame_bytes`. Text with
# one character beyond the first 65,536 takes 4 bytes for each of its characters; a million rows of twenty
# columns take about 1.5 GiB, which the default of 256 MiB must allow.
VALUE_BYTES_PER_FRAME_BYTE = 8

# Smaller values are not estimated: of whatever type, they take less than 128 times as much.
UNESTIMATED_BYTES = 1 * MEBIBYTE

# The overhead of a bytes or str object beside its content.
BYTES_PER_PIECE = 56

# Maximum digits of an integer that a `Decimal` or a `Fraction` can become: Python converts no longer one to
# text (4,300), and the sandbox sends no longer `int` (14,000 bits).
MAX_DIGITS = 4_200

# Maximum characters of a number, date or path in a tag. Parsing a number is quadratic in its length.
MAX_TAGGED_CHARS = 4_000

# Maximum attempts to match a type with a part of a value during validation: a fixed number, and one per part.
# If that many all fail, Pydantic takes about a second and 400 MB for the list of errors.
MAX_TRIES = 400_000
TRIES_PER_PART = 50

# The memory that validation may need beside the value: a fixed number of bytes, and so much for each byte of the value. An error takes
# some 300 bytes with its text, an absent field with a default a slot in its record.
FREE_ERROR_BYTES = 32 * MEBIBYTE
UNESTIMATED_FACTOR = 128
BYTES_PER_ERROR = 300
BYTES_PER_DEFAULT = 40

# Cells of a table made of rows that each name their own columns: a fixed number, and one per entry that is there.
MAX_TABLE_CELLS = 1_000_000
TABLE_CELLS_PER_ENTRY = 100

# ---- A signature written by a cell -----------------------------------------------------------------

# A cell's pattern is matched against at most this many bytes of a text, and its repetition counts have the same
# bound.
MAX_MATCHED_CHARS = 100_000
MAX_PATTERN_CHARS = 500
MAX_REPETITIONS = 100

# States of the automata of all patterns in a signature: compiling takes 2 us for each.
MAX_PATTERN_STATES = 100_000

# The same, times the ends of groups that the engine notes for each: 16 bytes.
MAX_PATTERN_SLOTS = 131_072

# Tokens of a pattern, after repetition, times bytes of a text: matching takes 25 ns for each in the worst case.
MAX_MATCHING_STEPS = 8_000_000

# CPU seconds of all matches of a signature: a fixed part, and a part per byte of the texts. The last match may
# exceed it, by 0.2 s.
MATCHING_SECONDS = 0.1
SECONDS_PER_MATCHED_BYTE = 0.2e-6

# ---- Keys of dicts and sets ------------------------------------------------------------------------

# Maximum comparisons of equal hashes while building one dict or set, in units of about 50 ns. Honest keys
# rarely collide: the powers of two up to 2**4000, the worst known case, take 0.4 million.
MAX_KEY_COMPARISONS = 4_000_000

# This many keys are not examined, and this many collisions not counted.
FEW_KEYS = 32

# From this number of keys the insertion itself is timed, because keys with different hashes can be chosen
# to share probe sequences in the table.
MANY_KEYS = 4_096

# CPU seconds that inserting may take: a fixed part, a part per key, and four times the time that hashing
# them takes. An honest key takes 0.1 to 0.3 microseconds beside its hash.
KEYS_SECONDS = 0.5
SECONDS_PER_KEY = 1e-6

# Combinations that a class of flags keeps for the life of the process. Colliding ones take 0.4 s.
MAX_FLAG_COMBINATIONS = 4_096

# ---- The calls of one cell -------------------------------------------------------------------------

# Bytes of arguments of queued and running calls, per byte of `Limits.frame_bytes`. Beyond it nothing more
# is read from the sandbox until some have ended.
CALL_BYTES_PER_FRAME_BYTE = 1

# The cost of a call beside its arguments: its future, its context, its queue entry.
BYTES_PER_CALL = 4 * 1024

# The cost of an attachment beside its bytes: without it, calls with thousands of empty ones would cost nothing.
BYTES_PER_PART = 128

# Threads of one session that still run abandoned calls. Beyond it no call starts in a thread until some of
# them have ended.
MAX_LOST_THREADS = 64

# Size of the replay log in bytes: answers of the host, code, replaced values. Beyond it a checkpoint is due at
# any cost; a single cell that exceeds it is not recorded, so that it cannot be replayed.
MAX_REMEMBERED_BYTES = 64 * MEBIBYTE

# The cost of recording a call beside its answer.
BYTES_PER_REMEMBERED_CALL = 512

# ---- Recovery of a session -------------------------------------------------------------------------

# Seconds of replayed cells between two checkpoints, over all crashes. Beyond it the session starts afresh,
# and says so.
MAX_REPLAY_SECONDS = 60.0

# ---- A checkpoint's file ---------------------------------------------------------------------------

# A header is a few hundred bytes.
CHECKPOINT_HEADER_BYTES = 64 * 1024

# Pyodide's own head of an image: the names of modules and of JavaScript objects, some 100 kB.
CHECKPOINT_HEAD_BYTES = 64 * MEBIBYTE

# The cells' files on the disk, which lives in V8's memory; that has the same bound.
CHECKPOINT_DISK_BYTES = 2048 * MEBIBYTE

# ---- The resulting promises; nothing enforces these but the bounds above -----------------------------

# CPU seconds of the host to decode one value from the sandbox: a fixed part, and a part per MiB. Measured:
# 0.35 per MiB in the worst case.
READ_CPU_SECONDS = 1.0
READ_CPU_SECONDS_PER_MEBIBYTE = 0.75

# The longest time for which decoding blocks every other thread of the host, in CPU seconds. Measured: 0.03
# per MiB, most of it in Python's JSON parser.
READ_STALL_SECONDS = 1.0
READ_STALL_SECONDS_PER_MEBIBYTE = 0.075

# Memory that one value takes per byte; `VALUE_BYTES_PER_FRAME_BYTE` bounds the total.
# Measured: 104, for a table of one column, whose rows are dicts.
READ_BYTES_PER_BYTE = 128

# Threads of one session beside those of its caller: the workers, a timer per call if `Limits.call_seconds`
# is set, the event loop of coroutine tools, and the reader of stderr.
THREADS_PER_CONCURRENT_CALL = 2
OTHER_THREADS = 2
