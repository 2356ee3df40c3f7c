"""What README and docs tell people to type or to open exists."""

import importlib.util
import itertools
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from rendezvous.cli import app
from rendezvous.frontend.answers import DecisionView, Reply, SeenScore
from tests.docs.settings_table import SERVICES, names

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md")]
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = {
    name
    for service in SERVICES.values()
    for field in service.model_fields.values()
    for name in names(field)
} | {  # those of the servers for tests
    name
    for source in [*(ROOT / "deploy").rglob("*.py"), ROOT / "tests" / "servers.py"]
    for name in re.findall(r"RENDEZVOUS_[A-Z][A-Z_]*", source.read_text(encoding="utf-8"))
}


def code(page: Path) -> list[str]:
    """Return the lines of a page's code blocks, continued ones joined, and its inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
    return [line.split(" # ")[0].split("      #")[0].strip() for line in [*lines, *inline]]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Return what follows ``program`` wherever pages call it, with the page's name."""
    found = []
    for page in PAGES:
        for line in code(page):
            words = _words(line)
            for place, word in enumerate(words):
                if Path(word).name == program and _is_call(words[:place]):
                    rest = itertools.takewhile(
                        lambda w: w not in {"|", "&&", ";"}, words[place + 1 :]
                    )
                    found.append((str(page.relative_to(ROOT)), list(rest)))
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # an apostrophe in inline code: no command
        return []


def _is_call(before: list[str]) -> bool:
    return all("=" in word or word in {"uv", "run", "$", "export"} for word in before)


def described(calls: list[tuple[str, list[str]]]):
    """Parametrize over calls."""
    return [pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for page, words in calls]


@pytest.mark.parametrize("words", described(commands("make")))
def test_make_targets_exist(words):
    targets = [word for word in words if not word.startswith("-") and "=" not in word]
    assert set(targets) <= TARGETS


@pytest.mark.parametrize("words", described([c for c in commands("rendezvous") if c[1]]))
def test_subcommands_of_rendezvous_and_their_options_exist(words):
    command = typer.main.get_command(app)
    for word in words:
        if word.startswith("--"):
            known = {option for param in command.params for option in param.opts}
            assert word.split("=")[0] in known
        elif hasattr(command, "commands"):
            assert word in command.commands
            command = command.commands[word]
    assert not hasattr(command, "commands"), "a group of commands is no command"


@pytest.mark.parametrize("words", described(commands("python")))
def test_modules_that_python_runs_exist(words):
    assert words[0] == "-m"
    assert runs(words[1])


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", MAKEFILE))))
def test_modules_that_make_runs_exist(module):
    assert runs(module)


def runs(module: str) -> bool:
    """Return whether ``python -m module`` finds something to run."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.submodule_search_locations is None:
        return spec is not None
    return importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_variables_exist(page):
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"\bRENDEZVOUS_[A-Z][A-Z_]*\b", text)) <= VARIABLES


def _service_calls():
    pattern = r"((?:RENDEZVOUS_\w+=\S+\s+)+)\.venv/bin/python -m (services\.\w+)"
    return re.findall(pattern, README)


@pytest.mark.parametrize(("variables", "module"), _service_calls())
def test_a_service_reads_the_variables_it_is_started_with(variables, module):
    known = {name for field in SERVICES[module].model_fields.values() for name in names(field)}
    assert {pair.split("=")[0] for pair in variables.split()} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_make_target_has_help():
    helped = set(re.findall(r"^([a-z][a-z-]*):.*## \S", MAKEFILE, re.MULTILINE))
    assert helped == TARGETS
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))
    assert phony == TARGETS


def test_the_readmes_request_is_the_examples_of_the_configuration():
    [body] = re.findall(r"-d '(\{.*?\})'", README)
    configuration = yaml.safe_load((ROOT / "rendezvous.yaml").read_text(encoding="utf-8"))
    first = next(iter(configuration["endpoints"].values()))
    assert json.loads(body) == first["example"]


def test_the_readmes_answer_has_the_fields_of_a_real_one():
    [block] = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    answer = json.loads(block)
    decision = answer["decision"]
    assert tuple(answer) == Reply.__struct_encode_fields__
    assert set(decision) <= set(DecisionView.__struct_encode_fields__)
    assert set(decision["scores"][0]) <= set(SeenScore.__struct_encode_fields__)


def test_the_changelog_has_an_entry_for_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert entries[0] == project["version"]
    assert len(entries) == len(set(entries))


def test_the_pages_were_found():
    """Without this, a pattern that matches nothing would pass for a page without faults."""
    assert len(commands("make")) > 5
    assert len(commands("rendezvous")) > 2
    assert len(commands("python")) > 8
    assert len(_service_calls()) > 5
