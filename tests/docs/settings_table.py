"""Write ``docs/settings.md`` from the settings classes: ``python -m tests.docs.settings_table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AliasChoices

from rendezvous import settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"
COMMAND = "uv run python -m tests.docs.settings_table"
SERVICES: dict[str, type[settings.ProcessSettings]] = {
    "services.front_end": settings.FrontEndSettings,
    "services.model": settings.ModelSettings,
    "services.decoy": settings.DecoySettings,
    "services.log_connector": settings.LogConnectorSettings,
    "services.elasticsearch_connector": settings.ElasticsearchConnectorSettings,
    "services.kibana_setup": settings.KibanaSetupSettings,
    "services.prune": settings.PruneSettings,
}
ADDRESSES = {  # read by validators, as parts of a URL
    "bus": "`PULSAR_HOST`, `PULSAR_PORT`",
    "elasticsearch": "`ELASTIC_HOST`, `ELASTIC_PORT`",
}
INTRODUCTION = f"""\
# Settings

How a service reaches the outside, from the environment. What is served is in
[`rendezvous.yaml`](../rendezvous.yaml). The names of the original system are accepted too; where
both are set, ours wins. A list is separated by commas. A wrong value ends the service at its start,
with exit code 1 and the variable's name.

`rendezvous run` reads those of the front end, save for the bus and the configuration file: these
are options of its own, and any option wins.

This page is made by `{COMMAND}`.
"""


def page() -> str:
    """Return the whole page: what all services share, then a table for each."""
    everybody = set(settings.ProcessSettings.model_fields)
    common = set(settings.Settings.model_fields)
    sections = [
        INTRODUCTION,
        section("Every service", settings.ProcessSettings, set()),
        section(
            "Every service on the bus: all but `services.kibana_setup`",
            settings.Settings,
            everybody,
        ),
    ]
    for module, service in SERVICES.items():
        sections.append(section(f"`python -m {module}`", service, common))
    return "\n".join(sections)


def section(title: str, service: type[settings.ProcessSettings], known: set[str]) -> str:
    """Return a heading and a table of the settings that are not ``known`` already."""
    rows = [row(name, field) for name, field in service.model_fields.items() if name not in known]
    head = ["| variable | original's | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])


def row(name: str, field: FieldInfo) -> str:
    """Return a setting's line of the table."""
    ours, *originals = names(field)
    known_as = ", ".join(f"`{original}`" for original in originals) or ADDRESSES.get(name, "")
    cells = [f"`{ours}`", known_as, default(field), meaning(field)]
    return f"| {' | '.join(cells)} |"


def names(field: FieldInfo) -> list[str]:
    """Return the variables a setting is read from, ours first."""
    alias = field.validation_alias
    if not isinstance(alias, AliasChoices):
        raise TypeError(f"{field!r} has no RENDEZVOUS_ variable")
    return [str(choice) for choice in alias.choices]


def default(field: FieldInfo) -> str:
    """Return a setting's default as one would write it into the environment."""
    if field.is_required():
        return "must be set"
    if field.default_factory is not None:
        return "this machine's name and the process's number"
    value = field.default
    if value is None or value == "":
        return ""
    text = ",".join(value) if isinstance(value, tuple) else value
    text = json.dumps(text) if isinstance(text, bool) else str(text)
    return f"`{escaped(text)}`"


def meaning(field: FieldInfo) -> str:
    """Return a setting's description, and what is allowed where that is a matter of choice."""
    choices = getattr(field.annotation, "__args__", ())
    texts = [f"`{choice}`" for choice in choices if isinstance(choice, str)]
    allowed = f" One of {', '.join(texts)}." if texts else ""
    return escaped(f"{field.description}{allowed}")


def escaped(text: str) -> str:
    """Return text that is safe in a cell."""
    return text.replace("|", r"\|")


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
