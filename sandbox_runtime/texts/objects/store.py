"""Objects by their addresses: `s3://`, `gs://`, `az://`, `http://`, `https://`. One client for all of them: the package obstore.

Credentials come from the environment of the process, as the stores' own tools read them. Knows no texts.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.redaction.secret_patterns import is_secret_name, url_without_secrets

# The schemes of object stores, with the tools whose settings name the credentials.
_STORES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfss": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_WEB = ("http", "https")

# A drive of Windows, such as `C:`, is no scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30})://")

# Seconds for one request, and for it with its retries: a cell waits meanwhile.
_CLIENT = {"timeout": "30s", "connect_timeout": "10s"}
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}

# The most bytes of an object that is written here, such as an index.
MOST_WRITTEN_BYTES = 1024**3


@dataclasses.dataclass(frozen=True)
class Stamp:
    """The state of an object, by which another process knows it."""

    size: int
    tag: str
    """The ETag, or the time of the last change where a server states no ETag; empty if it states neither."""


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of an object, or of the objects whose names begin with it."""

    url: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the store, such as `aws_region`; see obstore's documentation."""

    @property
    def scheme(self) -> str:
        """The scheme, in small letters."""
        return self.url.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """The last part of the path."""
        path = self.path.rstrip("/")
        return path.rpartition("/")[2] or self.shown

    @property
    def path(self) -> str:
        """The path without its leading slash. That of a web address is decoded, as stores take it."""
        if self.scheme in _WEB:
            return unquote(urlsplit(self.url).path).lstrip("/")
        return self.url.partition("://")[2].partition("/")[2]

    @property
    def shown(self) -> str:
        """The address without secrets, such as the signature in a query."""
        return url_without_secrets(self.url)

    @property
    def sent_options(self) -> dict[str, Any]:
        """The options that may travel to another process: no credentials."""
        return {name: value for name, value in self.options.items() if not is_secret_name(name)}

    def beside(self, suffix: str) -> Address:
        """Returns the address whose path has a suffix more."""
        if self.scheme in _WEB:
            parts = urlsplit(self.url)
            return Address(urlunsplit(parts._replace(path=parts.path + suffix)), self.options)
        return Address(self.url + suffix, self.options)


def address_of(place: str | os.PathLike[str], options: Mapping[str, Any] | None) -> Address | None:
    """Returns the address of an object; None for the path of a file.

    Raises:
        ValueError: The scheme is unknown, or options are passed for a file.
    """
    found = _SCHEME.match(place) if isinstance(place, str) else None
    scheme = found[1].lower() if found else ""
    if scheme in ("", "file"):
        if options:
            raise ValueError("storage_options are for objects; the path of a file takes none.")
        return None
    if scheme not in _STORES and scheme not in _WEB:
        raise ValueError(
            f"{scheme}:// addresses are not read. Known are {', '.join([*_STORES, *_WEB, 'file'])}."
        )
    return Address(str(place), dict(options or {}))


def local_path(place: str | os.PathLike[str]) -> str:
    """Returns the path of a file, which may be named as `file://`."""
    text = os.fspath(place)
    if not text.lower().startswith("file://"):
        return text
    return url2pathname(urlsplit(text).path)


class Store:
    """The client of the store of one address."""

    def __init__(self, address: Address) -> None:
        """Opens no connection.

        Raises:
            ModuleNotFoundError: obstore is not installed: `pip install "dspy-rlm[objects]"`.
            ValueError: The address or an option is not valid.
        """
        try:
            stores = import_module("obstore.store")
            self._errors = import_module("obstore.exceptions")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f'Reading {address.shown} needs the package obstore: pip install "dspy-rlm[objects]".',
                name=error.name,
            ) from error
        self.address = address
        base, self.path = _split(address)
        client = {**_CLIENT, **({"allow_http": True} if _is_unencrypted(address) else {})}
        options: dict[str, Any] = {"client_options": client, "retry_config": _RETRIES}
        if address.options:
            options["config"] = dict(address.options)
        try:
            self._store: Any = stores.from_url(base, **options)
        except (self._errors.BaseError, ValueError) as error:
            raise ValueError(f"{address.shown} cannot be read: {_first_line(error)}") from error

    def stamp(self) -> Stamp:
        """Returns the state of the object.

        Raises:
            OSError: It cannot be read; the message says why, and what to do.
        """
        with self._translated():
            return _stamp(self._store.head(self.path))

    def read(self, start: int, stop: int, stamp: Stamp) -> bytes:
        """Returns a range of the object's bytes.

        Raises:
            TextChangedError: The object is no longer the one of the stamp.
            OSError: It cannot be read.
        """
        if stop <= start:
            return b""
        options: dict[str, Any] = {"range": (start, stop)}
        if stamp.tag.startswith('"'):  # no weak one, which is for no range
            options["if_match"] = stamp.tag
        with self._translated():
            try:
                answer = self._store.get(self.path, options=options)
                now = _stamp(answer.meta)
                data = bytes(answer.bytes())
            except (self._errors.PreconditionError, FileNotFoundError):
                raise _changed(self.address) from None
        if (now.size, now.tag or stamp.tag) != (stamp.size, stamp.tag) or len(data) != stop - start:
            raise _changed(self.address)
        return data

    def read_small(self, most: int) -> bytes | None:
        """Returns all of an object's bytes; None if there is none, or it is larger."""
        with self._translated():
            try:
                answer = self._store.get(self.path)
                return bytes(answer.bytes()) if answer.meta["size"] <= most else None
            except FileNotFoundError:
                return None

    def below(self, path: str) -> Store:
        """Returns the object at a path below this one, by the same client."""
        other = copy.copy(self)
        other.address = self.address.beside(f"/{path}")
        other.path = f"{self.path}/{path}" if self.path else path
        return other

    def write(self, data: bytes | Path, *, over: str | None = None) -> str:
        """Writes an object, whole or not at all; returns the tag of its new state.

        Args:
            data: Its bytes, or the file that has them.
            over: The tag of the state that it replaces; an empty one: there is no object yet. None: any state.

        Raises:
            FileExistsError: Its state is another one.
            OSError: It cannot be written.
        """
        mode: Any = {None: "overwrite", "": "create"}.get(over) or {"e_tag": over}
        with self._translated("written"):
            try:
                return str(self._store.put(self.path, data, mode=mode)["e_tag"] or "")
            except (self._errors.AlreadyExistsError, self._errors.PreconditionError) as error:
                raise FileExistsError(f"{self.address.shown} has another state.") from error
            except FileNotFoundError as error:
                raise OSError(
                    f"{self.address.shown} cannot be written: there is no such bucket."
                ) from error

    def delete(self, paths: Sequence[str] = ()) -> None:
        """Deletes the object, or those at the paths below it. Raises `OSError` if that is not allowed."""
        with self._translated("deleted"), contextlib.suppress(FileNotFoundError):
            self._store.delete([self.below(path).path for path in paths] or self.path)

    def objects(self) -> Iterator[tuple[str, Stamp]]:
        """Yields the objects below the address, by their paths below it.

        Raises:
            OSError: They cannot be listed.
        """
        if self.address.scheme in _WEB:
            raise OSError(
                f"A web server cannot be listed: {self.address.shown}. Pass its texts one by one, as TextFile(url)."
            )
        prefix = f"{self.path.rstrip('/')}/" if self.path.strip("/") else ""
        with self._translated():
            for batch in self._store.list(prefix or None):
                for meta in batch:
                    if meta["path"].startswith(prefix):
                        yield meta["path"][len(prefix) :], _stamp(meta)

    @contextlib.contextmanager
    def _translated(self, done: str = "read") -> Iterator[None]:
        shown, errors = self.address.shown, self._errors
        try:
            yield
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(f"There is no object {shown}.") from error
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise PermissionError(
                f"{shown} may not be {done} with the credentials of this process{self._advice}"
            ) from error
        except errors.NotSupportedError as error:
            raise OSError(
                f"{shown} cannot be read in ranges: its server sends whole files only. Download it, and pass the file."
            ) from error
        except (errors.BaseError, ValueError) as error:
            text = _first_line(error)
            if any(sign in text for sign in _NO_CREDENTIALS):
                raise PermissionError(
                    f"There are no credentials for {shown}{self._advice}"
                ) from error
            raise OSError(f"{shown} cannot be {done}: {url_without_secrets(text)}") from error

    @property
    def _advice(self) -> str:
        names = _STORES.get(self.address.scheme)
        return f": set {names}, or pass storage_options." if names else "."


# The service of a cloud's machine, which a store's client asks for credentials if it has none.
_NO_CREDENTIALS = ("/latest/api/token", "/computeMetadata/", "token request", "credential")


def _is_unencrypted(address: Address) -> bool:
    """Returns whether the user has named an `http://` address: of the object, or of the store's endpoint."""
    ends = [value for name, value in address.options.items() if "endpoint" in name.lower()]
    ends += [
        os.environ.get(name, "")
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
    ]
    return any(str(end).lower().startswith("http://") for end in (address.url, *ends))


def _split(address: Address) -> tuple[str, str]:
    """Returns the address of the store, and the path in it."""
    if address.scheme in _WEB:
        parts = urlsplit(address.url)
        folder, _, name = parts.path.rpartition("/")
        # The query belongs to each request, as that of a signed address does.
        return urlunsplit(parts._replace(path=folder, fragment="")), unquote(name)
    scheme, _, rest = address.url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}", address.path


def _stamp(meta: Mapping[str, Any]) -> Stamp:
    tag = meta.get("e_tag") or ""
    changed = meta.get("last_modified")
    if not tag and changed is not None and changed.timestamp() > 0:
        tag = changed.isoformat()
    return Stamp(int(meta["size"]), tag)


def _changed(address: Address) -> TextChangedError:
    return TextChangedError(
        f"{address.shown} has changed since it became an input, or is gone, so earlier results may be wrong. "
        "Pass it as an input again."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
