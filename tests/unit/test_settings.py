"""How each service reaches the outside: each setting by our name, and by the original system's."""

import os
import re
import socket
from pathlib import Path

import pytest

from rendezvous.bus.topics import covers
from rendezvous.contract import REPLY_TOPICS
from rendezvous.errors import ConfigurationError
from rendezvous.settings import (
    ConnectorSettings,
    DecoySettings,
    ElasticsearchConnectorSettings,
    ElasticsearchSettings,
    FrontEndSettings,
    LogConnectorSettings,
    ModelSettings,
    PruneSettings,
    Settings,
    read,
)

SERVICES = [
    Settings,
    FrontEndSettings,
    ModelSettings,
    DecoySettings,
    LogConnectorSettings,
    ElasticsearchConnectorSettings,
    PruneSettings,
]

# What stands in the environment, and what is read: for each setting that has a default.
DEFAULTS = {
    Settings: {
        "bus": "pulsar://127.0.0.1:6650",
        "instance": f"{socket.gethostname()}-{os.getpid()}",
        "log_level": "INFO",
        "log_format": "text",
        "metrics_host": "127.0.0.1",
        "metrics_port": 0,
    },
    FrontEndSettings: {
        "config": Path("rendezvous.yaml"),
        "host": "127.0.0.1",
        "port": 8000,
        "reply_topic": "",
        "workers": 1,
        "deadline": None,
        "allowed_hosts": ("localhost", "127.0.0.1", "[::1]"),
    },
    ModelSettings: {
        "bundle": Path("models/dt/1"),  # must be given
        "endpoint": "iris",
        "topic": "",
        "models_topic": "models",
        "role": "production",
        "reply_topics": r"score(-[A-Za-z0-9_.-]{1,64})?",
        "max_batch": 256,
        "allow_joblib": False,
        "model_name": None,
        "model_version": None,
    },
    DecoySettings: {"name": "decoy", "topics": ("iris",), "decoy_topic": "decoy"},
    LogConnectorSettings: {
        "topics": ("decoy",),
        "group": "",
        "threshold": 1000,
        "timeout": 5.0,
        "output_dir": Path("archive"),
    },
    ElasticsearchConnectorSettings: {
        "elasticsearch": "http://127.0.0.1:9200",
        "index": ("decoy-log",),
        "index_period": "none",
        "api_key": None,
    },
    PruneSettings: {
        "elasticsearch": "http://127.0.0.1:9200",
        "index": ("decoy-log", "score-log", "decision-log", "dead-letter-log"),
        "api_key": None,
        "keep_days": 0,
        "prune_apply": False,
        "prune_every": 24.0,
    },
}

OURS = [
    (Settings, "bus", "RENDEZVOUS_BUS", "memory://", "memory://"),
    (Settings, "instance", "RENDEZVOUS_INSTANCE", "a-1", "a-1"),
    (Settings, "log_level", "RENDEZVOUS_LOG_LEVEL", "DEBUG", "DEBUG"),
    (Settings, "log_format", "RENDEZVOUS_LOG_FORMAT", "json", "json"),
    (Settings, "metrics_host", "RENDEZVOUS_METRICS_HOST", "::", "::"),
    (Settings, "metrics_port", "RENDEZVOUS_METRICS_PORT", "9100", 9100),
    (FrontEndSettings, "config", "RENDEZVOUS_CONFIG", "a.yaml", Path("a.yaml")),
    (FrontEndSettings, "host", "RENDEZVOUS_HOST", "::1", "::1"),
    (FrontEndSettings, "port", "RENDEZVOUS_PORT", "80", 80),
    (FrontEndSettings, "reply_topic", "RENDEZVOUS_REPLY_TOPIC", "score-a", "score-a"),
    (FrontEndSettings, "workers", "RENDEZVOUS_WORKERS", "4", 4),
    (FrontEndSettings, "deadline", "RENDEZVOUS_DEADLINE", "0.5", 0.5),
    (FrontEndSettings, "allowed_hosts", "RENDEZVOUS_ALLOWED_HOSTS", "a, b,", ("a", "b")),
    (ModelSettings, "bundle", "RENDEZVOUS_BUNDLE", "models/rf/2", Path("models/rf/2")),
    (ModelSettings, "endpoint", "RENDEZVOUS_ENDPOINT", "housing", "housing"),
    (ModelSettings, "topic", "RENDEZVOUS_TOPIC", "houses", "houses"),
    (ModelSettings, "models_topic", "RENDEZVOUS_MODELS_TOPIC", "m", "m"),
    (ModelSettings, "role", "RENDEZVOUS_ROLE", "shadow", "shadow"),
    (ModelSettings, "reply_topics", "RENDEZVOUS_REPLY_TOPICS", "s|t", "s|t"),
    (ModelSettings, "max_batch", "RENDEZVOUS_MAX_BATCH", "1", 1),
    (ModelSettings, "allow_joblib", "RENDEZVOUS_ALLOW_JOBLIB", "true", True),
    (ModelSettings, "model_name", "RENDEZVOUS_MODEL_NAME", "dt", "dt"),
    (ModelSettings, "model_version", "RENDEZVOUS_MODEL_VERSION", "0", 0),
    (DecoySettings, "name", "RENDEZVOUS_NAME", "shade", "shade"),
    (DecoySettings, "topics", "RENDEZVOUS_TOPICS", "iris,housing", ("iris", "housing")),
    (DecoySettings, "decoy_topic", "RENDEZVOUS_DECOY_TOPIC", "inputs", "inputs"),
    (ConnectorSettings, "topics", "RENDEZVOUS_TOPICS", "decoy, score", ("decoy", "score")),
    (ConnectorSettings, "group", "RENDEZVOUS_GROUP", "g", "g"),
    (ConnectorSettings, "threshold", "RENDEZVOUS_THRESHOLD", "10", 10),
    (ConnectorSettings, "timeout", "RENDEZVOUS_TIMEOUT", "0.5", 0.5),
    (LogConnectorSettings, "output_dir", "RENDEZVOUS_OUTPUT_DIR", "/a", Path("/a")),
    (
        ElasticsearchSettings,
        "elasticsearch",
        "RENDEZVOUS_ELASTICSEARCH",
        "https://host:1",
        "https://host:1",
    ),
    (ElasticsearchConnectorSettings, "index", "RENDEZVOUS_INDEX", " score-log,", ("score-log",)),
    (ElasticsearchConnectorSettings, "index_period", "RENDEZVOUS_INDEX_PERIOD", "day", "day"),
    (PruneSettings, "index", "RENDEZVOUS_INDEX", "a,b", ("a", "b")),
    (PruneSettings, "keep_days", "RENDEZVOUS_KEEP_DAYS", "30", 30),
    (PruneSettings, "prune_apply", "RENDEZVOUS_PRUNE_APPLY", "true", True),
    (PruneSettings, "prune_every", "RENDEZVOUS_PRUNE_EVERY", "0", 0.0),
]
ORIGINALS = [
    (FrontEndSettings, "reply_topic", "RET_TOPIC", "score-a", "score-a"),
    (FrontEndSettings, "deadline", "SCORE_TIMEOUT", "5", 5.0),
    (FrontEndSettings, "deadline", "TIMEOUT", "5", 5.0),
    (ModelSettings, "bundle", "MODEL_PATH", "/models/lr/0", Path("/models/lr/0")),
    (ModelSettings, "topic", "CONSUMER_TOPIC", "iris", "iris"),
    (ModelSettings, "model_name", "MODEL_NAME", "lr", "lr"),
    (ModelSettings, "model_version", "MODEL_VERSION", "0", 0),
    (DecoySettings, "name", "MODEL_NAME", "shade", "shade"),
    (DecoySettings, "topics", "CONSUMER_TOPIC", "iris", ("iris",)),
    (DecoySettings, "decoy_topic", "PRODUCER_TOPIC", "inputs", "inputs"),
    (ConnectorSettings, "topics", "CONSUMER_TOPIC", "score", ("score",)),
    (ConnectorSettings, "threshold", "THRESHOLD", "10", 10),
    (ConnectorSettings, "timeout", "TIMEOUT", "0.5", 0.5),
    (LogConnectorSettings, "output_dir", "OUTPUT_DIR", "/logs", Path("/logs")),
    (ElasticsearchConnectorSettings, "index", "ELASTIC_INDEX", "score-log", ("score-log",)),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Start with an empty environment, save for a bundle: a model's worker must have one."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("RENDEZVOUS_BUNDLE", "models/dt/1")
    return monkeypatch


class TestEachSetting:
    @pytest.mark.parametrize("service", DEFAULTS)
    def test_has_its_default_where_nothing_is_said(self, service):
        found = read(service)

        assert {name: getattr(found, name) for name in DEFAULTS[service]} == DEFAULTS[service]

    @pytest.mark.parametrize(("service", "setting", "variable", "text", "value"), OURS)
    def test_is_read_by_our_name(self, environment, service, setting, variable, text, value):
        environment.setenv(variable, text)

        assert getattr(read(service), setting) == value

    @pytest.mark.parametrize(("service", "setting", "variable", "text", "value"), ORIGINALS)
    def test_is_read_by_the_originals_name(
        self, environment, service, setting, variable, text, value
    ):
        environment.delenv("RENDEZVOUS_BUNDLE")
        environment.setenv("MODEL_PATH", "/models/lr/0")
        environment.setenv(variable, text)

        assert getattr(read(service), setting) == value

    @pytest.mark.parametrize(("service", "setting", "variable", "text", "value"), ORIGINALS)
    def test_is_ours_where_both_are_set(self, environment, service, setting, variable, text, value):
        ours = next((v, t, e) for c, s, v, t, e in OURS if (c, s) == (service, setting))
        environment.setenv(variable, "777")
        environment.setenv(ours[0], ours[1])

        assert getattr(read(service), setting) == ours[2]

    @pytest.mark.parametrize("service", SERVICES)
    def test_is_not_read_by_a_bare_name_that_other_programs_use(self, environment, service):
        expected = read(service)
        for name in service.model_fields:
            if name not in {"model_name", "model_version", "threshold", "timeout", "output_dir"}:
                environment.setenv(name.upper(), "1")

        assert read(service) == expected

    @pytest.mark.parametrize("service", SERVICES)
    def test_has_been_tried_here_and_says_what_it_is(self, service):
        tried = {name for c, name, *_ in OURS if issubclass(service, c)} | {"api_key"}

        assert service.model_fields.keys() <= tried
        assert all(len(field.description) > 5 for field in service.model_fields.values())

    def test_can_be_given_by_its_name_in_code(self):
        assert FrontEndSettings(host="::1", port=0).port == 0

    def test_that_is_a_secret_does_not_show(self, environment):
        environment.setenv("RENDEZVOUS_ELASTICSEARCH_API_KEY", "hush")

        found = read(ElasticsearchConnectorSettings)

        assert found.api_key.get_secret_value() == "hush"
        assert "hush" not in f"{found} {found!r} {found.model_dump_json()}"


class TestTheReturnAddress:
    def addresses(self, environment, workers=1, **variables):
        """Return those of all workers, as read from the environment."""
        environment.setenv("RENDEZVOUS_WORKERS", str(workers))
        for name, text in variables.items():
            environment.setenv(f"RENDEZVOUS_{name.upper()}", text)
        settings = read(FrontEndSettings)
        return [settings.return_address("score", number + 1) for number in range(workers)]

    def test_of_one_worker_is_the_configurations_or_the_one_that_is_set(self, environment):
        assert self.addresses(environment) == ["score"]
        assert self.addresses(environment, reply_topic="score-a") == ["score-a"]

    def test_of_several_has_the_machines_name_and_their_numbers(self, environment, monkeypatch):
        monkeypatch.setattr(socket, "gethostname", lambda: "über host.example")
        assert self.addresses(environment, 2) == [
            "score--ber-host.example-1",
            "score--ber-host.example-2",
        ]

    def test_has_the_instance_that_is_set_also_of_one_worker(self, environment):
        assert self.addresses(environment, instance="a") == ["score-a-1"]
        assert self.addresses(environment, 2, instance="a") == ["score-a-1", "score-a-2"]

    def test_begins_with_the_one_that_is_set(self, environment):
        found = self.addresses(environment, 2, reply_topic="answers", instance="a")
        assert found == ["answers-a-1", "answers-a-2"]

    @pytest.mark.parametrize("topic", ["score", "score-front"])
    def test_is_never_too_long_for_the_models(self, environment, topic):
        found = self.addresses(environment, 12, reply_topic=topic, instance="x" * 64)
        assert len(set(found)) == 12
        for address in found:
            assert re.fullmatch(REPLY_TOPICS, address)

    def test_is_of_a_family_that_connectors_read(self, environment):
        for address in self.addresses(environment, 2):
            assert covers("score-*", address)


class TestTopics:
    @pytest.mark.parametrize("topics", ["score,score-*", "score-*"])
    def test_may_be_families(self, environment, topics):
        environment.setenv("RENDEZVOUS_TOPICS", topics)
        assert read(LogConnectorSettings).topics == tuple(topics.split(","))

    @pytest.mark.parametrize("topics", ["score*", "*", "a-*,s-*-b", "-*-*"])
    def test_have_a_star_only_at_the_end_after_a_hyphen(self, environment, topics):
        environment.setenv("RENDEZVOUS_TOPICS", topics)
        with pytest.raises(ConfigurationError, match=r"RENDEZVOUS_TOPICS.*only at the end"):
            read(LogConnectorSettings)


class TestTheOriginalsServers:
    @pytest.mark.parametrize(
        ("variables", "url"),
        [
            ({"PULSAR_HOST": "pulsar"}, "pulsar://pulsar:6650"),
            ({"PULSAR_HOST": "pulsar", "PULSAR_PORT": "6651"}, "pulsar://pulsar:6651"),
            ({"PULSAR_HOST": "pulsar", "RENDEZVOUS_BUS": "memory://"}, "memory://"),
            ({"PULSAR_PORT": "6651"}, "pulsar://127.0.0.1:6650"),
        ],
    )
    def test_pulsar_is_named_by_host_and_port(self, environment, variables, url):
        for name, text in variables.items():
            environment.setenv(name, text)

        assert read(DecoySettings).bus == url

    @pytest.mark.parametrize(
        ("variables", "url"),
        [
            ({"ELASTIC_HOST": "host"}, "http://host:9200"),
            ({"ELASTIC_HOST": "host", "ELASTIC_PORT": "9201"}, "http://host:9201"),
            ({"ELASTIC_HOST": "host", "RENDEZVOUS_ELASTICSEARCH": "https://host"}, "https://host"),
            ({"ELASTIC_PORT": "9201"}, "http://127.0.0.1:9200"),
        ],
    )
    def test_elasticsearch_is_named_by_host_and_port(self, environment, variables, url):
        for name, text in variables.items():
            environment.setenv(name, text)

        assert read(ElasticsearchConnectorSettings).elasticsearch == url


class TestTheIndex:
    @pytest.mark.parametrize(
        ("topics", "index"),
        [
            ("decoy", "decoy-log"),
            ("decoy,score", "all"),
            ("decoy,score", "decoy-log,score-log"),
            ("decoy,score", "all,all"),
        ],
    )
    def test_is_one_for_all_topics_or_one_for_each(self, environment, topics, index):
        environment.setenv("RENDEZVOUS_TOPICS", topics)
        environment.setenv("RENDEZVOUS_INDEX", index)

        found = read(ElasticsearchConnectorSettings)

        assert (",".join(found.topics), ",".join(found.index)) == (topics, index)

    @pytest.mark.parametrize(
        ("topics", "index"),
        [
            ("decoy", "decoy-log,score-log"),
            ("decoy,score,iris", "decoy-log,score-log"),
            ("decoy,score", "decoy-log,score-log,iris-log"),
            ("decoy,decoy", "decoy-log,again"),  # a group gets each message once
        ],
    )
    def test_is_wrong_otherwise(self, environment, topics, index):
        environment.setenv("RENDEZVOUS_TOPICS", topics)
        environment.setenv("RENDEZVOUS_INDEX", index)

        with pytest.raises(ConfigurationError, match=r"RENDEZVOUS_INDEX.*one for all topics, or"):
            read(ElasticsearchConnectorSettings)

    def test_is_not_blamed_for_topics_that_are_wrong(self, environment):
        environment.setenv("RENDEZVOUS_TOPICS", "")
        environment.setenv("RENDEZVOUS_INDEX", "decoy-log,score-log")

        with pytest.raises(ConfigurationError, match="RENDEZVOUS_TOPICS") as raised:
            read(ElasticsearchConnectorSettings)

        assert "INDEX" not in str(raised.value)


class TestAWrongSetting:
    @pytest.mark.parametrize(
        ("service", "variable", "text", "rule"),
        [
            (Settings, "RENDEZVOUS_INSTANCE", "a b", "pattern"),
            (Settings, "RENDEZVOUS_INSTANCE", "", "pattern"),
            (Settings, "RENDEZVOUS_LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
            (Settings, "RENDEZVOUS_LOG_FORMAT", "xml", "'text' or 'json'"),
            (Settings, "RENDEZVOUS_METRICS_PORT", "70000", "less than or equal to 65535"),
            (FrontEndSettings, "RENDEZVOUS_PORT", "-1", "greater than or equal to 0"),
            (FrontEndSettings, "RENDEZVOUS_PORT", "http", "valid integer"),
            (FrontEndSettings, "RENDEZVOUS_DEADLINE", "0", "greater than 0"),
            (FrontEndSettings, "SCORE_TIMEOUT", "soon", "valid number"),
            (FrontEndSettings, "TIMEOUT", "-5", "greater than 0"),
            (FrontEndSettings, "TIMEOUT", "nan", "less than or equal to 3600"),
            (FrontEndSettings, "TIMEOUT", "inf", "less than or equal to 3600"),
            (FrontEndSettings, "RENDEZVOUS_ALLOWED_HOSTS", " ,", "at least 1 item"),
            (ModelSettings, "RENDEZVOUS_ROLE", "decoy", "'production', 'canary'"),
            (ModelSettings, "RENDEZVOUS_MAX_BATCH", "0", "greater than or equal to 1"),
            (ModelSettings, "RENDEZVOUS_ALLOW_JOBLIB", "perhaps", "valid boolean"),
            (ModelSettings, "RENDEZVOUS_REPLY_TOPICS", "score(", "a regular expression"),
            (ModelSettings, "MODEL_VERSION", "one", "valid integer"),
            (DecoySettings, "RENDEZVOUS_TOPICS", "", "at least 1 item"),
            (ConnectorSettings, "THRESHOLD", "0", "greater than or equal to 1"),
            (ConnectorSettings, "RENDEZVOUS_TIMEOUT", "0", "greater than 0"),
            (ElasticsearchConnectorSettings, "ELASTIC_INDEX", ",", "at least 1 item"),
        ],
    )
    def test_is_an_error_that_names_the_variable_and_the_rule(
        self, environment, service, variable, text, rule
    ):
        environment.setenv(variable, text)

        with pytest.raises(ConfigurationError) as raised:
            read(service)

        assert variable in str(raised.value)
        assert rule in str(raised.value)

    def test_is_an_error_where_it_is_missing_and_has_no_default(self, environment):
        environment.delenv("RENDEZVOUS_BUNDLE")

        with pytest.raises(ConfigurationError, match="RENDEZVOUS_BUNDLE or MODEL_PATH: Field"):
            read(ModelSettings)

    def test_does_not_hide_another(self, environment):
        environment.setenv("RENDEZVOUS_PORT", "-1")
        environment.setenv("RENDEZVOUS_LOG_LEVEL", "loud")

        with pytest.raises(ConfigurationError, match=r"LOG_LEVEL.*; .*PORT"):
            read(FrontEndSettings)

    def test_does_not_show_a_secret(self, environment):
        environment.setenv("RENDEZVOUS_ELASTICSEARCH_API_KEY", "hush")
        environment.setenv("THRESHOLD", "hush-not")

        with pytest.raises(ConfigurationError) as raised:
            read(ElasticsearchConnectorSettings)

        assert "hush" not in str(raised.value)
