"""The stand-in images: each is built once for its content, and behaves as the official one."""

import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.engine.errors import EngineError
from deploy.servers.distribution import Distribution
from deploy.servers.java import Java
from deploy.servers.pulsar import Pulsar
from tests.images import build
from tests.images.build import BASE, ELASTICSEARCH, IMAGES, JRE, PROMETHEUS, PULSAR, PYTHON, TAGS

FOLDER = Path(build.__file__).parent


class FakeEngine:
    """An engine that has the images it was told to make, each with its digest."""

    def __init__(self):
        self.digests = {}
        self.commands = []

    def run(self, *arguments):
        *command, tag = arguments
        assert command[:2] == ["image", "inspect"]
        assert "rendezvous.digest" in command[-1]
        known = tag in self.digests
        return CompletedProcess(arguments, int(not known), f"{self.digests.get(tag)}\n")

    def must(self, *arguments):
        self.commands.append(arguments)
        tag = arguments[arguments.index("--tag") + 1] if "--tag" in arguments else arguments[-1]
        [label] = [word for word in arguments if "rendezvous.digest=" in word]
        self.digests[tag] = label.partition("rendezvous.digest=")[2]
        return ""

    def built(self):
        """Return the tags of what was built since it was asked last."""
        tags = [c[c.index("--tag") + 1] if "--tag" in c else c[-1] for c in self.commands]
        self.commands.clear()
        return tags


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The folder of the images, to be changed."""
    folder = tmp_path / "images"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(build, "_HERE", folder)
    return folder


@pytest.fixture
def machine(monkeypatch, programs, tmp_path):
    """A machine that makes a Debian of packages, and has every distribution already."""
    programs.put("mmdebstrap", "")
    programs.put("apt-get", "echo http://127.0.0.1/debian")
    monkeypatch.setattr(build, "_CERTIFICATES", tmp_path / "certificates")
    monkeypatch.setattr(build, "find", lambda major, *_: Java(major, Path("/java")))
    monkeypatch.setattr(build, "fetch", lambda what, _: Path("/cache", what.folder))
    return programs


@pytest.fixture
def engine(here, machine):
    """An engine where all has been built."""
    fresh = FakeEngine()
    build.build_all(fresh)
    assert fresh.built() == list(TAGS)
    return fresh


class TestBuild:
    def test_what_is_there_with_the_same_digest_is_not_built_again(self, engine):
        build.build_all(engine)
        assert engine.built() == []

    def test_what_is_gone_is_built_again_and_nothing_else(self, engine):
        del engine.digests[PROMETHEUS]
        build.build_all(engine)
        assert engine.built() == [PROMETHEUS]

    def test_what_is_there_under_its_tag_from_elsewhere_is_built_anew(self, engine):
        engine.digests[PYTHON] = ""
        build.build_all(engine)
        assert engine.built() == [PYTHON]

    def test_a_change_in_its_folder_builds_it_anew(self, engine, here):
        with (here / "python" / "Dockerfile").open("a") as file:
            file.write("# changed\n")
        build.build_all(engine)
        assert engine.built() == [PYTHON]

    def test_a_new_file_in_its_folder_builds_it_anew(self, engine, here):
        (here / "elasticsearch" / "new").touch()
        build.build_all(engine)
        assert engine.built() == [ELASTICSEARCH]

    def test_what_python_caches_is_no_change(self, engine, here):
        (here / "pulsar" / "__pycache__").mkdir()
        (here / "pulsar" / "__pycache__" / "apply.pyc").touch()
        build.build_all(engine)
        assert engine.built() == []

    def test_a_change_of_its_base_builds_it_anew(self, engine, here):
        with (here / "jre" / "Dockerfile").open("a") as file:
            file.write("# changed\n")
        build.build_all(engine)
        assert engine.built() == [JRE, PULSAR, ELASTICSEARCH]

    def test_a_new_certificate_of_this_machine_builds_everything_anew(self, engine, tmp_path):
        (tmp_path / "certificates").mkdir()
        (tmp_path / "certificates" / "proxy.crt").write_text("certificate")
        build.build_all(engine)
        assert engine.built() == list(TAGS)

    def test_another_version_of_its_server_builds_it_anew(self, engine, monkeypatch):
        newer = Distribution("Apache Pulsar 9", "org.apache.pulsar:pulsar-server:9.0:tar.gz")
        monkeypatch.setattr(Pulsar, "distribution", newer)
        build.build_all(engine)
        assert engine.built() == [PULSAR]

    def test_is_given_its_base_and_the_distribution_of_its_server(self, here, machine):
        engine = FakeEngine()
        build.build_all(engine)
        base, *others = engine.commands
        assert base[0] == "import"
        assert [command[-1] for command in others] == [str(image.folder) for image in IMAGES]
        for image, command in zip(IMAGES, others, strict=True):
            assert f"BASE={image.base}" in command
            assert ("--build-context" in command) == (image.server is not None)
        context = others[2][others[2].index("--build-context") + 1]
        assert context == f"distribution=/cache/{Pulsar.distribution.folder}"

    def test_the_base_is_made_of_this_machines_packages(self, engine, machine):
        [call] = [call for call in machine.calls if call.startswith("mmdebstrap")]
        assert call.endswith(" http://127.0.0.1/debian")

    def test_a_base_that_can_not_be_made_is_an_error_with_the_reason(self, here, machine):
        machine.put("mmdebstrap", "echo 'E: no mirror' >&2; exit 1")
        engine = FakeEngine()
        with pytest.raises(EngineError, match=rf"^{BASE} could not be made:\nE: no mirror"):
            build.build_all(engine)
        assert engine.built() == []

    @pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.tag)
    def test_each_has_a_dockerfile_that_stands_on_the_base_it_is_given(self, image):
        assert "FROM ${BASE}" in (image.folder / "Dockerfile").read_text()


def script():
    """Return the module of the script that sets Pulsar's configuration."""
    spec = spec_from_file_location("apply_config", FOLDER / "pulsar" / "apply-config-from-env.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


applied = script().applied
KEYS = st.sampled_from(["a", "b", "brokerPort", "tls"])
VALUES = st.text("abc/:= #", max_size=8)
LINES = st.one_of(
    st.builds("{}={}".format, KEYS, VALUES),
    st.builds("# {}={}".format, KEYS, VALUES),
    st.builds("#{}={}".format, KEYS, VALUES),
    st.sampled_from(["", "# a remark", "### a part ###"]),
)


def values(text):
    """Return what a configuration says, as its reader takes it: the last line of a key holds."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


class TestConfigurationOfPulsar:
    def test_a_key_that_is_there_is_set_where_it_is(self):
        assert applied("a=1\nb=2\n", {"a": "3"}) == "a=3\nb=2\n"

    def test_a_key_that_is_commented_out_is_set_in_its_place(self):
        assert applied("# what it is for\n# a=1\nb=2\n", {"a": "3"}) == (
            "# what it is for\na=3\nb=2\n"
        )

    def test_a_key_that_is_shown_as_an_example_and_then_given_is_set_where_it_is_given(self):
        text = "# tokenSecretKey=data:;base64,xxx\ntokenSecretKey=\n"
        assert applied(text, {"PULSAR_PREFIX_tokenSecretKey": "file:///k"}) == (
            "# tokenSecretKey=data:;base64,xxx\ntokenSecretKey=file:///k\n"
        )

    def test_a_prefix_adds_what_the_file_lacks(self):
        assert applied("a=1\n", {"PULSAR_PREFIX_c": "3"}) == "a=1\nc=3\n"

    def test_without_a_prefix_nothing_is_added(self):
        assert applied("a=1\n", {"HOME": "/root", "c": "3"}) == "a=1\n"

    def test_may_set_a_key_to_nothing(self):
        assert applied("a=1\n", {"PULSAR_PREFIX_a": ""}) == "a=\n"

    @given(
        lines=st.lists(LINES, max_size=8),
        named=st.dictionaries(KEYS, VALUES),
        prefix=st.sampled_from(["", "PULSAR_PREFIX_"]),
    )
    def test_what_is_named_is_set_and_what_is_not_stays(self, lines, named, prefix):
        text = "".join(f"{line}\n" for line in lines)
        environment = {f"{prefix}{key}": value for key, value in named.items()}
        before, after = values(text), values(applied(text, environment))
        in_file = {line.lstrip("# ").split("=")[0] for line in lines}
        expected = {k: v for k, v in named.items() if prefix or k in in_file}
        assert after == {**before, **expected}
        untouched = [line for line in lines if line.lstrip("# ").split("=")[0] not in named]
        kept = applied(text, environment).splitlines()
        assert [line for line in kept if line in untouched] == untouched

    def test_the_script_writes_the_file_back(self, tmp_path):
        file = tmp_path / "standalone.conf"
        file.write_text("a=1\n")
        path = FOLDER / "pulsar" / "apply-config-from-env.py"
        subprocess.run(
            [sys.executable, path, file], env={**os.environ, "PULSAR_PREFIX_c": "3"}, check=True
        )
        assert file.read_text() == "a=1\nc=3\n"


class TestEntrypointOfElasticsearch:
    @pytest.fixture
    def run(self, tmp_path):
        """The entrypoint, with an Elasticsearch that prints its arguments, each on a line."""
        program = tmp_path / "bin" / "elasticsearch"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\necho started\nfor a; do echo "$a"; done\n')
        program.chmod(0o755)
        entrypoint = FOLDER / "elasticsearch" / "docker-entrypoint.sh"

        def of(*arguments, **environment):
            done = subprocess.run(
                ["/bin/bash", entrypoint, *arguments], cwd=tmp_path, capture_output=True,
                env={"PATH": os.defpath, **environment}, text=True, check=True,
            )  # fmt: skip
            return done.stdout.splitlines()

        return of

    def test_variables_with_dots_are_settings(self, run):
        named = {"discovery.type": "single-node", "xpack.security.enabled": "false"}
        started, *settings = run(**named)
        assert started == "started"
        assert sorted(settings) == [
            "-Ediscovery.type=single-node", "-Expack.security.enabled=false",
        ]  # fmt: skip

    def test_a_value_may_have_blanks_lines_and_equals_signs(self, run):
        assert run(**{"node.name": "a b=c\nd"}) == ["started", "-Enode.name=a b=c", "d"]

    def test_other_variables_are_none(self, run):
        assert run(ES_JAVA_OPTS="-Xms512m", lower="1", **{"Upper.case": "2"}) == ["started"]

    def test_its_own_word_starts_it_too(self, run):
        assert run("eswrapper", **{"node.name": "a"}) == ["started", "-Enode.name=a"]

    def test_another_command_is_run_as_it_is(self, run):
        assert run("echo", "a b", "c", **{"node.name": "a"}) == ["a b c"]
