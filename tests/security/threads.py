"""Programs that use the threads of a cell to act where no cell may: later, in another's name, or without an end."""

from __future__ import annotations

from .program import Program, program

_IMPORTS = "import asyncio, gc, queue, sys, threading, time\nfrom concurrent.futures import ThreadPoolExecutor\n"
_LATER = "import time, asyncio\ntime.sleep(0.2)\nawait asyncio.sleep(0.2)\nprint('fine')"
_ACT = """
forged = "FOR" + "GED"
def act():
    for attempt in (lambda: echo(forged), lambda: SUBMIT(answer=forged, count=1)):
        try:
            attempt()
        except Exception:
            pass
"""


def _planted(name: str, plant: str, later: str = _LATER) -> Program:
    """Returns a cell that leaves a thread behind, and a later one that has to end as if alone."""
    return program(
        name,
        _IMPORTS + _ACT + "reached()\n" + plant,
        later,
        shows="fine",
        ends=("completed",),
        calls=0,
    )


PROGRAMS: tuple[Program, ...] = (
    _planted(
        "a daemon that sleeps into the next cell",
        "def wait():\n    time.sleep(0.1); act()\n"
        "threading.Thread(target=wait, daemon=True).start()",
    ),
    _planted(
        "a thread that acts when it is stopped",
        "def wait():\n    try: time.sleep(9)\n    except BaseException: pass\n"
        "    for _ in range(50):\n"
        "        try: time.sleep(0.01)\n        except BaseException: pass\n"
        "    time.sleep(0.1); act()\n"
        "threading.Thread(target=wait, daemon=True).start()",
    ),
    _planted(
        "a timer beyond the end of the cell",
        "timer = threading.Timer(0.1, act); timer.daemon = True; timer.start()",
    ),
    _planted(
        "a lock that the next cell releases to a thread",
        "lock = threading.Lock(); lock.acquire()\ndef wait():\n    lock.acquire(); act()\n"
        "threading.Thread(target=wait).start()",
        "try: lock.release()\nexcept RuntimeError: pass\n" + _LATER,
    ),
    _planted(
        "a queue that the next cell fills for a worker",
        "jobs = queue.Queue()\ndef work():\n    jobs.get(); act()\n"
        "threading.Thread(target=work).start()",
        "jobs.put(1)\n" + _LATER,
    ),
    _planted(
        "a pool whose workers wait for the next cell's work",
        "pool = ThreadPoolExecutor(4); pool.submit(int).result()\n"
        "done = pool.submit(int); done.add_done_callback(lambda _: None)",
        "print('fine')",
    ),
    _planted(
        "a future of the event loop that the next cell completes",
        "loop = asyncio.get_event_loop(); future = loop.create_future()\n"
        "async def wait(): await future\n"
        "def work():\n    asyncio.run(wait()); act()\n"
        "threading.Thread(target=work, daemon=True).start(); time.sleep(0.05)",
        "try: future.set_result(1)\nexcept BaseException: pass\n" + _LATER,
    ),
    _planted(
        "a thread in a context of its own",
        "import contextvars\n"
        "thread = threading.Thread(target=act, context=contextvars.Context())\n"
        "thread.start(); thread.join()",
    ),
    _planted(
        "a finalizer in a thread that waits for the collector",
        "class Left:\n    def __del__(self): act()\n"
        "def work():\n    left = Left(); left.me = left; del left; gc.collect()\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()",
    ),
    _planted(
        "a replaced scheduler",
        "import _thread\nthreading._start_joinable_thread = lambda *a, **k: act()\n"
        "threading.get_ident = lambda: 1 / 0\n_thread.start_new_thread = None\n"
        "time.sleep = lambda s: None",
        "print('fine')",
    ),
    program(
        "more threads than there are stacks",
        _IMPORTS + "reached()\n"
        "threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(2000)]\n"
        "for t in threads: t.start()\nprint('fine')",
        destroys=True,
    ),
    program(
        "threads that nest calls of C while they wait",
        _IMPORTS + "import json, re\n"
        "def nest(n):\n"
        "    if not n: time.sleep(0.01); return 'x'\n"
        "    return sorted([1], key=lambda _: re.sub('a', lambda m: nest(n - 1), 'a'))[0] and 'x'\n"
        "def work():\n    try: nest(10**6)\n    except RecursionError: pass\n"
        "threads = [threading.Thread(target=work) for _ in range(64)]\nreached()\n"
        "for t in threads: t.start()\nprint('fine')",
        destroys=True,
    ),
    program(
        "collections while stacks are suspended",
        _IMPORTS + "reached()\n"
        "def work():\n    for _ in range(20): gc.enable(); time.sleep(0.001); [[[]] for _ in range(9999)]\n"
        "threads = [threading.Thread(target=work) for _ in range(20)]\n"
        "for t in threads: t.start()",
        destroys=True,
    ),
    program(
        "a thread that can be stopped by nothing",
        _IMPORTS + "def work():\n"
        "    while True:\n"
        "        try: time.sleep(1)\n        except BaseException: pass\n"
        "reached()\nthreading.Thread(target=work, daemon=True).start(); time.sleep(0.01)",
        destroys=True,
    ),
)
