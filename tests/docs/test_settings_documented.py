"""``docs/settings.md`` says what the settings classes say."""

import inspect
import re

import pytest

from rendezvous import settings
from tests.docs import settings_table
from tests.docs.settings_table import COMMAND, PAGE, SERVICES, names, page

ORIGINALS = {
    "services.front_end": {"PULSAR_HOST", "PULSAR_PORT", "RET_TOPIC", "TIMEOUT", "SCORE_TIMEOUT"},
    "services.model": {
        "PULSAR_HOST", "PULSAR_PORT", "MODEL_PATH", "MODEL_NAME", "MODEL_VERSION", "CONSUMER_TOPIC",
    },
    "services.decoy": {
        "PULSAR_HOST", "PULSAR_PORT", "MODEL_NAME", "CONSUMER_TOPIC", "PRODUCER_TOPIC",
    },
    "services.log_connector": {
        "PULSAR_HOST", "PULSAR_PORT", "CONSUMER_TOPIC", "TIMEOUT", "THRESHOLD", "OUTPUT_DIR",
    },
    "services.elasticsearch_connector": {
        "PULSAR_HOST", "PULSAR_PORT", "CONSUMER_TOPIC", "ELASTIC_INDEX", "ELASTIC_HOST",
        "ELASTIC_PORT",
    },
}  # fmt: skip


def test_the_page_is_what_the_settings_say():
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: {COMMAND}"


def test_the_command_that_writes_the_page_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_table, "PAGE", tmp_path / "settings.md")
    settings_table.write()
    assert (tmp_path / "settings.md").read_text(encoding="utf-8") == page()


def test_every_settings_class_has_a_table():
    classes = {
        each
        for _, each in inspect.getmembers(settings, inspect.isclass)
        if issubclass(each, settings.ProcessSettings) and not each.__subclasses__()
    }
    assert classes == set(SERVICES.values())


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_every_setting_has_a_variable_of_ours_and_a_description(service):
    for name, field in service.model_fields.items():
        assert names(field)[0].startswith("RENDEZVOUS_"), name
        assert (field.description or "").endswith((".", ")")), name


@pytest.mark.parametrize("module", ORIGINALS)
def test_the_originals_variables_are_documented(module):
    text = page()
    common = text[text.index("## Every service") : text.index("## `python -m")]
    own = text[text.index(f"## `python -m {module}`") :].split("\n## ")[0]
    assert set(re.findall(r"`([A-Z_]+)`", common + own)) >= ORIGINALS[module]
