"""How each service reaches the outside, from the environment: ``RENDEZVOUS_*``.

The names of the original system (``PULSAR_HOST``, ``MODEL_NAME``, ``CONSUMER_TOPIC``, ...) are
accepted too; where both are set, ours wins. What is served is ``configuration``.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rendezvous.contract import REPLY_TOPICS
from rendezvous.errors import ConfigurationError
from rendezvous.schema import Role  # noqa: TC001 - pydantic reads it
from rendezvous.sink.dated import LONGEST_KEPT, Period

S = TypeVar("S", bound="ProcessSettings")
PREFIX = "RENDEZVOUS_"

LONGEST_ADDRESS = len("score-") + 64
"""Signs of a return address that workers of models send to (`REPLY_TOPICS`), at most."""


def _named(name: str, *originals: str, **rest: Any) -> Any:
    """Declare a setting read from ``RENDEZVOUS_<NAME>``, or the original system's variables."""
    return Field(validation_alias=AliasChoices(f"{PREFIX}{name.upper()}", *originals), **rest)


def _machine() -> str:
    """Return this machine's name, of the signs that a topic's may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:48]


def _this_process() -> str:
    """Return a name that no other process of any machine has."""
    return f"{_machine()}-{os.getpid()}"


def _split(value: Any) -> Any:
    """Read a list that is separated by commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, Field(min_length=1)]


class ProcessSettings(BaseSettings):
    """What every process needs to know."""

    # the prefix: else a field may also be set by its bare name, such as HOST or PORT
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, env_prefix=PREFIX
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _named(
        "log_level", default="INFO", description="The least level that is logged."
    )
    log_format: Literal["text", "json"] = _named(
        "log_format", default="text", description="Log lines for people, or JSON for machines."
    )


class Settings(ProcessSettings):
    """What every service on the bus needs to know."""

    bus: str = _named("bus", default="pulsar://127.0.0.1:6650", description="The bus, as a URL.")
    instance: str = _named(
        "instance",
        default_factory=_this_process,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Which replica this is; must differ between replicas of a service.",
    )
    metrics_host: str = _named(
        "metrics_host",
        default="127.0.0.1",
        description="Address of the pages of metrics and health.",
    )
    metrics_port: int = _named(
        "metrics_port", default=0, ge=0, le=65535,
        description="Port of `/metrics` for Prometheus, `/healthz` and `/readyz`; 0 for none. "
        "(The front end has them on its own port.)",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _pulsar_host(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Make the bus's URL from the original's PULSAR_HOST and PULSAR_PORT."""
        host = os.environ.get("PULSAR_HOST")
        if host and f"{PREFIX}BUS" not in values and "bus" not in values:
            values[f"{PREFIX}BUS"] = f"pulsar://{host}:{os.environ.get('PULSAR_PORT', '6650')}"
        return values


class FrontEndSettings(Settings):
    """The front end."""

    config: Path = _named("config", default=Path("rendezvous.yaml"), description="What is served.")
    host: str = _named("host", default="127.0.0.1", description="Address to listen on.")
    port: int = _named("port", default=8000, ge=0, le=65535, description="Port to listen on.")
    reply_topic: str = _named(
        "reply_topic", "RET_TOPIC", default="",
        description="The return address, if not the configuration's topic `score`. Front ends may "
        "share one. Where there are several workers, or `RENDEZVOUS_INSTANCE` is set, each has one "
        "of its own, `<this>-<instance>-<number>`, and hears no scores of the others' requests.",
    )  # fmt: skip
    workers: int = _named(
        "workers", default=1, ge=1, le=999,
        description="Processes that share the port, one for each core that HTTP shall have. Of "
        "several, each has a return address of its own; the instance is then this machine's name, "
        "if it is not set.",
    )  # fmt: skip
    deadline: float | None = _named(
        "deadline", "SCORE_TIMEOUT", "TIMEOUT", default=None, gt=0, le=3600,
        description="Seconds; in place of every endpoint's deadline_ms.",
    )  # fmt: skip
    allowed_hosts: Names = _named(
        "allowed_hosts", default=("localhost", "127.0.0.1", "[::1]"),
        description="Names in the Host header that are served, separated by commas; `*` for any.",
    )  # fmt: skip

    _split_hosts = field_validator("allowed_hosts", mode="before")(_split)

    def return_address(self, topic: str, worker: int) -> str:
        """Return the topic on which a worker awaits scores.

        It is the same at each start, so that topics do not become more and more. Two processes
        with the same machine's name and number share one: each then hears the other's scores too,
        and leaves them.

        Args:
            topic: The configuration's, where the settings have none.
            worker: Its number, 1 for the first.
        """
        topic = self.reply_topic or topic
        named = "instance" in self.model_fields_set
        if self.workers == 1 and not named:
            return topic
        instance = self.instance if named else _machine()
        room = LONGEST_ADDRESS - len(f"{topic}--{worker}")
        return f"{topic}-{instance[: max(1, room)]}-{worker}"


class ModelSettings(Settings):
    """A model's worker."""

    bundle: Path = _named(
        "bundle", "MODEL_PATH", description="The bundle's directory, `models/<name>/<version>`."
    )
    endpoint: str = _named("endpoint", default="iris", description="The endpoint it answers.")
    topic: str = _named(
        "topic", "CONSUMER_TOPIC", default="", description="The endpoint's topic, if not its name."
    )
    models_topic: str = _named(
        "models_topic", default="models", description="Where workers announce themselves."
    )
    role: Role = _named(
        "role", default="production", description="The model's role on the endpoint."
    )
    reply_topics: str = _named(
        "reply_topics", default=REPLY_TOPICS,
        description="Pattern that a request's return address must match.",
    )  # fmt: skip
    max_batch: int = _named(
        "max_batch", default=256, ge=1, le=100_000, description="Requests scored at once, at most."
    )
    allow_joblib: bool = _named(
        "allow_joblib", default=False,
        description="Load a bundle that holds a pickle. It can run any code.",
    )  # fmt: skip
    model_name: str | None = _named(
        "model_name", "MODEL_NAME", default=None,
        description="Refuse to start unless the bundle's model has this name.",
    )  # fmt: skip
    model_version: int | None = _named(
        "model_version", "MODEL_VERSION", default=None, ge=0,
        description="Refuse to start unless the bundle's model has this version.",
    )  # fmt: skip

    @field_validator("reply_topics")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error}") from error
        return value


class DecoySettings(Settings):
    """The decoy."""

    name: str = _named("name", "MODEL_NAME", default="decoy", description="Its group; stable.")
    topics: Names = _named(
        "topics", "CONSUMER_TOPIC", default=("iris",),
        description="Topics whose inputs it records, separated by commas.",
    )  # fmt: skip
    decoy_topic: str = _named(
        "decoy_topic", "PRODUCER_TOPIC", default="decoy", description="Where it records them."
    )

    _split_topics = field_validator("topics", mode="before")(_split)


class ConnectorSettings(Settings):
    """What both connectors need to know."""

    topics: Names = _named(
        "topics", "CONSUMER_TOPIC", default=("decoy",),
        description="Topics to archive, separated by commas. `score-*` is every topic that is "
        "called so, save for dead letters: scores are on `score` and `score-*`.",
    )  # fmt: skip
    group: str = _named(
        "group", default="", description="Its group; stable. The kind of connector, if not given."
    )
    threshold: int = _named(
        "threshold", "THRESHOLD", default=1000, ge=1, le=100_000,
        description="Messages in a batch, at most.",
    )  # fmt: skip
    timeout: float = _named(
        "timeout", "TIMEOUT", default=5.0, gt=0, le=3600,
        description="Seconds that a message waits for its batch to fill, at most.",
    )  # fmt: skip

    _split_topics = field_validator("topics", mode="before")(_split)

    @field_validator("topics")
    @classmethod
    def _star_at_the_end(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for topic in value:
            if "*" in topic.removesuffix("-*"):
                raise ValueError(f"{topic}: a * may stand only at the end, after a -")
        return value


class LogConnectorSettings(ConnectorSettings):
    """The connector to archive files."""

    output_dir: Path = _named(
        "output_dir", "OUTPUT_DIR", default=Path("archive"), description="Directory of the files."
    )


class ElasticsearchSettings(Settings):
    """What all that use Elasticsearch need to know."""

    elasticsearch: str = _named(
        "elasticsearch", default="http://127.0.0.1:9200", description="Elasticsearch, as a URL."
    )
    api_key: SecretStr | None = _named(
        "elasticsearch_api_key", default=None, description="API key, where security is on."
    )

    @model_validator(mode="before")
    @classmethod
    def _elastic_host(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Make the URL from the original's ELASTIC_HOST and ELASTIC_PORT."""
        host = os.environ.get("ELASTIC_HOST")
        if host and f"{PREFIX}ELASTICSEARCH" not in values and "elasticsearch" not in values:
            port = os.environ.get("ELASTIC_PORT", "9200")
            values[f"{PREFIX}ELASTICSEARCH"] = f"http://{host}:{port}"
        return values


class ElasticsearchConnectorSettings(ElasticsearchSettings, ConnectorSettings):
    """The connector to Elasticsearch."""

    index: Names = _named(
        "index", "ELASTIC_INDEX", default=("decoy-log",),
        description="The index to write to: one for all topics, or one for each, in their order.",
    )  # fmt: skip
    index_period: Period = _named(
        "index_period", default="none",
        description="Write to an index for each day or month, `<index>-YYYY.MM.DD` or "
        "`<index>-YYYY.MM`, with the alias `<index>`: see retention.md.",
    )  # fmt: skip

    _split_index = field_validator("index", mode="before")(_split)

    @field_validator("index")
    @classmethod
    def _one_or_one_each(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        topics = info.data.get("topics", ())  # missing where they are wrong themselves
        if topics and len(value) > 1 and not len(value) == len(topics) == len(set(topics)):
            raise ValueError("must be one for all topics, or one for each of different topics")
        return value


class PruneSettings(ElasticsearchSettings):
    """The job that deletes old dated indices."""

    index: Names = _named(
        "index", "ELASTIC_INDEX",
        default=("decoy-log", "score-log", "decision-log", "dead-letter-log"),
        description="The indices whose dated ones are deleted, separated by commas.",
    )  # fmt: skip
    keep_days: int = _named(
        "keep_days", default=0, ge=0, le=LONGEST_KEPT,
        description="Delete a dated index when its period ended more than so many days ago; "
        "0 for never.",
    )  # fmt: skip
    prune_apply: bool = _named(
        "prune_apply", default=False,
        description="Delete; without it the job only logs what it would delete.",
    )  # fmt: skip
    prune_every: float = _named(
        "prune_every", default=24.0, ge=0, le=8760,
        description="Hours from one round to the next; 0 for one round, and then an end.",
    )  # fmt: skip

    _split_index = field_validator("index", mode="before")(_split)


class KibanaSetupSettings(ProcessSettings):
    """What brings the dashboards into Kibana, once."""

    kibana: str = _named("kibana", default="http://127.0.0.1:5601", description="Kibana, as a URL.")
    objects: Path = _named(
        "kibana_objects", default=Path("deploy/dashboards/kibana/rendezvous.ndjson"),
        description="The file of saved objects.",
    )  # fmt: skip
    wait: float = _named(
        "kibana_wait", default=300.0, ge=0, le=86_400,
        description="Seconds in which Kibana must be available.",
    )  # fmt: skip
    api_key: SecretStr | None = _named(
        "kibana_api_key", default=None, description="API key, where security is on."
    )


def read(service: type[S]) -> S:
    """Read a service's settings. Raises: ConfigurationError, naming the variable and the rule."""
    try:
        return service()
    except ValidationError as error:
        wrong = "; ".join(
            f"{_variables(service, e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise ConfigurationError(f"settings: {wrong}") from error


def _variables(service: type[ProcessSettings], place: tuple[int | str, ...]) -> str:
    """Return our name of the setting that is wrong, and the original's where there are some."""
    ours = str(place[0])
    choices = (
        field.validation_alias.choices
        for field in service.model_fields.values()
        if isinstance(field.validation_alias, AliasChoices)
    )
    return next((" or ".join(map(str, names)) for names in choices if names[0] == ours), ours)
