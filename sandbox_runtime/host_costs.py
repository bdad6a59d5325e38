"""The most that the sandbox may cost the host's process: every bound in one place, with its reason.

`SECURITY.md` promises these numbers and `tests/security/test_host_costs.py` measures them. The bounds of
one session that a user can set are in `limits.py`.
"""

from __future__ import annotations

MEBIBYTE = 1024 * 1024

# ---- One value -------------------------------------------------------------------------------------

# A decoded value takes at most this many bytes of the host for each byte of `Limits.frame_bytes`. Text
# with one character outside of the first 65,536 takes 4 for each of its own; a million rows of twenty
# columns take about 1.5 GiB, which the default of 256 MiB must allow.
VALUE_BYTES_PER_FRAME_BYTE = 8

# Smaller values are not estimated: whatever they are, they take less than 128 times as much.
UNESTIMATED_BYTES = 1 * MEBIBYTE

# What an object of bytes or text takes beside its content.
BYTES_PER_PIECE = 56

# Digits of a whole number that a `Decimal` or a `Fraction` can become: Python turns no longer one into
# text (4,300), and the sandbox sends no longer `int` (14,000 bits).
MAX_DIGITS = 4_200

# Characters of a number, date or path in a tag. Parsing a number is quadratic in it.
MAX_TAGGED_CHARS = 4_000

# Tries of types on parts of a value that validating it may take, and for each of its parts. So many that
# all fail take Pydantic about a second and 400 MB, for the list of what is wrong.
MAX_TRIES = 400_000
TRIES_PER_PART = 50

# ---- One signature that a cell wrote ---------------------------------------------------------------

# A pattern of a cell is matched against so many characters of one text at most, and may say as much in
# numbers of repetitions: matching is linear in their product, and takes 0.1 s at the worst.
MAX_MATCHED_CHARS = 100_000
MAX_PATTERN_CHARS = 500
MAX_REPETITIONS = 100

# ---- Keys of dicts and sets ------------------------------------------------------------------------

# Comparisons of equal hashes that building one dict or set may take, in units of about 50 ns. Honest
# keys hardly collide: the powers of two up to 2**4000, the worst known, take 0.4 million.
MAX_KEY_COMPARISONS = 4_000_000

# So many keys are not looked at, and so many collisions not counted.
FEW_KEYS = 32

# From here on the insertion itself is measured, because keys of different hashes can be chosen to
# follow one another through the table.
MANY_KEYS = 4_096

# CPU seconds that inserting may take: a fixed part, one for each key, and four times what hashing them
# takes. An honest key takes 0.1 to 0.3 microseconds beside its hash.
KEYS_SECONDS = 0.5
SECONDS_PER_KEY = 1e-6

# ---- The calls of one cell -------------------------------------------------------------------------

# Bytes of arguments of calls that wait or run, for each byte of `Limits.frame_bytes`. Beyond it nothing
# more is read from the sandbox until some have ended.
CALL_BYTES_PER_FRAME_BYTE = 1

# What a call costs beside its arguments: its future, its context, its place in the queue.
BYTES_PER_CALL = 4 * 1024

# Threads of calls that were given up and run on, in one session. Beyond it no call is begun in a thread
# until some of them have ended.
MAX_LOST_THREADS = 64

# What is remembered for the sake of running cells again, in bytes: answers of the host, code, values
# that others have replaced. With more, a checkpoint is due whatever it costs; and of one cell that
# alone has more, nothing is remembered, so that it cannot be run again.
MAX_REMEMBERED_BYTES = 64 * MEBIBYTE

# What remembering a call costs beside its answer.
BYTES_PER_REMEMBERED_CALL = 512

# ---- A session that is brought back ----------------------------------------------------------------

# Seconds of cells that are run again between two checkpoints, over all crashes. With more the session
# begins afresh, and says so.
MAX_REPLAY_SECONDS = 60.0

# ---- A checkpoint's file ---------------------------------------------------------------------------

# A header is a few hundred bytes.
CHECKPOINT_HEADER_BYTES = 64 * 1024

# Pyodide's own head of an image: the names of modules and of JavaScript objects, some 100 kB.
CHECKPOINT_HEAD_BYTES = 64 * MEBIBYTE

# What cells wrote to the disk, which lives in V8's memory; that is bounded by as much.
CHECKPOINT_DISK_BYTES = 2048 * MEBIBYTE

# ---- What follows, as it is promised; nothing enforces these but the bounds above -------------------

# CPU seconds of the host for reading one value that the sandbox sent: a fixed part, and one for each MiB
# of it. Measured: 0.35 for a MiB at the worst.
READ_CPU_SECONDS = 1.0
READ_CPU_SECONDS_PER_MEBIBYTE = 0.75

# The longest time for which no other thread of the host can run meanwhile, in CPU seconds. Measured: 0.03
# for a MiB, most of it Python's JSON.
READ_STALL_SECONDS = 1.0
READ_STALL_SECONDS_PER_MEBIBYTE = 0.075

# Memory that one value takes for each of its bytes; `VALUE_BYTES_PER_FRAME_BYTE` bounds it in all.
# Measured: 104, for a table of one column, whose rows are dicts.
READ_BYTES_PER_BYTE = 128

# Threads of one session beside those of its caller: the workers, a timer for each call where
# `Limits.call_seconds` is set, the event loop of coroutine tools, and the reader of stderr.
THREADS_PER_CONCURRENT_CALL = 2
OTHER_THREADS = 2
