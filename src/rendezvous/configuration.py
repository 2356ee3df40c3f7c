"""What is served: endpoints, their models, policies and topics, from ``rendezvous.yaml``.

How a process reaches the outside (addresses, directories, log level) is ``settings``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rendezvous.decision import Endpoint
from rendezvous.errors import ConfigurationError
from rendezvous.policy import First, Newest, Policy, Priority, Rank
from rendezvous.schema import NAME, InputField, Role

Name = Annotated[str, Field(pattern=NAME)]


class _Part(BaseModel):
    """Base of the parts: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewestPolicy(_Part):
    """The highest version within the deadline, at once when none higher is to come."""

    name: Literal["newest"]

    def build(self) -> Policy:
        """Return the policy."""
        return Newest()


class FirstPolicy(_Part):
    """The first valid score."""

    name: Literal["first"]

    def build(self) -> Policy:
        """Return the policy."""
        return First()


class RankConfig(_Part):
    """A place in the ranking: a model's name, and its patience in milliseconds."""

    model: Name
    patience_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class PriorityPolicy(_Part):
    """Ranked models; each but the first with the time from which on it will do."""

    name: Literal["priority"]
    ranking: Annotated[list[RankConfig], Field(min_length=1)]

    def build(self) -> Policy:
        """Return the policy. Raises: ConfigurationError."""
        return Priority([Rank(r.model, r.patience_ms / 1000.0) for r in self.ranking])


PolicyConfig = Annotated[NewestPolicy | FirstPolicy | PriorityPolicy, Field(discriminator="name")]


class ModelConfig(_Part):
    """A model that ``rendezvous run`` starts.

    Attributes:
        bundle: Its bundle's directory, relative to the configuration file.
        role: Its role on the endpoint.
        train: Arguments of ``python -m training`` that make the bundle where it is missing.
        allow_joblib: Whether a bundle with a pickle may be loaded; it can run any code.
    """

    bundle: Path
    role: Role = "production"
    train: str | None = None
    allow_joblib: bool = False


class EndpointConfig(_Part):
    """One business question.

    Attributes:
        topic: Where its requests are published; the endpoint's name if not given.
        deadline_ms: Milliseconds after a request's arrival at which its answer has left.
        policy: Which score to answer with.
        tolerance: By how much two models' amounts may differ that say the same, relative to the
            larger: 0.05 for 5 %. Classes say the same when they are equal.
        input: The input's fields, in order.
        models: What ``rendezvous run`` starts.
        example: An input to show in the documentation.
        compat: Answer as the original did where nothing acceptable came: 200 and an empty
            ``modelResult``, in place of 504.
    """

    topic: Name | None = None
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)] = 1000.0
    policy: PolicyConfig = NewestPolicy(name="newest")
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    input: Annotated[tuple[InputField, ...], Field(min_length=1)]
    models: tuple[ModelConfig, ...] = ()
    example: dict[str, float] | None = None
    compat: bool = False

    @field_validator("input", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Accept a mapping of names to the rest of each field."""
        if not isinstance(value, dict):
            return value
        if any(isinstance(rest, dict) and "name" in rest for rest in value.values()):
            raise ValueError("a field is named by its key, and has no other name")
        return [
            {"name": name, **(rest or {})} if isinstance(rest, dict | None) else rest
            for name, rest in value.items()
        ]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [each.name for each in self.input]
        if len(set(names)) < len(names):
            raise ValueError("input: each field must be named only once")
        if self.example is not None and self.example.keys() != set(names):
            raise ValueError(f"example: must have the fields of the input: {', '.join(names)}")
        return self


class Topics(_Part):
    """The topics that endpoints share.

    Attributes:
        score: The return address.
        decoy: Where the decoy records inputs.
        models: Where workers announce themselves.
        decisions: Where the record of each decision goes; empty for no records.
    """

    score: Name = "score"
    decoy: Name = "decoy"
    models: Name = "models"
    decisions: Name | None = "decisions"

    @field_validator("decisions", mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        return None if value == "" else value


class Configuration(_Part):
    """The whole of ``rendezvous.yaml``; the first endpoint is the one of ``POST /predict``."""

    endpoints: Annotated[dict[Name, EndpointConfig], Field(min_length=1)]
    topics: Topics = Topics()
    directory: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        topics = [self.topic(name) for name in self.endpoints]
        topics += [topic for topic in self.topics.model_dump().values() if topic]
        twice = {topic for topic in topics if topics.count(topic) > 1}
        if twice:
            raise ValueError(f"topics must differ; used twice: {', '.join(sorted(twice))}")
        return self

    def topic(self, endpoint: str) -> str:
        """Return the topic of ``endpoint``'s requests."""
        return self.endpoints[endpoint].topic or endpoint

    def endpoint(self, name: str) -> Endpoint:
        """Return the core's view of an endpoint. Raises: ConfigurationError."""
        config = self.endpoints[name]
        try:
            return Endpoint(
                name=name,
                topic=self.topic(name),
                policy=config.policy.build(),
                deadline=config.deadline_ms / 1000.0,
                tolerance=config.tolerance,
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"endpoints.{name}: {error}") from error

    @property
    def default_endpoint(self) -> str:
        """The endpoint of ``POST /predict``."""
        return next(iter(self.endpoints))


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and no key twice: YAML would silently forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as the base has it
        keys = [key.value for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]}: is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        ConfigurationError: It is not there, is no YAML, or a key is unknown, missing or wrong;
            the text names the key and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    try:
        configuration = Configuration.model_validate(content)
        for name in configuration.endpoints:
            configuration.endpoint(name)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_explained(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return configuration.model_copy(update={"directory": path.resolve().parent})


def _explained(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc']) or 'the file'}: {e['msg']}"
        for e in error.errors(include_url=False)
    )
