"""The cell driver with a minimal host, in this Python process."""

from __future__ import annotations

import asyncio
import json
import marshal
import re

from sandbox_runtime.guest.driver import Driver
from sandbox_runtime.guest.values.plain_json import is_plain
from sandbox_runtime.values import encoder as values


def _told(error):
    base = next(k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
    return {"message": str(error), "data": {"type": type(error).__name__, "base": base}}


class FakeHost:
    """A `DriverHost` whose tools are plain functions."""

    def __init__(self, tools):
        self.tools = tools
        self.emitted = []
        self.begun = []
        self.driver = None
        self.raw = ""
        self.signals = 0
        self.echoes = set()  # which objects occur again
        self._loop = asyncio.new_event_loop()

    def call(self, mode, tool, arguments, extras):
        call_arguments = values.decode([arguments.encode(), *extras])
        try:
            if mode == "batch":
                result = [self._outcome(tool, *item) for item in call_arguments]
            else:
                args, kwargs = call_arguments
                result = self.tools[tool](*args, **kwargs)
            kind, parts = values.encode(result, tool)
        except Exception as error:  # noqa: BLE001 - as the real host does
            return ":" + json.dumps({"error": _told(error)}), []
        reply = {"result": {"kind": kind, "inline": ""}}
        return ":" + json.dumps(reply), [bytes(p) for p in parts]

    def _outcome(self, tool, args, kwargs):
        try:
            return True, self.tools[tool](*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as the real host does
            return False, _told(error)

    def begin(self, ticket, tool, arguments, extras):
        self.begun.append(tool)
        text, parts = self.call("aio", tool, arguments, extras)
        self._loop.call_later(0.01, self.driver.calls.answered, ticket, text, parts)

    def emit(self, text):
        self.emitted.append(text)

    def hold(self, packed, most):
        value = marshal.loads(packed)
        if not is_plain(value, depth=100, chars=65_536, bits=14_000):
            return False
        self.held = json.dumps(value).encode()
        return len(self.held) <= most

    def heard(self):
        self.signals += 1
        return self.signals not in self.echoes

    def note_overdue(self, overdue):
        self.overdue = overdue

    def drain_raw(self):
        raw, self.raw = self.raw, ""
        return raw

    def wait_for(self, awaitable):
        return self._loop.run_until_complete(awaitable)

    def close(self):
        self._loop.close()


class Cells:
    """A driver and the outcomes of its cells, with the wire names."""

    def __init__(self, tools=None, outputs=None, output_chars=10_000):
        self.host = FakeHost(tools or {})
        self.driver = self.host.driver = Driver(self.host, output_chars)
        self.count = 0
        self.register(tools or {}, outputs)

    def register(self, tools, outputs):
        self.host.tools = tools
        fields = outputs and [{"name": name, "type": kind} for name, kind in outputs.items()]
        declared = [{"name": name, "doc": f"{name}()\n\nDoes it."} for name in tools]
        self.driver.register(json.dumps({"tools": declared, "outputs": fields}))

    def run(self, code):
        self.count += 1
        self.driver.prepare(self.count, code)
        text, *parts = self.driver.run(self.count, code)
        parts = [self.host.held] if parts == [b""] else parts
        end = json.loads(text)
        if end["outcome"] == "submitted":
            end["outputs"] = values.decode(parts)
        return end

    def output(self, code):
        end = self.run(code)
        assert end["outcome"] == "completed", end
        return end["output"]

    def error(self, code):
        end = self.run(code)
        assert end["outcome"] == "failed", end
        return f"{end['errorType']}: {end['message']}"

    def traceback(self, code):
        """Returns the traceback without the markers under the lines, which differ between versions of Python."""
        end = self.run(code)
        assert end["outcome"] == "failed", end
        lines = end["traceback"].splitlines()
        return "\n".join(line for line in lines if not re.fullmatch(r"[ |]*[~^]+", line))

    def submitted(self, code):
        end = self.run(code)
        assert end["outcome"] == "submitted", end
        return end["outputs"]
