"""The shape that the project keeps to: sizes, names, docstrings, and what is imported when."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ["src", "services", "training", "deploy", "bench", "tests"]
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
LIBRARY = [path for path in MODULES if path.is_relative_to(ROOT / "src")]
SHIPPED = [path for path in MODULES if not path.is_relative_to(ROOT / "tests")]
MODULE_LINES = 400
FUNCTION_LINES = 50
SERVICE_LINES = 60
VAGUE = {"handler", "handlers", "manager", "managers", "helper", "helpers", "util", "utils"}
KNOWN_HOSTS = {
    "127.0.0.1", "localhost", "host", "www.apache.org", "pulsar.apache.org", "semver.org",
    "elasticsearch", "kibana", "prometheus",  # services of docker-compose.yml
}  # fmt: skip
VENDORS = {
    "pulsar", "_pulsar", "elasticsearch", "fastapi", "uvicorn", "numpy", "sklearn", "onnxruntime",
}  # fmt: skip
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def named(paths):
    """Parametrize over files."""
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def parsed(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    """Return the number of a file's lines."""
    return len(path.read_text(encoding="utf-8").splitlines())


def words(name: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def public(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the public classes and functions of a module or class."""
    return [
        node for node in body if isinstance(node, DEFINITIONS) and not node.name.startswith("_")
    ]


def undocumented(tree: ast.Module) -> list[str]:
    """Return the public names of a module that have no docstring.

    What a class overrides needs none, and the name of a test is its description.
    """
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in public(tree.body):
        if not ast.get_docstring(node):
            missing.append(node.name)
        if isinstance(node, ast.ClassDef) and not node.bases:
            missing += [
                f"{node.name}.{each.name}"
                for each in public(node.body)
                if not ast.get_docstring(each) and not each.name.startswith("test_")
            ]
    return missing


@pytest.mark.parametrize("path", named(SHIPPED))
def test_a_module_has_at_most_400_lines(path):
    assert lines(path) <= MODULE_LINES


@pytest.mark.parametrize("path", named(MODULES))
def test_a_function_has_at_most_50_lines(path):
    functions = [
        node
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert {name: size for name, size in long.items() if size > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", named(ROOT.glob("services/*/__main__.py")))
def test_a_service_is_put_together_in_at_most_60_lines(path):
    assert lines(path) <= SERVICE_LINES


@pytest.mark.parametrize("path", named(MODULES))
def test_no_module_or_class_has_a_vague_name(path):
    classes = [node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
    vague = [name for name in [path.stem, path.parent.name, *classes] if words(name) & VAGUE]
    assert vague == []


@pytest.mark.parametrize("path", named(LIBRARY))
def test_whatever_is_public_has_a_docstring(path):
    assert undocumented(parsed(path)) == []


@pytest.mark.parametrize("path", named(p for p in LIBRARY if "testing" not in p.parts))
def test_the_library_does_not_import_its_test_suites(path):
    assert "rendezvous.testing" not in imported(parsed(path))


def imported(tree: ast.Module) -> set[str]:
    """Return every module that is imported, with its parents, wherever in the module it is."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names | {parent for name in names for parent in _parents(name)}


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


@pytest.mark.parametrize(
    "module",
    ["rendezvous", "rendezvous.core", "rendezvous.cli", "rendezvous.bus.factory",
     "rendezvous.bus.memory", "rendezvous.settings"],
)  # fmt: skip
def test_importing_it_loads_no_vendor(module):
    script = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert VENDORS & set(json.loads(done.stdout)) == set()


def test_every_address_that_a_file_names_is_a_known_one():
    """Above all no registry of packages or images: which one serves is a machine's business."""
    named_hosts = {
        (name, host.lower())
        for name in project_files()
        for host in re.findall(r"https?://([A-Za-z0-9.-]+)", text_of(name))
    }
    assert {(name, host) for name, host in named_hosts if host not in KNOWN_HOSTS} == set()


def test_no_file_chooses_a_registry():
    choice = re.compile(
        r"--(?:extra-)?index-url|--default-index|^\s*(?:extra-)?index-url\s*[=:]|\[\[tool\.uv\.index"
        r"|(?:^FROM|image:)\s+[^\s/]+\.[^\s/]+/",
        re.MULTILINE,
    )
    own = str(Path(__file__).relative_to(ROOT))
    assert [n for n in project_files() if n != own and choice.search(text_of(n))] == []


def project_files() -> list[str]:
    """Return the names of the files that belong to the project, save for the lock file."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return [name for name in listed.stdout.split("\0") if name and name != "uv.lock"]


def text_of(name: str) -> str:
    """Return a project file's text; nothing for one that was deleted."""
    path = ROOT / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
