"""Programs that try to reach the network: by sockets, HTTP, or any module of the interpreter."""

from __future__ import annotations

from .program import JAVASCRIPT, program

PROGRAMS = (
    program(
        "a socket",
        'import socket\nreached()\nsocket.create_connection(("127.0.0.1", @PORT@), 3).send(b"x")',
    ),
    program(
        "a raw socket call",
        """
import socket
one = socket.socket()
one.setblocking(False)
try:
    one.connect(("127.0.0.1", @PORT@))
except OSError as error:
    print(error)
import asyncio
await asyncio.sleep(0.3)
reached()
one.send(b"x")
""",
    ),
    program(
        "a datagram",
        'import socket\nreached()\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", @PORT@))',
    ),
    program(
        "urllib",
        'import urllib.request\nreached()\nprint(urllib.request.urlopen("http://127.0.0.1:@PORT@/x", timeout=3).read())',
    ),
    program(
        "http.client",
        'import http.client\nc = http.client.HTTPConnection("127.0.0.1", @PORT@, timeout=3)\nreached()\nc.request("GET", "/")\nprint(c.getresponse())',
    ),
    program(
        "asyncio.open_connection",
        'import asyncio\nreached()\nprint(await asyncio.wait_for(asyncio.open_connection("127.0.0.1", @PORT@), 3))',
    ),
    program(
        "a server of its own",
        'import socket\nreached()\none = socket.create_server(("127.0.0.1", 0))\nprint(one.accept() if one.getsockname()[1] else None)',
    ),
    program(
        "pyodide.http.pyfetch",
        'from pyodide.http import pyfetch\nreached()\nprint(await (await pyfetch("http://127.0.0.1:@PORT@/x")).text())',
    ),
    program(
        "pyodide.http.open_url",
        'from pyodide.http import open_url\nreached()\nprint(open_url("http://127.0.0.1:@PORT@/x").read())',
    ),
    program(
        "fetch from JavaScript", JAVASCRIPT + 'print(await js.fetch("http://127.0.0.1:@PORT@/x"))'
    ),
    program(
        "a WebSocket from JavaScript",
        JAVASCRIPT
        + """
import asyncio
socket = js.WebSocket.new("ws://127.0.0.1:@PORT@/")
await asyncio.sleep(0.5)
print(socket.readyState)
""",
    ),
    program(
        "an XMLHttpRequest from JavaScript",
        JAVASCRIPT
        + """
request = js.XMLHttpRequest.new()
request.open("GET", "http://127.0.0.1:@PORT@/", False)
request.send()
print(request.responseText)
""",
    ),
    program(
        "Deno.connect from JavaScript",
        JAVASCRIPT
        + 'from pyodide.ffi import to_js\nprint(await js.Deno.connect(to_js({"port": @PORT@}, dict_converter=js.Object.fromEntries)))',
    ),
    program(
        "micropip from the local port",
        'reached()\nimport micropip\nawait micropip.install("http://127.0.0.1:@PORT@/x-1.0-py3-none-any.whl")',
    ),
    program(
        "pyodide's own loader of packages",
        'reached()\nimport pyodide_js\nprint(await pyodide_js.loadPackage("http://127.0.0.1:@PORT@/x-1.0-py3-none-any.whl"))',
    ),
    program(
        "the socket by ctypes",
        """
import ctypes, struct
libc = ctypes.CDLL(None)
one = libc.socket(2, 1, 0)
address = struct.pack("=H", 2) + struct.pack(">H", @PORT@) + bytes([127, 0, 0, 1]) + bytes(8)
print(one, libc.connect(one, address, 16), libc.send(one, b"x", 1, 0))
reached()
""",
    ),
    program(
        "smtplib and ftplib",
        """
import ftplib, smtplib
for ask in (lambda: smtplib.SMTP("127.0.0.1", @PORT@, timeout=3), lambda: ftplib.FTP().connect("127.0.0.1", @PORT@, 3)):
    reached()
    try:
        print(ask())
    except Exception as error:
        print(type(error), error)
""",
    ),
    program(
        "names are looked up",
        'import socket\nreached()\nprint(socket.gethostbyname("leak.@VARIABLE@.invalid"))',
    ),
)
