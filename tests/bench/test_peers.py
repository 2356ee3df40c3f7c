"""The peers of the benchmark: named with all they need, installed once, and gone afterwards."""

import ast
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import peers
from bench.peers import FOLDER, PEERS, PeerFailed, install, peer, requirements, serve, version
from bench.peers.recipes import RECIPES, ROWS, Recipe

PINNED = re.compile(r"[a-z-]+(\[[a-z]+\])?==[0-9.]+")
STAND_IN = """
import http.server, os, subprocess, sys
mark, child = sys.argv[2], [sys.executable, "-c", "import time; time.sleep(600)"]
start = f"import subprocess; subprocess.Popen({child}, start_new_session=True)"
subprocess.run([sys.executable, "-c", start])  # ends, and leaves one in a session of its own

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        content = (mark + body[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.mark.parametrize("name", PEERS)
class TestEachPeer:
    def test_has_exact_versions_its_own_first(self, name):
        lines = requirements(name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not PINNED.fullmatch(line)] == []
        assert re.split(r"\[|==", lines[0])[0] == name
        assert re.fullmatch(r"[0-9.]+", version(name))

    def test_has_the_files_that_its_commands_name(self, name):
        recipe = RECIPES[name]
        words = [*recipe.command, *recipe.before, *recipe.env.values(), "{folder}/"]
        named = [Path(w.format(folder=FOLDER / name)) for w in words if w.startswith("{folder}")]
        assert [path for path in named if not path.exists()] == []

    def test_tells_the_right_answer_from_the_others(self, name):
        bodies, marks = zip(*peer(name).bodies, strict=True)
        assert len(set(bodies)) == len(ROWS)
        assert [(a, b) for a in marks for b in marks if a in b and a is not b] == []

    def test_its_service_imports_nothing_of_this_project(self, name):
        trees = [ast.parse(path.read_text()) for path in (FOLDER / name).glob("*.py")]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        names += [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
        ours = {"rendezvous", "bench", "services", "training", "deploy"}
        assert {each.partition(".")[0] for each in names} & ours == set()


class TestInstall:
    @pytest.fixture
    def uv(self, tmp_path, monkeypatch):
        """A command `uv` that does what the given shell lines say, and notes its calls."""
        monkeypatch.setenv("RENDEZVOUS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

        def does(lines):
            command = tmp_path / "uv"
            command.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\n{lines}\n')
            command.chmod(0o755)
            return lambda: (tmp_path / "calls").read_text().split()

        return does

    MAKES_A_FOLDER = 'for last; do :; done; [ "$1" = venv ] && mkdir -p "$last"; true'

    def test_happens_once(self, uv):
        calls = uv(self.MAKES_A_FOLDER)
        assert install("ray") == install("ray")
        assert calls() == ["venv", "pip"]

    def test_happens_again_after_it_was_cut_off(self, uv):
        uv(f'{self.MAKES_A_FOLDER}; [ "$1" = venv ]')
        with pytest.raises(PeerFailed):
            install("ray")
        calls = uv(self.MAKES_A_FOLDER)
        install("ray")
        assert calls() == ["venv", "pip"] * 2

    def test_names_the_peer_that_it_failed_for_and_says_why(self, uv):
        uv("echo no such version; exit 1")
        with pytest.raises(
            PeerFailed, match=r"^mlserver cannot be installed on (.|\n)*no such ver"
        ):
            install("mlserver")


class TestServe:
    @pytest.fixture
    def stand_in(self, tmp_path, monkeypatch):
        """A peer that answers the first character of the body after a given one."""
        (tmp_path / "server.py").write_text(STAND_IN)
        recipe = Recipe(
            path="/",
            body=lambda row: next(label for each, label in ROWS if each == row),
            mark="=%d",
            command=("python", str(tmp_path / "server.py"), "{port}", "="),
        )
        monkeypatch.setitem(RECIPES, "stand-in", recipe)
        monkeypatch.setattr(peers, "install", lambda _: tmp_path / "bin" / "python")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to(sys.executable)
        return recipe

    def test_leaves_no_process_not_even_one_whose_parent_is_gone(self, stand_in, tmp_path):
        with serve("stand-in", tmp_path) as (running, port, pids):
            assert (running.name, running.path) == ("stand-in", "/")
            assert port > 0
            commands = [command_line(pid) for pid in pids]
            assert [("server.py" in c, "sleep" in c) for c in commands] == [
                (True, False),
                (False, True),
            ]
        assert [command_line(pid) for pid in pids] == ["", ""]

    def test_fails_when_answers_are_wrong(self, stand_in, tmp_path, monkeypatch):
        monkeypatch.setattr(peers, "_READY_SECONDS", 1.0)
        wrong = replace(stand_in, command=(*stand_in.command[:-1], "!"))
        monkeypatch.setitem(RECIPES, "stand-in", wrong)
        with (
            pytest.raises(PeerFailed, match=r"^stand-in does not answer rightly"),
            serve("stand-in", tmp_path),
        ):
            pass

    def test_fails_with_the_log_of_a_peer_that_ended(self, stand_in, tmp_path, monkeypatch):
        broken = replace(stand_in, command=("python", "-c", "raise SystemExit('no model')"))
        monkeypatch.setitem(RECIPES, "stand-in", broken)
        with pytest.raises(PeerFailed, match="no model"), serve("stand-in", tmp_path):
            pass


def command_line(pid):
    """Return the command of a process; nothing when there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""
