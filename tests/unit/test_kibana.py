"""Bringing objects into Kibana, against a stand-in that does what its API's documentation says."""

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from deploy.dashboards.kibana.export import FILE
from rendezvous import kibana as module
from rendezvous.cli import app
from rendezvous.errors import ConfigurationError, KibanaError
from rendezvous.kibana import Kibana
from rendezvous.testing.processes import free_port
from tests.unit.stand_in_kibana import (
    AVAILABLE,
    DEGRADED,
    STARTING,
    UNAVAILABLE,
    StandIn,
    key,
    problem,
)

WAIT = 30.0
OBJECTS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)


@pytest.fixture
def kibana():
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def file(tmp_path):
    """Write objects to a file."""

    def write(*objects):
        path = tmp_path / "objects.ndjson"
        path.write_text("".join(f"{json.dumps(each)}\n" for each in objects), encoding="utf-8")
        return path

    return write


def broken(references):
    """Return a search with these references."""
    return {**next(o for o in OBJECTS if o["type"] == "search"), "references": references}


class TestInstall:
    def test_stores_every_object_and_says_which(self, kibana):
        stored = Kibana(kibana.url).install(FILE, wait=0)

        assert kibana.objects == {key(each): each for each in OBJECTS}
        assert [(each.type, each.id) for each in stored] == [key(each) for each in OBJECTS]
        assert all(each.meta.title for each in stored)

    def test_may_be_done_again(self, kibana):
        for _ in range(2):
            assert len(Kibana(kibana.url).install(FILE, wait=0)) == len(OBJECTS)

    def test_overwrites_what_was_changed(self, kibana):
        Kibana(kibana.url).install(FILE, wait=0)
        changed = next(iter(kibana.objects.values()))
        kibana.objects[key(changed)] = {**changed, "attributes": {"title": "mine"}}
        Kibana(kibana.url).install(FILE, wait=0)
        assert kibana.objects == {key(each): each for each in OBJECTS}

    def test_reaches_a_kibana_that_is_served_under_a_path(self):
        with StandIn("/kibana") as stand_in:
            Kibana(f"{stand_in.url}/").install(FILE, wait=0)
            assert len(stand_in.objects) == len(OBJECTS)

    @pytest.mark.parametrize("not_yet", [STARTING, UNAVAILABLE, DEGRADED, None])
    def test_waits_until_it_is_available(self, kibana, not_yet):
        kibana.statuses = [not_yet, not_yet, AVAILABLE]
        Kibana(kibana.url).install(FILE, wait=WAIT)
        methods = [method for method, _ in kibana.seen]
        assert methods == ["GET", "GET", "GET", "POST"]

    @pytest.mark.parametrize("not_now", [STARTING, problem(502, "Bad Gateway", ""), None])
    def test_tries_again_where_it_goes_away_meanwhile(self, kibana, not_now):
        kibana.imports = [not_now]
        Kibana(kibana.url).install(FILE, wait=WAIT)
        assert len(kibana.objects) == len(OBJECTS)

    def test_gives_up_after_the_time_it_was_given(self, kibana):
        kibana.statuses = [DEGRADED]
        began = time.monotonic()
        with pytest.raises(KibanaError, match=rf"Kibana at {kibana.url}: .* it is degraded"):
            Kibana(kibana.url).install(FILE, wait=0.2)
        assert 0.1 < time.monotonic() - began < WAIT
        assert kibana.objects == {}

    def test_says_that_nobody_is_there(self):
        with pytest.raises(KibanaError, match=r"no answer: .*refused"):
            Kibana(f"http://127.0.0.1:{free_port()}").install(FILE, wait=0)

    def test_shows_no_password(self):
        user = "elastic:secret"
        url = f"http://{user}@127.0.0.1:{free_port()}"
        with pytest.raises(KibanaError) as raised:
            Kibana(url).install(FILE, wait=0)
        assert "secret" not in str(raised.value)


class TestWhatItDoesNotTake:
    def test_is_named_each_with_the_reason(self, kibana, file):
        missing = {"type": "index-pattern", "id": "gone", "name": "index"}
        other = {**broken([missing]), "id": "other"}
        with pytest.raises(KibanaError) as raised:
            Kibana(kibana.url).install(file(broken([missing]), other), wait=WAIT)
        first = broken([])["id"]
        assert str(raised.value).splitlines() == [
            "Kibana did not take every object:",
            f"  search {first}: missing_references: index-pattern gone",
            "  search other: missing_references: index-pattern gone",
        ]
        assert kibana.objects == {}

    def test_is_an_error_though_it_gives_no_reason(self, kibana):
        kibana.imports = [(200, {"success": False, "successCount": 0})]
        with pytest.raises(KibanaError, match="no reason given"):
            Kibana(kibana.url).install(FILE, wait=WAIT)

    def test_for_another_reason_is_told_in_its_words(self, kibana):
        failure = {
            "type": "dashboard",
            "id": "d",
            "error": {"type": "unknown", "message": "disk full", "statusCode": 500},
        }
        kibana.imports = [(200, {"success": False, "successCount": 0, "errors": [failure]})]
        with pytest.raises(KibanaError, match="dashboard d: unknown: disk full"):
            Kibana(kibana.url).install(FILE, wait=WAIT)

    def test_as_a_whole_is_told_at_once(self, kibana):
        kibana.newest["dashboard"] = "8.9.0"
        with pytest.raises(KibanaError, match=r"422 .*newer than this Kibana: rendezvous-traffic"):
            Kibana(kibana.url).install(FILE, wait=WAIT)
        assert len(kibana.seen) == 2

    @pytest.mark.parametrize("answer", [(200, "<html>"), (200, {"name": "another"})])
    def test_because_it_is_no_kibana(self, kibana, answer):
        kibana.statuses = [answer]
        with pytest.raises(KibanaError, match="no answer of a Kibana"):
            Kibana(kibana.url).install(FILE, wait=WAIT)


class TestSecurity:
    def test_an_api_key_lets_in(self, kibana):
        kibana.api_key = "a2V5"
        Kibana(kibana.url, "a2V5").install(FILE, wait=0)
        assert len(kibana.objects) == len(OBJECTS)

    @pytest.mark.parametrize("api_key", [None, "wrong"])
    def test_without_it_there_is_no_waiting(self, kibana, api_key):
        kibana.api_key = "a2V5"
        with pytest.raises(KibanaError, match=r"refuses GET /api/status: 401 .*credentials"):
            Kibana(kibana.url, api_key).install(FILE, wait=WAIT)
        assert len(kibana.seen) == 1


class TestWrongSettings:
    @pytest.mark.parametrize(
        "url",
        ["127.0.0.1:5601", "http://127.0.0.1", "ftp://127.0.0.1:21", "http://127.0.0.1:x", ""],
    )
    def test_a_malformed_url(self, url):
        with pytest.raises(ConfigurationError, match="the URL of Kibana"):
            Kibana(url)

    def test_a_file_that_is_not_there(self, kibana, tmp_path):
        with pytest.raises(ConfigurationError, match=r"none\.ndjson"):
            Kibana(kibana.url).install(tmp_path / "none.ndjson", wait=0)
        assert kibana.seen == []

    def test_a_missing_extra_is_named(self):
        script = "import sys; sys.modules['urllib3'] = None; import rendezvous.kibana"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert "needs the `elastic` extra" in done.stderr


class TestTheCommand:
    def test_prints_what_is_there_now(self, kibana):
        done = CliRunner().invoke(app, ["kibana", "install", "--kibana", kibana.url])
        assert done.exit_code == 0, done.output
        assert "dashboard rendezvous-traffic: Rendezvous: traffic" in done.output.splitlines()
        assert len(done.output.splitlines()) == len(OBJECTS)

    def test_takes_a_file_and_a_key(self, kibana, file):
        kibana.api_key = "a2V5"
        path = file(OBJECTS[0])
        arguments = ["kibana", "install", "--kibana", kibana.url, "--file", str(path)]
        done = CliRunner().invoke(app, arguments, env={"RENDEZVOUS_KIBANA_API_KEY": "a2V5"})
        assert done.exit_code == 0, done.output
        assert list(kibana.objects) == [key(OBJECTS[0])]

    def test_fails_where_kibana_does(self, kibana):
        kibana.statuses = [UNAVAILABLE]
        done = CliRunner().invoke(app, ["kibana", "install", "--kibana", kibana.url, "--wait", "0"])
        assert isinstance(done.exception, KibanaError)
