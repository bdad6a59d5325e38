"""Lock files with hashes, instead of package names."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from package_index import sha256
from resolving import refusal, refusal_of

from sandbox_runtime import (
    Completed,
    PackageError,
    Pool,
    __main__,
    open_session,
)
from sandbox_runtime.packages import pip_shim as pip_for_sandbox
from sandbox_runtime.packages import resolve as packages
from sandbox_runtime.packages import store as package_sets
from sandbox_runtime.packages.lockfile import MAX_LOCK_BYTES, Pin, hashes_by_name, read_lock


def pylock(name: str, file: str, kind: str, digest: str) -> str:
    """A lock file of PEP 751 for one package with one wheel."""
    return (
        f'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "{name}"\nversion = "1.0"\n'
        f'wheels = [{{name = "{file}", url = "https://i.invalid/{file}", hashes = {{{kind} = "{digest}"}}}}]\n'
    )


class TestHostileIndex:
    """Only the lock file's own hashes count, whatever an index states and in which order it serves its files."""

    @pytest.fixture
    def cheating(self, index, wheel):
        """Puts a package into the index that serves a good file once, then the one whose hash it states."""

        def add(name: str, *requires: str) -> bytes:
            good = wheel(name, "1.0", *requires).read_bytes()
            other = wheel(name, "1.0", *requires, files={f"{name}.py": "VERSION = 'EVIL'\n"})
            digest, data = sha256(other), other.read_bytes()
            index.serve_in_turn(index.add(other, digest), good, data)
            return good

        return add

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("kind", ["sha256", "sha384", "sha512"])
    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    def test_it_states_the_hash_of_another_file(self, cheating, tmp_path, name, kind):
        """pip repeats the index's hash in its report, also after it has compared the file with the lock file."""
        digest = hashlib.new(kind, cheating("thing")).hexdigest()
        lock = tmp_path / name
        lock.write_text(
            f"thing==1.0 --hash={kind}:{digest}\n"
            if name.endswith(".txt")
            else pylock("thing", "thing-1.0-py3-none-any.whl", kind, digest)
        )

        assert "HASH" in refusal_of(lock).upper()
        assert not [*package_sets.cache_folder().glob("*-*")]

    def test_it_cheats_with_a_dependency_of_another_spelling(
        self, cheating, index, wheel, tmp_path
    ):
        """Every package of the lock file is compared, by its normalized name."""
        thing = index.add(wheel("thing", "1.0", "Inner_Part"))
        inner = hashlib.sha512(cheating("inner_part")).hexdigest()
        lock = tmp_path / "requirements.txt"
        lock.write_text(
            f"Thing==1.0 --hash=sha256:{sha256(thing)}\nINNER.part==1.0 --hash=sha512:{inner}\n"
        )

        assert "HASH" in refusal_of(lock).upper()

    def test_without_a_lock_file_it_decides(self, cheating):
        """A file with another hash than the index states is not used; the index could have stated its hash."""
        cheating("thing")

        assert "HASH" in refusal("thing").upper()

    def test_an_honest_one(self, index, wheel, tmp_path):
        """Names of another spelling, and hashes that are not SHA-256, lead to the same file."""
        thing = index.add(wheel("thing_one"))
        digest = hashlib.sha512(thing.read_bytes()).hexdigest()
        lock = tmp_path / "requirements.txt"
        lock.write_text(f"Thing.One==1.0 --hash=sha512:{digest} --hash=sha256:{'1' * 64}\n")

        [package] = packages.resolve(lock).packages

        assert package.sha256 == sha256(thing)

    def test_an_address_with_a_hash_of_its_own(self, index, wheel, tmp_path):
        """pip takes a hash in an address for one of the lock file's; the files are compared without pip too."""
        path = index.add(wheel("mine"))
        lock = tmp_path / "requirements.txt"
        address = f"{index.url}mine/{path.name}#sha256={sha256(path)}"
        lock.write_text(f"mine @ {address} --hash=sha256:{'1' * 64}\n")

        message = refusal_of(lock)

        assert f"{path.name} is not mounted: its SHA-256 is {sha256(path)}" in message

    @pytest.mark.parametrize("kind", ["sha256", "sha512"])
    def test_a_set_in_the_cache_is_compared_too(self, resolved, index, tmp_path, kind):
        """What an entry of the cache leads to must have the lock file's hashes."""
        found = packages.resolve([resolved])
        [wheel] = found.folder.glob("*.whl")
        digest = hashlib.new(kind, wheel.read_bytes()).hexdigest()
        lock = tmp_path / "requirements.txt"

        def remember(line: str) -> Path:
            lock.write_text(line)
            key = [
                *(package_sets.FORMAT, pip_for_sandbox.PLATFORM),
                *(pip_for_sandbox.MARKERS["python_full_version"], line),
            ]
            note = package_sets.cache_folder() / f"request-{package_sets.digest_of(key)}.json"
            note.write_text(json.dumps({"set": found.key}))
            return lock

        assert packages.resolve(remember(f"thing==1.0 --hash={kind}:{digest}")) == found
        for line in (
            f"thing==1.0 --hash={kind}:{'1' * len(digest)}",
            f"other==1.0 --hash={kind}:{digest}",
            f"thing==2.0 --hash={kind}:{digest}",
        ):
            assert "is not mounted" in refusal_of(remember(line))

    def test_which_hashes_count(self):
        """Those of all lines for the package's version and for its address, and of no other line."""
        pins = [
            Pin("Thing_One==1.0", ("sha256:a",)),
            Pin("thing.one==1.0", ("sha256:b", "sha512:c")),
            Pin("thing-one==2.0", ("sha256:d",)),
            Pin("thing-one @ https://i.invalid/x.whl", ("sha256:e",)),
            Pin("thing==1.0", ("sha256:f",)),
        ]

        found = hashes_by_name(pins, {"thing-one": "1.0", "another": "1.0"})

        assert found == {"thing-one": ("sha256:a", "sha256:b", "sha256:e", "sha512:c")}


class TestLockFile:
    """A lock file with hashes: a file with another hash is not used."""

    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    @pytest.mark.parametrize("place", ["mine/{}?key=${{PIP_TOKEN}}", "${{PIP_TOKEN}}/{}"])
    def test_an_address_sends_nothing_of_the_environment(
        self, index, wheel, tmp_path, monkeypatch, name, place
    ):
        """pip puts variables of the environment into addresses; a lock file's author would receive them."""
        monkeypatch.setenv("PIP_TOKEN", "SECRET-OF-THE-INDEX")
        path = index.add(wheel("mine"))
        address, digest = index.url + place.format(path.name), sha256(path)
        lock = tmp_path / name
        lock.write_text(
            f"mine @ {address} --hash=sha256:{digest}\n"
            if name.endswith(".txt")
            else 'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "mine"\nversion = "1.0"\n'
            f'archive = {{url = "{address}", hashes = {{sha256 = "{digest}"}}}}\n'
        )

        assert "cannot be passed to pip" in refusal_of(lock)
        assert index.requests == []

    @pytest.fixture
    def locked(self, index, wheel, tmp_path):
        """Two packages in the index, one of which needs the other, and a lock file for them."""
        digests = {
            "thing": sha256(index.add(wheel("thing", "1.0", "inner>=1"))),
            "inner": sha256(index.add(wheel("inner"))),
        }
        index.add(wheel("thing", "2.0"))

        def write(name: str = "requirements.txt", **hashes: str) -> Path:
            path = tmp_path / name
            hash_by_name = {**digests, **hashes}
            if name.endswith(".toml"):
                path.write_text(
                    'lock-version = "1.0"\ncreated-by = "test"\n'
                    + "".join(
                        f'[[packages]]\nname = "{one}"\nversion = "1.0"\n'
                        f'wheels = [{{name = "{one}-1.0-py3-none-any.whl", '
                        f'url = "https://i.invalid/{one}-1.0-py3-none-any.whl", '
                        f'hashes = {{sha256 = "{digest}"}}}}]\n'
                        for one, digest in hash_by_name.items()
                    )
                    + '[[packages]]\nname = "windows"\nversion = "1.0"\n'
                    'marker = "sys_platform == \'win32\'"\nvcs = {type = "git", '
                    'url = "https://i.invalid/w", commit-id = "1"}\n'
                )
            else:
                path.write_text(
                    "# made by hand\n"
                    + "".join(
                        f"{one}==1.0 \\\n    --hash=sha256:{'1' * 64} \\\n"
                        f"    --hash=sha256:{digest}\n    # via nothing\n"
                        for one, digest in hash_by_name.items()
                    )
                    + "windows==1.0 ; sys_platform == 'win32'\n"
                )
            return path

        return write

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml", "pylock.sandbox.toml"])
    def test_its_versions_are_taken(self, locked, name):
        """The locked versions are used, not the newest; dependencies are mounted, not imported."""
        found = packages.resolve(locked(name))

        assert str(found) in ("inner 1.0, thing 1.0", "thing 1.0, inner 1.0")
        assert found.imports == ("thing",)

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    @pytest.mark.parametrize("changed", ["thing", "inner"])
    def test_a_file_with_another_hash_is_refused(self, locked, name, changed):
        """The lock file's hash counts, whatever the index states."""
        message = refusal_of(locked(name, **{changed: "2" * 64}))

        assert "HASH" in message.upper()
        assert not [*package_sets.cache_folder().glob("set-*")]

    def test_it_is_remembered_by_what_it_says(self, locked, index):
        """Another hash is another request; an unchanged lock file needs no network."""
        path = locked()
        found = packages.resolve(path)
        request_count = len(index.requests)

        assert packages.resolve(path) == found
        assert len(index.requests) == request_count
        assert "HASH" in refusal_of(locked(thing="2" * 64)).upper()

    def test_a_dependency_that_is_not_in_it(self, locked, tmp_path):
        """A lock file must be complete: pip must not choose an unlocked version."""
        lines = locked().read_text().split("inner==1.0")[0]
        path = tmp_path / "short.txt"
        path.write_text(lines)

        assert "inner" in refusal_of(path)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("thing==1.0\n", "has no hash for thing"),
            (f"thing>=1.0 --hash=sha256:{'0' * 64}\n", "does not pin the version"),
            (f"thing==1.* --hash=sha256:{'0' * 64}\n", "does not pin the version"),
            ("thing==1.0 --hash=md5:0\n", "need one of sha256"),
            (f"thing==1.0 --hash=sha256:{'0' * 63}\n", "need one of sha256"),
            ("thing==1.0 --hash\n", "need one of sha256"),
            (f"thing==1.0 --config-settings=a --hash=sha256:{'0' * 64}\n", "beside hashes"),
            ("--index-url https://evil.invalid/\n", "has the option '--index-url'"),
            ("-r other.txt\n", "has the option '-r'"),
            ("-e .\n", "has the option '-e'"),
            (f"x @ https://i.invalid/x.tar.gz --hash=sha256:{'0' * 64}\n", "does not name a wheel"),
            (
                f"x @ git+https://i.invalid/x.whl --hash=sha256:{'0' * 64}\n",
                "does not name a wheel",
            ),
            ("two words\n", "not a requirement"),
            ("x; " + "(" * 10_000 + "\n", "not a requirement"),
            ("# nothing\n", "has no package for the sandbox"),
            ("\xff", "not a requirement"),
        ],
    )
    def test_one_that_does_not_fix_everything(self, text, reason):
        """The error names the line and the reason."""
        with pytest.raises(PackageError, match=re.escape(reason)):
            read_lock("requirements.txt", text.encode())

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("[", "is not TOML"),
            ("a = 1", "is not a lock file of PEP 751"),
            ("a = " + "[" * 20_000, "is not TOML"),
            (
                'lock-version = "9.0"\ncreated-by = "x"\npackages = []',
                "is not a lock file of PEP 751",
            ),
            (
                'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "x"\nversion = "1"\n'
                'sdist = {name = "x-1.tar.gz", url = "https://i.invalid/x-1.tar.gz", '
                'hashes = {sha256 = "0"}}',
                "has no wheel",
            ),
            (
                'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "x"\n'
                'directory = {path = "."}',
                "has no wheel",
            ),
        ],
        ids=range(6),
    )
    def test_a_pylock_that_cannot_be_used(self, text, reason):
        """The error names the package and the reason."""
        with pytest.raises(PackageError, match=re.escape(reason)):
            read_lock("pylock.toml", text.encode())

    @pytest.mark.parametrize("data", [b"\xff\xfe", b" " * (MAX_LOCK_BYTES + 1)], ids=["0", "1"])
    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    def test_what_is_no_text(self, name, data):
        """A file that is not UTF-8, or too long, is refused."""
        with pytest.raises(PackageError):
            read_lock(name, data)

    def test_one_that_is_not_there(self, tmp_path):
        """The error names the path."""
        assert "gone.txt" in refusal_of(tmp_path / "gone.txt")

    @pytest.mark.nightly  # runs pip in processes of its own
    def test_the_command_writes_one_that_it_takes(self, thing, index, wheel, tmp_path, capsys):
        """The lock file that the command writes resolves to the same set of files."""
        mine = wheel("mine").as_uri()
        lock = tmp_path / "lock.txt"

        assert __main__.main(["packages", thing, f"mine @ {mine}", "--write-lock", str(lock)]) == 0
        index.add(wheel("thing", "2.0"))
        assert __main__.main(["packages", "--locked", str(lock)]) == 0

        message = capsys.readouterr().out
        assert message.count("thing 1.0  thing-1.0-py3-none-any.whl") == 2
        assert f"mine @ {mine}" in lock.read_text()

    def test_names_or_a_file(self, capsys):
        """The command requires either names or a lock file, not both."""
        for arguments in (["packages"], ["packages", "x", "--locked", "y"]):
            with pytest.raises(SystemExit):
                __main__.main(arguments)

    @pytest.mark.nightly
    def test_everywhere_that_packages_are_taken(self, locked, opened):
        """Sessions and pools accept a path; a plain string is a name, not a path."""
        path = locked()

        assert opened(packages=path).run_cell("import thing; thing.VERSION") == Completed("'1.0'\n")
        pool = Pool(packages=path)
        try:
            assert pool.packages == packages.resolve(path)
        finally:
            pool.close()
        with pytest.raises(PackageError, match="packages is a list of names"):
            open_session(packages=str(path))
