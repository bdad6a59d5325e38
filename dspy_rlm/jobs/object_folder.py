"""The folder of a job in object storage, and its copy on this machine, which the job reads and writes.

A file of the journal only grows, and one process writes it, so of a file and its object the longer one is the newer one. Copied are

    program.json, rows.*, report.json   when they are written
    journal/, trajectories/             with each row that ends, before it counts; the beginning of a row within a second
    runs/                               every ten seconds, and at the end
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import platformdirs

from dspy_rlm.errors import JobError
from dspy_rlm.jobs.identity import FILE as IDENTITY_FILE
from dspy_rlm.jobs.object_claim import Claim
from sandbox_runtime.helpers import DaemonPool, Store, address_of, start_thread

CLAIM_FILE = "claim.json"

# The lines about rows that begin, and the journals of rows that are under way, are copied this often.
LINES_SECONDS = 1.0
RUNS_SECONDS = 10.0

# Objects that are fetched at the same time, and the largest one.
_FETCHES = 16
_MOST_BYTES = 4 * 1024**3

_LOCK = ".lock"


def is_object(out: object) -> bool:
    """Returns whether the folder of a job is named by an address: of object storage, or one that is none."""
    return isinstance(out, str) and "://" in out


def local_folder(out: str | os.PathLike[str]) -> Path:
    """Returns the folder with the journal of a job: its copy, fetched now, if it is in object storage.

    Raises:
        JobError: The storage cannot be used.
    """
    if not is_object(out):
        return Path(out)
    folder = ObjectFolder(str(out))
    try:
        folder.fetch()
    except OSError as error:
        raise JobError(f"The job cannot be read: {error}") from error
    return folder.local


class ObjectFolder:
    """The folder of a job in object storage. Nothing is read or written before it is asked for."""

    def __init__(self, url: str) -> None:
        """Opens no connection.

        Raises:
            JobError: The address is not one of object storage, or its client is not installed.
        """
        try:
            address = address_of(url.rstrip("/"), None)
            if address is None or address.scheme in ("http", "https") or not address.path:
                raise ValueError(
                    f"out must be a folder, or an address such as s3://bucket/name, not {url}."
                )
            self._store = Store(address)
        except (ValueError, ModuleNotFoundError) as error:
            raise JobError(str(error)) from error
        self.url = address.url
        digest = hashlib.sha256(self.url.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self.local = platformdirs.user_data_path("dspy-rlm", appauthor=False) / "jobs" / digest
        self._claim = Claim(self._store.below(CLAIM_FILE))
        self._lock = threading.Lock()  # guards the fields below, and an upload
        self._sizes: dict[str, int] = {}  # of the objects of the journal and of trajectories
        self._runs: dict[str, tuple[int, int]] = {}  # size and time of the files that were copied
        self._stopped = threading.Event()

    # ---- From the storage ----

    def has_job(self) -> bool:
        """Returns whether the storage has this job. Raises `OSError` if it cannot be reached."""
        return self._store.below(IDENTITY_FILE).read_small(_MOST_BYTES) is not None

    def fetch(self) -> None:
        """Brings the copy up to date: whatever other machines have added. Raises `OSError`."""
        objects = {name: stamp.size for name, stamp in self._store.objects() if _is_of_a_job(name)}
        if IDENTITY_FILE not in objects:
            self._clear()  # of a job that was removed
        self.local.mkdir(parents=True, exist_ok=True, mode=0o700)
        missing = [name for name, size in objects.items() if self._is_older(name, size)]
        pool = DaemonPool(_FETCHES, "rlm-job-objects")
        try:
            fetched = [pool.submit(functools.partial(self._download, name)) for name in missing]
            for one in fetched:
                one.result()
        finally:
            pool.close()
        with self._lock:
            self._sizes = {name: size for name, size in objects.items() if _is_lines(name)}
            self._runs = {name: (-1, -1) for name in objects if name.startswith("runs/")}

    def _is_older(self, name: str, size: int) -> bool:
        """Returns whether the copy lacks what an object has. Trajectories are only written."""
        path = self.local / name
        if name.startswith("trajectories/"):
            return False
        if name.startswith("runs/") and path.name != "run.jsonl":
            return not path.exists()
        return name == IDENTITY_FILE or not path.exists() or path.stat().st_size < size

    def _download(self, name: str) -> None:
        data = self._store.below(name).read_small(_MOST_BYTES)
        if data is None:
            return  # it was removed meanwhile
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in list(self.local.iterdir()):
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != _LOCK:
                    path.unlink()

    # ---- To the storage ----

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Claims the job, brings the copy up to date, and copies what is added to it.

        Raises:
            JobError: Another process works on it, or the storage cannot be used.
        """
        try:
            self._claim.take()
        except OSError as error:
            raise JobError(f"The job cannot be claimed: {error}") from error
        try:
            try:
                self.fetch()
                self.keep(sorted(self.local.glob("trajectories/*.jsonl")))
                self.keep(sorted(self.local.glob("journal/*.jsonl")))
            except OSError as error:
                raise JobError(f"The job cannot be read: {error}") from error
            start_thread(self._copy, "rlm-job-objects")
            yield
        finally:
            self._stopped.set()
            self._claim.release()

    def check(self) -> None:
        """Raises `OSError` if another process has taken the job over."""
        self._claim.check()

    def keep(self, paths: Sequence[Path]) -> None:
        """Copies files to which lines were added. Raises `OSError`."""
        self._claim.check()
        with self._lock:
            for path in paths:
                name = path.relative_to(self.local).as_posix()
                if path.stat().st_size <= self._sizes.get(name, 0):
                    continue
                data = path.read_bytes()
                data = data[: data.rfind(b"\n") + 1]  # the last line may be on its way
                if len(data) > self._sizes.get(name, 0):
                    self._store.below(name).write(data)
                    self._sizes[name] = len(data)

    def send(self, name: str) -> None:
        """Copies a file. Raises `OSError`."""
        self._claim.check()
        self._store.below(name).write(self.local / name)

    def send_runs(self) -> None:
        """Copies the journals of rows that are under way, and removes those of rows that have ended. Raises `OSError`."""
        self._claim.check()
        with self._lock:
            present = _files_of_runs(self.local)
            for name, state in present.items():
                if self._runs.get(name) == state:
                    continue
                with contextlib.suppress(FileNotFoundError):  # the row has ended
                    data = (self.local / name).read_bytes()
                    if name.endswith(".jsonl"):
                        data = data[: data.rfind(b"\n") + 1]
                    self._store.below(name).write(data)
                    self._runs[name] = state
            if gone := [name for name in self._runs if name not in present]:
                self._store.delete(gone)
                for name in gone:
                    del self._runs[name]

    def _copy(self) -> None:
        """Copies now and then what no row waits for."""
        runs_at = time.monotonic() + RUNS_SECONDS
        while not self._stopped.wait(LINES_SECONDS):
            with contextlib.suppress(OSError):  # a row that ends reports it
                self.keep(sorted(self.local.glob("journal/*.jsonl"))[-1:])
                if time.monotonic() >= runs_at:
                    self.send_runs()
                    runs_at = time.monotonic() + RUNS_SECONDS


def _files_of_runs(local: Path) -> Mapping[str, tuple[int, int]]:
    """Returns the files of rows that are under way, by their names in the job, with their size and time."""
    found = {}
    for path in (local / "runs").glob("*/**/*"):
        name = path.relative_to(local).as_posix()
        if _is_of_a_job(name):
            with contextlib.suppress(OSError):  # the row has ended
                state = path.stat()
                if path.is_file():
                    found[name] = (state.st_size, state.st_mtime_ns)
    return found


def _is_lines(name: str) -> bool:
    return name.startswith(("journal/", "trajectories/"))


def _is_of_a_job(name: str) -> bool:
    """Returns whether an object is one that a job has: the names in a bucket may be any text."""
    parts = PurePosixPath(name).parts
    if "\\" in name or ":" in name or "/".join(parts) != name:
        return False
    if any(part.startswith(".") for part in parts):
        return False
    if _is_lines(name):
        return len(parts) == 2 and name.endswith(".jsonl")
    if name.startswith("runs/"):
        return len(parts) >= 3 and not parts[1].startswith("ended-")
    return name == IDENTITY_FILE
