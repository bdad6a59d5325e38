"""The scripted LMs of the demo: a policy for each kind of question, and a rule-based sub-LM.

They know how to search, but not the answers. A policy sees what a root LM sees: it reads the question and
the files with code in the REPL, and the output of its cells decides the next cell. The sub-LM has a
vocabulary for each subject, and applies it to the text in its prompt.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable

from dspy_rlm.testing import Action, Observation, Player, Task, policy, rules

Moves = Generator[Action, Observation, None]

# ---- Where is a class defined? ----

LOOK_FOR_CLASS = r"""print(f"{len(sources):,} files, {sum(map(len, sources.values())):,} characters")
print("asked for:", class_name)
print("paths look like:", *sorted(sources)[::len(sources) // 4 + 1])"""

SEARCH_CLASS = r"""import re
heading = re.compile(rf"^[ \t]*class[ \t]+{re.escape(class_name)}\b", re.MULTILINE)
hits = [
    (path, text.count("\n", 0, hit.start()) + 1)
    for path, text in sources.items()
    if class_name in text  # far faster than the expression, and most files end here
    for hit in heading.finditer(text)
]
print("hits:", len(hits))
for path, line in hits[:10]:
    print(f"{path}:{line}:", sources[path].split("\n")[line - 1])"""

PARSE_CLASS = r"""import ast, warnings
warnings.simplefilter("ignore")  # about the files, not about us

def nodes(text):
    try:
        return ast.walk(ast.parse(text))
    except SyntaxError:  # Python's own tests have files that are no Python
        return []

defined = [
    (path, node.lineno)
    for path in dict.fromkeys(path for path, _ in hits)
    for node in nodes(sources[path])
    if isinstance(node, ast.ClassDef) and node.name == class_name
]
print("defined:", len(defined))
for path, line in defined[:10]:
    print(f"{path}:{line}")"""

SUBMIT_CLASS = r"""# Tests may define a class of the same name; the real one goes first.
path, line = min(defined, key=lambda place: ("test" in place[0], place))
SUBMIT(path=path, line=line)"""

SUBMIT_NO_CLASS = 'SUBMIT(path="", line=0)'


def find_class(task: Task) -> Moves:
    """Searches for the class statement, then lets `ast` decide which hits are code."""
    yield Action("Look first: how much is there, and which class is wanted?", LOOK_FOR_CLASS)
    seen = yield Action(
        "That is far too much to read or to parse. A text search is fast, so search every file for a "
        "line that could begin this class.",
        SEARCH_CLASS,
    )
    hits = _number(r"^hits: (\d+)", seen)
    if not hits:
        yield Action("No line begins such a class, so it is not defined here.", SUBMIT_NO_CLASS)
        return
    doubt = (
        "Is it code" if hits == 1 else f"{hits} lines, but a docstring can quote code. Which is it"
    )
    seen = yield Action(
        f"{doubt}? Parse only the files with hits and ask the syntax tree.", PARSE_CLASS
    )
    defined = _number(r"^defined: (\d+)", seen)
    if not defined:
        yield Action("None of them is code, so the class is not defined here.", SUBMIT_NO_CLASS)
        return
    yield Action(
        "Exactly one definition is code. Submit it from the variable."
        if defined == 1
        else f"{defined} definitions are code. Prefer one that is not a test's.",
        SUBMIT_CLASS,
    )


# ---- Which public functions of a package lack a docstring? ----

LOOK_FOR_PACKAGE = r"""print("asked for:", package)
files = {
    path: text for path, text in sources.items()
    if path == f"{package}.py" or path.startswith(f"{package}/")
}
print("files:", len(files))
print(f"{sum(map(len, files.values())):,} characters")
print(*files)"""

PARSE_PACKAGE = r"""import ast, warnings
warnings.simplefilter("ignore")  # about the files, not about us

def module_name(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

def is_public(name):
    return not any(part.startswith("_") for part in name.split("."))

functions = {}
for path, text in files.items():
    module = module_name(path)
    if is_public(module):
        for node in ast.parse(text).body:
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_function and is_public(node.name):
                functions[f"{module}.{node.name}"] = (path, node)
bare = sorted(name for name, (_, node) in functions.items() if not ast.get_docstring(node))
print("public functions:", len(functions))
print("without a docstring:", len(bare))"""

CHECK_PACKAGE = r"""for name in bare[:4]:
    path, node = functions[name]
    print(f"{path}:{node.lineno}")
    print(*sources[path].split("\n")[node.lineno - 1 : node.body[0].lineno], sep="\n")"""

SUBMIT_PACKAGE = "SUBMIT(functions=bare)"

SUBMIT_NO_PACKAGE = "SUBMIT(functions=[])"


def list_undocumented(task: Task) -> Moves:
    """Parses the files of the package, and checks a sample of the results before it submits."""
    seen = yield Action(
        "Look first: which package is wanted, and which files are its own?", LOOK_FOR_PACKAGE
    )
    if not _number(r"^files: (\d+)", seen):
        yield Action("There is no such package, so no function of it either.", SUBMIT_NO_PACKAGE)
        return
    seen = yield Action(
        "Few enough to parse. Collect the functions of every public module, and those without a "
        "docstring.",
        PARSE_PACKAGE,
    )
    if not _number(r"^without a docstring: (\d+)", seen):
        yield Action("Every function has one: nothing to list.", SUBMIT_PACKAGE)
        return
    yield Action(
        "Check before submitting: read the first few. Do they really begin without a docstring?",
        CHECK_PACKAGE,
    )
    yield Action("They do. Submit the list from the variable.", SUBMIT_PACKAGE)


# ---- Which modules deal with a subject? ----

LOOK_FOR_MODULES = r"""print("asked for:", subject)
TESTS = {"test", "tests", "idle_test"}

def module_name(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

def is_public(name):
    parts = name.split(".")
    return not TESTS.intersection(parts) and all(
        part.isidentifier() and not part.startswith("_") for part in parts
    )

public = {
    name: text for path, text in sources.items() if is_public(name := module_name(path))
}
print("public modules:", len(public), "of", len(sources), "files")"""

READ_DOCSTRINGS = r"""import ast, inspect, re
# A docstring is the first thing in a module besides comments. To find it so is far
# faster than to parse whole modules.
quoted = [r'"{3}(?:[^\\]|\\.)*?"{3}', r"'{3}(?:[^\\]|\\.)*?'{3}"]
quoted += [r'"(?:[^"\\\n]|\\.)*"', r"'(?:[^'\\\n]|\\.)*'"]
first = re.compile(
    rf"(?:\s|#[^\n]*\n)*([rRuU]?(?:{'|'.join(quoted)}))[ \t]*(?:[;#\n]|\Z)", re.DOTALL
)
docstrings = {}
for name, text in public.items():
    if found := first.match(text):
        if docstring := inspect.cleandoc(ast.literal_eval(found[1])).strip():
            docstrings[name] = docstring
print("with a docstring:", len(docstrings))
print(f"{sum(map(len, docstrings.values())):,} characters, such as")
for name in list(docstrings)[:3]:
    print(f"{name}:", docstrings[name].split("\n")[0])"""

ASK_IN_BATCHES = r"""def question(names):
    pages = "\n".join(f'<module name="{n}">\n{docstrings[n]}\n</module>' for n in names)
    return (
        "Below is what some Python modules say of themselves. Which of them deal with "
        "this subject?\n"
        f"<subject>{subject}</subject>\n{pages}\n"
        "Answer with one line for each module: its name, a colon, yes or no."
    )

def ask(names):
    names = list(names)
    starts = range(0, len(names), modules_per_prompt)
    batches = [names[at:at + modules_per_prompt] for at in starts]
    for reply in sub_llm_batched([question(batch) for batch in batches]):
        verdicts.update(re.findall(r"^([\w.]+): *(yes|no)\b", reply, re.MULTILINE))
    print("prompts:", len(batches))
    print("without a verdict:", len(docstrings.keys() - verdicts.keys()))

verdicts = {}
ask(docstrings)"""

ASK_AGAIN = r"""ask(sorted(docstrings.keys() - verdicts.keys()))"""

CHECK_VERDICTS = r"""chosen = sorted(name for name in docstrings if verdicts.get(name) == "yes")
print(len(chosen), "of", len(verdicts), "modules:")
for name in chosen:
    print(f"{name}:", docstrings[name].split("\n")[0])"""

SUBMIT_MODULES = "SUBMIT(modules=chosen)"

# The number of prompts that the first round keeps in reserve for retries.
SPARE_CALLS = 10

# A batch that keeps the reply short and the prompt far below any context window.
MODULES_PER_PROMPT = 20


def choose_modules(task: Task) -> Moves:
    """Reads the docstrings with code, and asks the sub-LM to judge them, many in one prompt."""
    yield Action(
        "Look first: which subject is wanted, and which modules can a user import?",
        LOOK_FOR_MODULES,
    )
    seen = yield Action(
        "The docstrings say what a module is for. Collect them; only those are worth a sub-LM's time.",
        READ_DOCSTRINGS,
    )
    documented = _number(r"^with a docstring: (\d+)", seen)
    calls = _call_limit(task) - SPARE_CALLS
    modules_per_prompt = max(MODULES_PER_PROMPT, -(-documented // max(calls, 1)))
    seen = yield Action(
        f"{documented} docstrings have to be understood, which code cannot do. Ask the sub-LM, "
        f"{modules_per_prompt} modules in a prompt, all prompts in one batch.",
        f"modules_per_prompt = {modules_per_prompt}\n{ASK_IN_BATCHES}",
    )
    if missing := _number(r"^without a verdict: (\d+)", seen):
        seen = yield Action(f"{missing} modules got no verdict. Ask again for those.", ASK_AGAIN)
        missing = _number(r"^without a verdict: (\d+)", seen)
    yield Action(
        f"{missing or 'No'} module is left without a verdict. Read the chosen ones before submitting: "
        "can this be right?",
        CHECK_VERDICTS,
    )
    yield Action("Each of them speaks of the subject. Submit the list.", SUBMIT_MODULES)


def _call_limit(task: Task) -> int:
    """Returns the number of sub-LM prompts that the contract allows."""
    match = re.search(r"(\d+) sub-LM prompts", task.system)
    return int(match[1]) if match else 50


# ---- The players ----

_KINDS = {"class_name": find_class, "package": list_undocumented, "subject": choose_modules}


@policy
def play_root(task: Task) -> Moves:
    """Plays the root LM. The names of the variables determine the kind of question."""
    for variable, moves in _KINDS.items():
        if f"`{variable}`" in task.variables_info:
            yield from moves(task)
            return
    raise LookupError(f"No policy for these variables:\n{task.variables_info}")


# Stems of words about a subject: a rule-based approximation of a reader's judgement.
VOCABULARY = {
    "archives": ("archiv", "tarball", "zip file"),
    "audio": ("audio", "sound", "wave file", "aiff"),
    "compression": ("compress", "decompress", "gzip", "bzip", "zlib", "lzma", "zstandard"),
    "dates": ("date", "calendar", "time zone"),
    "email": ("email", "e-mail", "mail", "mime", "rfc 822", "rfc 2822"),
}


def speaks_of(text: str, subject: str) -> bool:
    """Returns True if the first paragraph of a text has a word of the subject's vocabulary or name."""
    paragraph = " ".join(re.split(r"\n[ \t]*\n", text.strip(), maxsplit=1)[0].split())
    words = re.findall(r"[\w-]+", subject.lower())
    subjects = [word for word in words if word in VOCABULARY]
    stems: Iterable[str] = [stem for word in subjects for stem in VOCABULARY[word]] or words
    return any(re.search(rf"\b{re.escape(stem)}", paragraph, re.IGNORECASE) for stem in stems)


_QUESTION = re.compile(r"<subject>(.*?)</subject>\n(.*)", re.DOTALL)
_PAGE = re.compile(r'<module name="([\w.]+)">\n(.*?)\n</module>', re.DOTALL)


def _judge(question: re.Match[str]) -> str:
    subject, pages = question[1], question[2]
    verdicts = ((name, speaks_of(text, subject)) for name, text in _PAGE.findall(pages))
    return "\n".join(f"{name}: {'yes' if verdict else 'no'}" for name, verdict in verdicts)


# Plays the sub-LM: decides for each module in its prompt whether it is about the subject.
play_sub: Player = rules([(_QUESTION, _judge)], default="I can only judge modules by a subject.")


def _number(pattern: str, seen: Observation) -> int:
    """Returns a number that a cell printed."""
    match = re.search(pattern, seen.output, re.MULTILINE)
    if match is None:
        raise LookupError(f"The output has no {pattern!r}: {seen.output[:500]!r}")
    return int(match[1])
