"""The command ``rendezvous``: what it offers, and what it says of wrong arguments."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rendezvous.bus.memory import MemoryBus
from rendezvous.bus.topics import covers
from rendezvous.cli import app
from rendezvous.cli.run import assemble, banner, train_missing
from rendezvous.configuration import load
from rendezvous.errors import BundleError, ConfigurationError
from rendezvous.settings import FrontEndSettings
from rendezvous.telemetry import Metrics
from rendezvous.testing.processes import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
IRIS = {
    name: {"minimum": -1000, "maximum": 1000}
    for name in ("sepalLength", "sepalWidth", "petalLength", "petalWidth")
}
EXAMPLE = {"sepalLength": 5.9, "sepalWidth": 3.0, "petalLength": 5.1, "petalWidth": 1.8}
LR = {"bundle": "models/lr/0", "role": "canary", "train": "Iris LogisticRegression"}


def invoke(*arguments):
    """Run the command in this process."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def run(*arguments, cwd=ROOT):
    """Run the command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "rendezvous.cli", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the model lr, made by ``train_missing``; and what that printed."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # `training` is no part of the installed library
        train_missing(configured(folder, models=[LR]))
    return folder


def configured(folder, **endpoint):
    """Write a configuration with one endpoint, and load it."""
    path = folder / "rendezvous.yaml"
    content = {"endpoints": {"iris": {"input": IRIS} | endpoint}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load(path)


class TestHelp:
    def test_lists_every_command(self):
        done = invoke("--help")
        assert done.exit_code == 0
        assert all(command in done.output for command in ("run", "models", "archive"))

    def test_without_a_command_is_the_help(self):
        done = invoke()
        assert done.exit_code == 2
        assert "Usage:" in done.output
        assert "archive" in done.output

    @pytest.mark.parametrize("command", [["run"], ["models"], ["archive"], ["archive", "verify"]])
    def test_of_a_command_describes_it(self, command):
        done = invoke(*command, "--help")
        assert done.exit_code == 0
        assert " ".join(command) in done.output

    def test_as_a_module_is_the_same(self):
        done = run("--help")
        assert done.returncode == 0
        assert "archive" in done.stdout


class TestModels:
    def test_are_listed_with_their_figures(self, trained):
        done = invoke("models", str(trained / "models"))
        assert done.exit_code == 0
        row = next(line for line in done.output.splitlines() if "lr" in line)
        assert all(part in row for part in ("0", "classification", "onnx", "accuracy 0.9"))

    def test_that_are_damaged_are_named_as_such(self, trained, tmp_path):
        shutil.copytree(trained / "models", tmp_path / "models")
        (tmp_path / "models" / "lr" / "0" / "manifest.json").write_text("{}", encoding="utf-8")
        done = invoke("models", str(tmp_path / "models"))
        assert done.exit_code == 0
        assert "manifest.json" in done.output

    def test_may_be_none(self, tmp_path):
        done = invoke("models", str(tmp_path))
        assert done.exit_code == 0
        assert "no bundles below" in done.output


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nonsense"], "nonsense"),
            (["run", "--nonsense"], "--nonsense"),
            (["run", "--port", "many"], "--port"),
            (["run", "--port", "70000"], "65535"),
            (["run", "--port", "-1"], "--port"),
            (["run", "more"], "more"),
        ],
    )
    def test_are_named_with_exit_code_2(self, arguments, said):
        done = invoke(*arguments)
        assert done.exit_code == 2
        assert said in done.output

    def test_a_configuration_that_is_not_there_is_one_line_and_exit_code_1(self, tmp_path):
        done = run("run", "--config", str(tmp_path / "none.yaml"))
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("rendezvous: ")
        assert "none.yaml" in line

    def test_a_misspelt_key_is_one_line_naming_it(self, tmp_path):
        (tmp_path / "rendezvous.yaml").write_text("endpoint: {}", encoding="utf-8")
        done = run("run", cwd=tmp_path)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "endpoint: Extra inputs are not permitted" in line

    def test_an_unknown_bus_is_one_line(self, trained):
        done = run("run", "--bus", "kafka://x", cwd=trained)
        assert done.returncode == 1
        assert done.stderr.startswith("rendezvous: unknown bus 'kafka://x'")


class TestTraining:
    def test_makes_the_bundle_that_is_missing(self, trained):
        assert (trained / "models" / "lr" / "0" / "manifest.json").exists()

    def test_leaves_one_that_is_there(self, trained, capfd):
        train_missing(configured(trained, models=[LR]))
        assert capfd.readouterr().out == ""

    def test_needs_to_know_how(self, tmp_path):
        configuration = configured(tmp_path, models=[{"bundle": "models/lr/0"}])
        with pytest.raises(BundleError, match="has no `train`"):
            train_missing(configuration)

    def test_needs_the_projects_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p) != ROOT])
        with pytest.raises(BundleError, match="train it in the project's folder"):
            train_missing(configured(tmp_path, models=[LR]))

    def test_that_fails_names_the_command(self, tmp_path):
        configuration = configured(tmp_path, models=[LR | {"train": "Iris Nonsense"}])
        with pytest.raises(BundleError, match=r"training models/lr/0 failed: .*Iris Nonsense"):
            train_missing(configuration)


class TestAssembly:
    def local(self, folder, elasticsearch=None, **endpoint):
        configuration = configured(folder, **endpoint)
        settings = FrontEndSettings(host="127.0.0.1", port=8123)
        local = assemble(
            configuration, MemoryBus(), Metrics(), settings, folder / "archive", elasticsearch
        )
        return configuration, local, settings

    def test_archives_inputs_scores_and_decisions_in_files(self, trained):
        _, local, _ = self.local(trained, models=[LR])
        assert [(c.group, *c.topics) for c in local.connectors] == [
            ("log-connector", "decoy"),
            ("log-connector", "score", "score-*"),
            ("log-connector", "decisions"),
        ]
        assert local.decoy.topics == ["iris"]
        assert [worker.post.role for worker in local.workers] == ["canary"]

    def test_archives_in_elasticsearch_too_where_one_is_given(self, trained):
        _, local, _ = self.local(trained, "http://127.0.0.1:1", models=[LR])
        assert [(c.group, *c.topics) for c in local.connectors[3:]] == [
            ("elasticsearch-connector", "decoy"),
            ("elasticsearch-connector", "score", "score-*"),
            ("elasticsearch-connector", "decisions"),
            (
                "elasticsearch-connector",
                "iris-dead-letter",
                "decoy-dead-letter",
                "score-dead-letter",
                "decisions-dead-letter",
            ),
        ]

    def test_archives_no_decisions_where_they_are_turned_off(self, trained):
        configuration = configured(trained, models=[LR])
        topics = configuration.topics.model_copy(update={"decisions": None})
        configuration = configuration.model_copy(update={"topics": topics})
        local = assemble(
            configuration,
            MemoryBus(),
            Metrics(),
            FrontEndSettings(),
            trained / "archive",
            "http://127.0.0.1:1",
        )
        read = {topic for c in local.connectors for topic in c.topics}
        letters = {f"{topic}-dead-letter" for topic in ("iris", "decoy", "score")}
        assert read == {"decoy", "score", "score-*", *letters}

    def test_scores_are_awaited_sent_and_archived_at_one_return_address(self, trained):
        configuration = configured(trained, models=[LR])
        topics = configuration.topics.model_copy(update={"score": "answers"})
        configuration = configuration.model_copy(update={"topics": topics})
        for settings, address, read in [
            (FrontEndSettings(), "answers", "answers"),
            (FrontEndSettings(reply_topic="elsewhere"), "elsewhere", "elsewhere"),
            (FrontEndSettings(instance="a"), "answers-a-1", "answers"),
        ]:
            local = assemble(
                configuration, MemoryBus(), Metrics(), settings, trained / "archive", None
            )
            assert local.rendezvous._reply_topic == address
            assert local.connectors[1].topics == [read, f"{read}-*"]
            assert any(covers(topic, address) for topic in local.connectors[1].topics)
            assert re.fullmatch(local.workers[0].post.reply_topics, address)

    def test_a_model_of_another_input_is_refused(self, trained):
        with pytest.raises(ConfigurationError, match=r"needs petalWidth, not in iris\.input"):
            self.local(
                trained, models=[LR], input={k: v for k, v in IRIS.items() if k != "petalWidth"}
            )

    def test_the_banner_says_where_it_serves_what_and_one_request_to_try(self, trained):
        shown = banner(*self.local(trained, models=[LR], example=EXAMPLE))
        assert "http://127.0.0.1:8123  (docs: http://127.0.0.1:8123/docs" in shown
        assert "iris: lr version 0 (canary)" in shown
        assert f"-d '{json.dumps(EXAMPLE)}'" in shown

    def test_the_banner_says_that_an_endpoint_has_no_models(self, trained):
        shown = banner(*self.local(trained))
        assert "iris: no models" in shown
        assert "curl" not in shown


def test_a_part_that_can_not_go_on_ends_the_whole_with_exit_code_1(trained):
    configured(trained, models=[LR])
    archive = trained / "archive"
    archive.mkdir()
    (archive / "logs").write_text("no directory", encoding="utf-8")
    done = run("run", "--port", str(free_port()), cwd=trained)
    assert done.returncode == 1
    assert f"can not go on: {Path('archive', 'logs')} is no directory" in done.stderr


def test_several_workers_of_one_process_are_refused(trained, monkeypatch):
    monkeypatch.setenv("RENDEZVOUS_WORKERS", "2")
    done = run("run", "--port", str(free_port()), cwd=trained)
    assert done.returncode == 1
    assert "RENDEZVOUS_WORKERS: `rendezvous run` is one process" in done.stderr


def test_an_address_that_is_not_of_this_machine_is_one_line(trained):
    env = {**os.environ, "RENDEZVOUS_HOST": "192.0.2.1"}
    done = subprocess.run(
        [sys.executable, "-m", "rendezvous.cli", "run"],
        cwd=trained, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "can not listen on 192.0.2.1:8000" in done.stderr
    assert "ready" not in done.stdout
