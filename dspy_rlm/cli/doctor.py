"""`dspy-rlm doctor`: the parts of the sandbox, and by choice a model."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any


def doctor(options: argparse.Namespace) -> int:
    """Runs the checks; returns 0 if all parts work, else the code of the first that does not.

    Raises:
        CommandError: No model is configured, or DSPy cannot use its name.
    """
    command = [sys.executable, "-m", "sandbox_runtime", "doctor"]
    if options.model is None:
        return _passed_on([*command, "--json"] if options.json else command)
    if options.json:
        done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        code, models = _models(options, say=lambda _: None)
        report["models"] = models
        report["ok"] = report["ok"] and not code
        from dspy_rlm.terminal.escaping import show_exactly

        show_exactly(json.dumps(report, indent=2), sys.stdout)
        return done.returncode or code
    failed = _passed_on(command)
    from dspy_rlm.terminal.escaping import show

    code, _ = _models(options, say=lambda text: show(text, sys.stdout))
    return failed or code


def _passed_on(command: list[str]) -> int:
    """Runs a command whose stdout is ours, line by line; returns its exit code."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
    return child.returncode


def _models(options: argparse.Namespace, say: Any) -> tuple[int, list[dict[str, Any]]]:
    from dspy_rlm.cli.asking.models import no_model
    from dspy_rlm.cli.models.facts import address, configured_prices, facts_of, named
    from dspy_rlm.cli.models.trial import cost_of_hello, price_of_hello, try_model
    from dspy_rlm.terminal.escaping import show

    names = [options.model] if isinstance(options.model, str) else []
    # Without a name, the flag is no value of the setting.
    options = argparse.Namespace(**{**vars(options), "model": None})
    models = named(options, names)
    if not models:
        raise no_model()
    code, found = 0, []
    for one in models:
        facts = facts_of(one, address(options), configured_prices(options), None)
        say(f"model    {facts.model} ({facts.source})")
        if options.json and not options.no_hello:
            # stdout is for the object, which must not be the first to name the price.
            show(f"hello to {facts.model}: {price_of_hello(facts)}", sys.stderr)
        checks = try_model(facts, hello=not options.no_hello, say=say)
        for check in checks:
            if not check.ok and check.fix:
                say(f"         {check.fix}")
        code = code or next((check.code for check in checks if not check.ok), 0)
        found.append(
            {
                "role": facts.role,
                "model": facts.model,
                "source": facts.source,
                "ok": all(check.ok for check in checks),
                "price": facts.price.value,
                "hello_at_most": cost_of_hello(facts),
                "checks": [check.dump() for check in checks],
            }
        )
    return code, found
