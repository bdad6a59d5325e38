"""Summaries of pip's errors when it cannot resolve or fetch. Text only.

The log quotes pages and packages, which are untrusted, so it is read line by line, each in one pass, and the
summary is printable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from sandbox_runtime.packages.pip_shim import PLATFORM
from sandbox_runtime.redaction.secret_patterns import url_without_secrets

# Longer lines are cut: pip writes none, so the text is from a page or package.
MAX_LINE = 4_000
MAX_WORDS = 1_000

# The available versions that an error lists: the latest ones.
MOST_VERSIONS = 8

# Modules whose package has another name, by the name that people ask for.
_OTHER_NAMES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}

_EXCEPTION_ENDS = ("Error", "Exception", "Mismatch", "Impossible")
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def missing_name(log: str) -> str | None:
    """Returns the name for which pip found nothing."""
    _, separator, rest = log.partition("No matching distribution found for ")
    if separator:
        return _leading_name(rest[:MAX_LINE]) or None
    # With a constraint on the package in pip's settings, pip calls the same situation a conflict.
    _, separator, rest = log.partition("ERROR: Cannot install ")
    name, because, _ = rest[:MAX_LINE].partition(" because these package versions have conflicting")
    alone = separator and because and name == _leading_name(name)
    return name if alone and _own_files(list(_lines(log)), name) else None


def explain(log: str, missing: str | None) -> str:
    """Summarises pip's log in a sentence."""
    if missing is None:
        return f"The packages cannot be resolved: {last_words(log)}"
    lines = list(_lines(log))
    for line in lines:
        for words in ("connection broken by ", "connection error: "):
            if words in line:
                fault = _without_objects(line.partition(words)[2].partition("': ")[0].strip("'"))
                return (
                    f"{missing} cannot be looked up, the package index is out of reach: "
                    f"{_printable(fault)[:300]}."
                )
    if (versions := _versions(lines, missing)) is not None:
        return f"No version of {missing} fits; for the sandbox, these exist: {versions}."
    own = _own_files(lines, missing)
    platforms = sorted({_platform(name) for name in own if name.endswith(".whl")})
    if platforms:
        return (
            f"{missing} has no wheel for WebAssembly ({PLATFORM}, Python 3.14) at the package "
            f"index, only for {_printable(', '.join(platforms))[:MAX_WORDS]}."
        )
    if own:
        other = _OTHER_NAMES.get(missing)
        hint = f" The package of that module is called {other}." if other else ""
        return f"{missing} has no wheel at the package index, only its source.{hint}"
    if other := _OTHER_NAMES.get(missing):
        return f"The package index has no package {missing}; the package of that module is called {other}."
    return f"The package index has no package {missing}."


def last_words(log: str) -> str:
    """Returns the errors that pip reports, else the exception that ended it."""
    lines = list(_lines(log))
    errors = [line[7:].strip() for line in lines if line.startswith("ERROR: ")]
    ends = [words for line in lines if (words := _exception(line)) is not None]
    if ends and (not errors or "due to an OSError" in errors[-1] or errors[-1] == "Exception:"):
        errors = [*errors[:-1], ends[-1]]
    words = " ".join(errors or lines[-3:])
    return _printable(_without_objects(words))[-MAX_WORDS:]


def _lines(log: str) -> Iterator[str]:
    return (line[:MAX_LINE] for line in log.strip().split("\n"))


def _versions(lines: list[str], missing: str) -> str | None:
    """Returns the versions that pip lists as available; None if there are none."""
    for line in lines:
        before, separator, rest = line.partition(" (from versions: ")
        requirement = before.partition("requirement ")[2]
        if separator and requirement.startswith(missing) and not rest.startswith("none)"):
            versions = _printable(rest.partition(")")[0]).split(", ")
            older = len(versions) - MOST_VERSIONS
            last = ", ".join(versions[-MOST_VERSIONS:])[-MAX_WORDS:]
            return f"{last}, and {older:,} older" if older > 0 else last
    return None


def _own_files(lines: list[str], missing: str) -> list[str]:
    """Returns the names of the package's own files that pip skipped."""
    return [name for name in _skipped(lines) if _project(name) == canonicalize_name(missing)]


def _skipped(lines: list[str]) -> Iterator[str]:
    """Yields the names of the files that pip skipped."""
    for line in lines:
        _, separator, rest = line.partition("Skipping link: ")
        for word in rest.split() if separator else ():
            if "://" in word:
                yield word.partition("#")[0].rsplit("/", 1)[-1]
                break


def _project(file: str) -> str:
    """Returns the project in the name of a wheel or a source archive."""
    at = file.find("-") if file.endswith(".whl") else file.rfind("-")
    return canonicalize_name(file[: max(at, 0)])


def _platform(wheel: str) -> str:
    """Returns the kind of platform in a wheel's name; the exact tag if it is another Pyodide's."""
    tag = wheel.removesuffix(".whl").rsplit("-", 1)[-1]
    if "emscripten" in tag or "pyodide" in tag:
        return tag
    ends = (at for at, character in enumerate(tag) if character in "_." or character.isdigit())
    return tag[: next(ends, len(tag))]


def _exception(line: str) -> str | None:
    """Returns the message of the line that ends a traceback."""
    kind, separator, words = line.partition(": ")
    last = kind.rpartition(".")[2]
    named = separator and kind.replace(".", "").isidentifier()
    is_exception = "." in kind or any(end in last for end in _EXCEPTION_ENDS)
    return words if named and is_exception else None


def _leading_name(text: str) -> str:
    ends = (at for at, character in enumerate(text) if character not in _NAME_CHARACTERS)
    return text[: next(ends, len(text))]


def _without_objects(text: str) -> str:
    """Removes reprs with the addresses of Python objects from the text."""
    parts = text.split("<")
    kept = [parts[0]]
    for part in parts[1:]:
        named, separator, rest = part.partition(" object at 0x")
        _, ended, words = rest.partition(">: ")
        if separator and ended and "." in named:
            kept[-1] = kept[-1].removesuffix("'")
            kept.append(words.replace("'", "", 1))
        else:
            kept.append(f"<{part}")
    return "".join(kept)


def without_credentials(text: str) -> str:
    """Removes user names and passwords from the URLs in a text."""
    return re.sub(r"://[^/\s]*@", "://", text)


def without_secrets(text: str) -> str:
    """Removes user names, passwords, and keys in queries from the URLs in a text."""
    return url_without_secrets(without_credentials(text))


def _printable(text: str) -> str:
    """Escapes control characters in the text, and removes credentials."""
    safe = without_secrets(text)
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in safe)
