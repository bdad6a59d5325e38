# Every command a contributor needs. `just ok` is what CI runs; `pip install -e ".[dev]"` brings `just`.

python := env("PYTHON", "python")

# List the commands.
default:
    @just --list

# Everything CI checks, side by side: format, lint, types, imports, docstrings, both languages' tests.
[parallel]
ok: test checks

# Everything CI checks but the Python tests.
checks: fmt-check lint types imports docstrings deno

# Format Python and TypeScript.
fmt:
    ruff format .
    cd sandbox_runtime/deno && deno fmt
    cd dspy_rlm/viewer/web && deno fmt

fmt-check:
    ruff format --check .

lint:
    ruff check .

# Type-check with mypy in strict mode.
types:
    mypy

# Check that no folder imports from above it.
imports:
    lint-imports

# Check that every test says what rule it shows.
docstrings:
    interrogate --quiet tests

# Format, lint, type-check and test the TypeScript of the sandbox and of the viewer.
deno:
    cd sandbox_runtime/deno && deno task ok
    cd dspy_rlm/viewer/web && deno task ok

# Run the Python tests; arguments go to pytest, e.g. `just test tests/rlm -k budget`.
[positional-arguments]
test *arguments:
    {{python}} -m pytest "$@"

# Run what CI leaves out: tests that need minutes, much memory, a package registry, or `pip install -e ".[integrations]"`.
nightly:
    {{python}} -m pytest -m nightly

# Run the notebooks with nbmake, offline; needs `pip install -e ".[dev,notebooks]"`. Arguments go to pytest.
[positional-arguments]
notebooks *arguments:
    {{python}} -m pytest --nbmake --nbmake-timeout=300 -o timeout=600 -n 0 -p no:randomly notebooks "$@"

# Run the notebooks and write them with their outputs; arguments are the numbers of those to write, e.g. `01 07`.
[positional-arguments]
write-notebooks *numbers:
    {{python}} notebooks/build.py "$@"

# Run the hostile programs against our sandbox and DSPy's.
[positional-arguments]
security *arguments:
    {{python}} -m benchmarks.security "$@"

# Compare the engine with that of another checkout, or with DSPy's.
[positional-arguments]
bench *arguments:
    {{python}} -m benchmarks.engine "$@"

# Build the documentation site, with warnings as errors: `pip install --group docs` first. `just site --serve 8000` shows it.
[positional-arguments]
site *arguments:
    {{python}} -m website "$@"
