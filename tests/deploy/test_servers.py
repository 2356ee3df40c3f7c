"""Real servers: what they are started with, and that they start, crash and come back."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pulsar
import pytest

from deploy.servers import elasticsearch
from deploy.servers import pulsar as pulsar_server
from deploy.servers.container import Image, choose
from deploy.servers.elasticsearch import Elasticsearch, reachable
from deploy.servers.errors import ServerError, ServerUnavailable
from deploy.servers.java import Java, find, major_version, newest
from deploy.servers.ports import in_use, lasting_port
from deploy.servers.pulsar import Pulsar
from deploy.servers.server import State

ROOT = Path(__file__).resolve().parent.parent.parent
PORTS = {"broker": 6650, "http": 8080, "bookie": 3181}


class TestPulsarConfiguration:
    def settings(self):
        lines = pulsar_server.render_configuration(PORTS).splitlines()
        pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
        assert len(pairs) == len(dict(pairs)), "a key is given twice"
        return dict(pairs)

    def test_every_message_is_fsynced_before_it_is_acknowledged(self):
        assert self.settings()["journalSyncData"] == "true"

    def test_nothing_waits_on_a_timer(self):
        settings = self.settings()
        assert settings["journalMaxGroupWaitMSec"] == "0"
        assert settings["journalFlushWhenQueueEmpty"] == "true"
        assert settings["managedLedgerNewEntriesCheckDelayInMillis"] == "0"

    def test_topics_are_not_deleted_for_being_idle(self):
        assert self.settings()["brokerDeleteInactiveTopicsEnabled"] == "false"

    def test_listens_on_the_loopback_interface_at_its_ports(self):
        settings = self.settings()
        assert settings["bindAddress"] == settings["advertisedAddress"] == "127.0.0.1"
        assert settings["brokerServicePort"] == "6650"
        assert settings["webServicePort"] == "8080"

    def test_the_bookie_keeps_the_port_that_its_data_belongs_to(self):
        assert self.settings()["allowEphemeralPorts"] == "true"
        command = pulsar_server.java_command(Java(21, Path("/j")), Path("/h"), Path("/d"), PORTS)
        assert command[command.index("--bookkeeper-port") + 1] == "3181"


@pytest.mark.parametrize(("major", "allowed"), [(17, False), (21, False), (23, True), (25, True)])
def test_pulsar_is_given_memory_access_only_where_java_knows_the_option(major, allowed):
    command = pulsar_server.java_command(Java(major, Path("/j")), Path("/h"), Path("/d"), PORTS)
    assert ("--sun-misc-unsafe-memory-access=allow" in command) == allowed
    assert command[0] == "/j/bin/java"


def test_elasticsearch_is_a_single_node_on_the_loopback_interface_without_security():
    paths = {"data": Path("/a b/data"), "logs": Path("/a b/logs")}
    text = elasticsearch.render_configuration({"http": 9200, "transport": 9300}, paths=paths)
    assert "discovery.type: single-node" in text
    assert "network.host: 127.0.0.1" in text
    assert "http.port: 9200" in text
    assert "xpack.security.enabled: false" in text
    assert 'path.data: "/a b/data"' in text


class TestJava:
    @pytest.mark.parametrize(
        ("text", "major"),
        [
            ('openjdk version "17.0.15" 2025-04-15', 17),
            ('java version "1.8.0_292"', 8),
            ('IMPLEMENTOR="x"\nJAVA_VERSION="25"\n', 25),
            ('openjdk version "26-ea" 2026-03-17', 26),
            ("The operation couldn't be completed.", None),
        ],
    )
    def test_reads_the_version_from_what_java_says(self, text, major):
        assert major_version(text) == major

    def test_takes_the_newest(self):
        installed = [Java(17, Path("/a")), Java(25, Path("/b")), Java(21, Path("/c"))]
        assert newest(installed, 17) == Java(25, Path("/b"))

    def test_takes_none_that_is_too_old(self):
        assert newest([Java(17, Path("/a"))], 21) is None

    def test_says_what_to_install_when_there_is_none(self, no_programs):
        with pytest.raises(ServerUnavailable, match=r"needs Java 21 .*found: none.*openjdk-21"):
            find(21, "Elasticsearch")


class TestImages:
    def test_takes_the_first_engine_that_has_the_image(self):
        has = {("podman", "pulsar:1")}
        chosen = choose("pulsar:1", ["docker", "podman"], lambda *asked: asked in has)
        assert chosen == Image("podman", "pulsar:1")

    def test_takes_none_that_would_have_to_be_pulled(self):
        assert choose("pulsar:1", ["docker"], lambda *_: False) is None


class TestPorts:
    def test_a_port_is_in_use_while_somebody_listens(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            assert in_use(port)
        assert not in_use(port)

    def test_a_lasting_port_is_none_that_outgoing_connections_are_given(self):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert 1024 < lasting_port() < min(lowest, 32768)

    def test_free_ports_differ_and_given_ones_are_taken(self, tmp_path):
        server = Pulsar(tmp_path, port=6650)
        assert server.url == "pulsar://127.0.0.1:6650"
        assert len(set(server.ports.values())) == 3

    def test_the_directory_remembers_its_ports(self, tmp_path):
        ports = {"broker": 20001, "http": 20002, "bookie": 20003}
        (tmp_path / "server.json").write_text(State(ports).dumps())
        assert Pulsar(tmp_path).ports == ports
        assert Pulsar(tmp_path, port=20009).ports == ports | {"broker": 20009}

    def test_the_directory_remembers_its_image(self):
        state = State({"http": 1}, Image("docker", "pulsar:1"))
        assert State.loads(state.dumps()) == state

    def test_a_port_in_use_is_said_in_a_sentence(self, tmp_path):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            done = cli(tmp_path, "elasticsearch", "up", "--port", port)
        assert done.returncode == 1
        assert f"port {port}, for Elasticsearch" in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_folder_below_a_private_one_cannot_be_reached_by_others(tmp_path):
    public = tmp_path / "private" / "public"
    public.mkdir(parents=True)
    public.parent.chmod(0o700)
    public.chmod(0o755)
    assert not reachable(public)
    assert reachable(Path("/"))


def test_without_java_up_says_what_to_do(tmp_path, no_programs):
    with pytest.raises(ServerUnavailable, match="needs Java 17"):
        Pulsar(tmp_path).start()


class TestAServerThatIsNamed:
    @pytest.mark.pulsar
    def test_is_used_by_pulsar_up_and_none_is_started(self, tmp_path, pulsar_url):
        up = cli(tmp_path, "pulsar", "up", RENDEZVOUS_TEST_PULSAR_URL=pulsar_url)
        assert (up.returncode, up.stdout, up.stderr) == (0, f"using the one at {pulsar_url}\n", "")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.elasticsearch
    @pytest.mark.parametrize("end", ["", "/"])
    def test_is_used_by_elasticsearch_up_and_none_is_started(
        self, tmp_path, elasticsearch_url, end
    ):
        url = elasticsearch_url + end
        up = cli(tmp_path, "elasticsearch", "up", RENDEZVOUS_TEST_ELASTICSEARCH_URL=url)
        assert (up.returncode, up.stdout, up.stderr) == (0, f"using the one at {url}\n", "")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "scheme"), [("pulsar", "pulsar"), ("elasticsearch", "http")], ids=lambda each: each
    )
    def test_must_answer(self, tmp_path, name, scheme):
        variable = f"RENDEZVOUS_TEST_{name.upper()}_URL"
        with socket.socket() as silent:  # bound and not listening: nobody else can take the port
            silent.bind(("127.0.0.1", 0))
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
            up = cli(tmp_path, name, "up", **{variable: url})
        assert (up.returncode, up.stdout) == (1, "")
        [line] = up.stderr.splitlines()
        assert f"does not answer at {url}" in line
        assert variable in line
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["pulsar", "elasticsearch"])
    @pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1:1", "http://[", "pulsar://"])
    def test_must_be_a_url(self, tmp_path, name, url):
        up = cli(tmp_path, name, "up", **{f"RENDEZVOUS_TEST_{name.upper()}_URL": url})
        assert up.returncode == 1
        assert len(up.stderr.splitlines()) == 1

    def test_must_be_elasticsearch_and_not_another_that_answers(self, monkeypatch):
        for answer in (None, "", "[]", "3", "ok", '{"status": 200}', '{"status": "red"}', "{}"):
            monkeypatch.setattr(elasticsearch, "get", lambda url, answer=answer: answer)
            assert not Elasticsearch.answers("http://127.0.0.1:9200")


@pytest.mark.pulsar
@pytest.mark.timeout(400)
def test_pulsar_by_the_command_line(tmp_path, pulsar_server):
    port, http_port = lasting_port(), lasting_port()
    url = f"pulsar://127.0.0.1:{port}"
    try:
        assert cli(tmp_path, "pulsar", "status").returncode == 1
        up = cli(tmp_path, "pulsar", "up", "--port", port, "--http-port", http_port)
        assert up.returncode == 0, up.stdout + up.stderr
        assert f"ready at {url} after " in up.stdout
        assert f"already up at {url}" in cli(tmp_path, "pulsar", "up").stdout
        status = cli(tmp_path, "pulsar", "status")
        assert status.returncode == 0
        assert f"is up at {url}" in status.stdout
        send(url, [b"one", b"two"])

        assert cli(tmp_path, "pulsar", "kill9").returncode == 0
        assert cli(tmp_path, "pulsar", "status").returncode == 1
        assert cli(tmp_path, "pulsar", "restart").returncode == 0
        assert received(url) == [b"one", b"two"], "a crash lost messages"
        send(url, [b"three"])

        down = cli(tmp_path, "pulsar", "down")
        assert "is stopped" in down.stdout
        assert not in_use(port)
        assert not in_use(http_port)
        assert "is not up" in cli(tmp_path, "pulsar", "down").stdout
    finally:
        Pulsar(tmp_path / "pulsar").remove()


@pytest.mark.elasticsearch
@pytest.mark.timeout(400)
def test_elasticsearch_by_the_command_line(tmp_path, elasticsearch_server):
    port = lasting_port()
    url = f"http://127.0.0.1:{port}"
    try:
        up = cli(tmp_path, "elasticsearch", "up", "--port", port)
        assert up.returncode == 0, up.stdout + up.stderr
        assert f"ready at {url} after " in up.stdout
        assert f"already up at {url}" in cli(tmp_path, "elasticsearch", "up").stdout
        assert cli(tmp_path, "elasticsearch", "status").returncode == 0
        stored = httpx.put(f"{url}/things/_doc/1?refresh=true", json={"a": 1}, timeout=30)
        assert stored.status_code == 201

        assert cli(tmp_path, "elasticsearch", "kill9").returncode == 0
        assert cli(tmp_path, "elasticsearch", "status").returncode == 1
        assert cli(tmp_path, "elasticsearch", "restart").returncode == 0
        assert httpx.get(f"{url}/things/_doc/1").json()["_source"] == {"a": 1}

        assert "is stopped" in cli(tmp_path, "down").stdout
        assert not in_use(port)
    finally:
        Elasticsearch(tmp_path / "elasticsearch").remove()


@pytest.mark.pulsar
@pytest.mark.timeout(300)
def test_a_broker_can_be_killed_and_started_at_the_same_place_with_all_its_messages(broker):
    before = broker.url
    send(broker.url, [b"%d" % number for number in range(100)])
    broker.kill9()
    assert broker.pid is None
    assert not broker.is_healthy()
    broker.start()
    assert broker.url == before
    assert received(broker.url) == [b"%d" % number for number in range(100)]


@pytest.mark.pulsar
def test_a_broker_that_does_not_start_says_the_end_of_its_log(tmp_path, pulsar_server):
    directory = tmp_path / "pulsar"
    directory.mkdir()
    (directory / "data").write_text("a file where its data folder should be")
    with pytest.raises(ServerError, match=r"ended while starting(.|\n)*data"):
        Pulsar(directory).start()


def cli(directory, *arguments, **variables):
    """Run the command; of the variables that name running servers it sees only those given."""
    command = [sys.executable, "-m", "deploy.servers", *map(str, arguments)]
    named = {Pulsar.url_variable, Elasticsearch.url_variable}
    env = {name: value for name, value in os.environ.items() if name not in named}
    return subprocess.run(
        [*command, "--directory", str(directory)],
        cwd=ROOT,
        env=env | variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )


TOPIC = "persistent://public/default/kept"


def client(url):
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
    return pulsar.Client(url, operation_timeout_seconds=30, logger=quiet)


def send(url, payloads):
    connected = client(url)
    producer = connected.create_producer(TOPIC)
    for payload in payloads:
        producer.send(payload)
    connected.close()


def received(url):
    connected = client(url)
    reader = connected.create_reader(TOPIC, pulsar.MessageId.earliest)
    payloads = []
    while reader.has_message_available():
        payloads.append(reader.read_next(timeout_millis=30_000).data())
    connected.close()
    return payloads
