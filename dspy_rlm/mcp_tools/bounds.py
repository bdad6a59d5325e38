"""The most that a server may send. More is a mistake or an attack."""

# A message: a result, or a page of the list of tools.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# The tools of a server, and the pages that list them.
MAX_TOOLS, MAX_PAGES = 1_000, 100

# The characters of a name, of the description of a tool and of that of an argument. A longer description is cut.
MAX_NAME_CHARS, MAX_DESCRIPTION_CHARS, MAX_NOTE_CHARS = 128, 4_000, 400

# The characters of a one-line description.
MAX_LINE_CHARS = 120

# The characters of an error's text.
MAX_ERROR_CHARS = 4_000

# The parts of a schema, and its depth. Parts beyond these limits accept any value.
MAX_SCHEMA_PARTS, MAX_SCHEMA_DEPTH = 2_000, 12

# A server whose connection has ended is started again at most so often in so many seconds.
MAX_RESTARTS, RESTART_SECONDS = 5, 60.0
