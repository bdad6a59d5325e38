"""Downloads the address of an input: HTTP and HTTPS only, bounded in time, size and redirects.

The user chose the address, so a private address is read, with a note. A server chose a redirect, so it may not lead from a public
address to a private one, nor from HTTPS to HTTP. The address of a connection is checked when it is opened, which defeats DNS rebinding.
"""

from __future__ import annotations

import base64
import functools
import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.content import Content
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.inputs.spool import Spool
from sandbox_runtime.helpers import url_without_secrets

_PIECE_BYTES = 64 * 1024
_SCHEMES = ("http", "https")

# Some servers refuse clients without a name.
_HEADERS = {"User-Agent": "dspy-rlm", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass
class _Journey:
    """The state of one download, shared by its connections and redirects."""

    bounds: InputBounds
    started: float
    proxies: frozenset[str]
    redirects: int = 0
    private: bool = False
    """True if the first address is a private one."""

    @property
    def remaining(self) -> float:
        return self.started + self.bounds.download_seconds - time.monotonic()


class _RefusedError(Exception):
    """The download is refused; the message says why."""


def download(url: str, spool: Spool, bounds: InputBounds) -> Content:
    """Downloads an address to a temporary file.

    Raises:
        InputError: It cannot be downloaded; the message says why.
    """
    shown = url_without_secrets(url)
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise InputError(
            f"Cannot read {shown}: only http and https addresses are read, not {scheme}. Download it and name the file."
        )
    journey = _Journey(bounds, time.monotonic(), _proxy_hosts())
    opener = urllib.request.build_opener(_Http(journey), _Https(journey), _Redirects(journey))
    opener.addheaders = list(_HEADERS.items())
    try:
        with opener.open(_request(url), timeout=bounds.connect_seconds) as response:
            path = spool.write(_pieces(response, journey), shown, bounds.download_bytes)
            headers, final = response.headers, response.url
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(
            f"Cannot read {shown}: the server answered {error.code} {error.reason}."
        ) from error
    except _RefusedError as error:
        raise InputError(f"Cannot read {shown}: {error}.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, _RefusedError):
            raise InputError(f"Cannot read {shown}: {reason}.") from error
        if isinstance(reason, TimeoutError):
            raise InputError(f"Cannot read {shown}: the server did not answer in time.") from error
        text = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
        raise InputError(
            f"Cannot read {shown}: {text.rstrip('.')}. Check the address and the network."
        ) from error
    content = Content(
        shown.partition("#")[0],
        path,
        spool,
        headers.get_content_type(),
        headers.get_content_charset() or "",
        path_name=unquote(urlsplit(url).path),
    )
    if journey.private:
        content.notes.append("from a private address")
    if journey.redirects:
        content.notes.append(f"redirected to {url_without_secrets(final)}")
    return content


def _pieces(response: Any, journey: _Journey) -> Iterator[bytes]:
    bounds = journey.bounds
    stated = response.headers.get("Content-Length", "")
    if stated.isdecimal() and int(stated) > bounds.download_bytes:
        raise _RefusedError(
            f"it has {size_text(int(stated))}, and at most {size_text(bounds.download_bytes)} are downloaded"
        )
    read = 0
    while piece := response.read1(_PIECE_BYTES):
        read += len(piece)
        if journey.remaining <= 0:
            raise _RefusedError(f"the download takes longer than {bounds.download_seconds:g} s")
        if read > bounds.download_bytes:
            raise _RefusedError(
                f"it has more than {size_text(bounds.download_bytes)}, the most that is downloaded"
            )
        yield piece
    if stated.isdecimal() and read < int(stated):
        raise _RefusedError(f"the connection ended after {read:,} of {int(stated):,} bytes")


def _request(url: str) -> urllib.request.Request:
    """Returns the request. A user and a password in the address go to its server alone, not behind a redirect."""
    parts = urlsplit(url)
    user, mark, place = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=place, fragment="")))  # noqa: S310 - checked
    if mark:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _proxy_hosts() -> frozenset[str]:
    hosts = (
        urlsplit(url if "://" in url else f"//{url}").hostname
        for url in urllib.request.getproxies().values()
    )
    return frozenset(host for host in hosts if host)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, journey: _Journey) -> None:
        self._journey = journey

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        self._journey.redirects += 1
        if self._journey.redirects > self._journey.bounds.redirects:
            raise _RefusedError(
                f"it is redirected more than {self._journey.bounds.redirects} times"
            )
        if scheme not in _SCHEMES or (scheme == "http" and req.type == "https"):
            raise _RefusedError(
                f"it is redirected from {req.type} to {scheme}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connected(journey: _Journey, host: str, port: int) -> socket.socket:
    """Connects to a host, after a check of its addresses."""
    timeout = min(journey.bounds.connect_seconds, journey.remaining)
    if timeout <= 0:
        raise TimeoutError
    problem: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        if (
            host not in journey.proxies
            and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global
        ):
            if journey.redirects and not journey.private:
                raise _RefusedError(
                    f"it is redirected to {host}, a private address, which is not followed"
                )
            journey.private = journey.private or not journey.redirects
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            problem = error
        else:
            return connection
    raise problem


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, journey: _Journey, **options: Any) -> None:
        super().__init__(host, **options)
        self._journey = journey

    def connect(self) -> None:
        self.sock = _connected(self._journey, self.host, self.port)
        if self._tunnel_host:  # type: ignore[attr-defined]
            self._tunnel()  # type: ignore[attr-defined]


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, journey: _Journey, **options: Any) -> None:
        super().__init__(host, **options)
        self._journey = journey

    def connect(self) -> None:
        self.sock = _connected(self._journey, self.host, self.port)
        name = self.host
        if self._tunnel_host:  # type: ignore[attr-defined]
            self._tunnel()  # type: ignore[attr-defined]
            name = self._tunnel_host  # type: ignore[attr-defined]
        self.sock = self._context.wrap_socket(self.sock, server_hostname=name)  # type: ignore[attr-defined]


class _Http(urllib.request.HTTPHandler):
    def __init__(self, journey: _Journey) -> None:
        super().__init__()
        self._journey = journey

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Connection, journey=self._journey), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, journey: _Journey) -> None:
        super().__init__()
        self._journey = journey

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection = functools.partial(_SecureConnection, journey=self._journey)
        return self.do_open(connection, req, context=ssl.create_default_context())
