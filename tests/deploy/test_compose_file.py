"""What docker-compose.yml says: the same as the rest of the project, and nothing careless."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.servers import pulsar
from deploy.stack.compose import FILE
from rendezvous.configuration import load
from rendezvous.deadletter import dead_letter_topic
from tests.docs.settings_table import SERVICES as SETTINGS
from tests.docs.settings_table import names

ROOT = FILE.parent
TEXT = FILE.read_text(encoding="utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
OURS = {n: s for n, s in SERVICES.items() if s["image"].startswith("${RENDEZVOUS_")}
JOBS = {
    "kibana_setup": "on-failure",  # ends when the dashboards are in Kibana
    "prune": "unless-stopped",  # sleeps for a day; if it fails, it ends
    "bench": "no",  # prints its table, and ends
}
"""Ours that serve nobody, so that there is nothing to ask for their health; how each restarts."""
ORIGINAL = {
    "pulsar", "lr_model", "dt_model", "decoy_model", "score", "log_collector", "score_collector",
    "elastic_search", "kibana", "log_elasticsearch_connector", "score_elasticsearch_connector",
}  # fmt: skip
PREFIX = "PULSAR_PREFIX_"
ADDRESSES = {"bindAddress", "brokerServicePort", "webServicePort"}
"""In a container the image's own: every address, and the usual ports."""
BUILT = {"RENDEZVOUS_SLIM_IMAGE", "RENDEZVOUS_MODEL_IMAGE"}
IMAGES = set(re.findall(r"\$\{([A-Z_]+_IMAGE):-([^}]*)\}", TEXT))
PORTS = [(name, port) for name, each in SERVICES.items() for port in each.get("ports", [])]
PUBLISHED_BEYOND = {"score": "PUBLISH_ADDRESS", "kibana": "KIBANA_ADDRESS"}
DOCKERFILE = (ROOT / "services" / "Dockerfile").read_text(encoding="utf-8")
STANDINS = sorted(f"tests/images/{f.parent.name}" for f in ROOT.glob("tests/images/*/Dockerfile"))
BYTES = {"m": 2**20, "g": 2**30}


def environment(service):
    return SERVICES[service].get("environment", {})


def module(service):
    """Return the module that a service of ours runs."""
    python, dash_m, named, *_ = SERVICES[service]["command"]
    assert (python, dash_m) == ("python", "-m")
    return named


def test_every_service_of_the_original_is_there_by_its_name():
    assert SERVICES.keys() >= ORIGINAL


class TestPulsar:
    def settings(self):
        text = pulsar.render_configuration({"broker": 6650, "http": 8080})
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines)

    def test_is_set_as_the_one_that_is_started_without_containers(self):
        ours = {k: v for k, v in self.settings().items() if k not in ADDRESSES}
        theirs = {
            name.removeprefix(PREFIX): value
            for name, value in environment("pulsar").items()
            if name.startswith(PREFIX)
        }
        assert theirs == ours
        assert theirs["advertisedAddress"] == "127.0.0.1"

    def test_has_the_same_memory(self):
        assert environment("pulsar")["PULSAR_MEM"] == " ".join(pulsar._MEMORY)

    def test_every_setting_is_text_so_that_yaml_does_not_change_it(self):
        assert {type(value) for value in environment("pulsar").values()} == {str}


class TestSettings:
    @pytest.mark.parametrize("service", OURS)
    def test_every_variable_is_one_that_the_service_reads(self, service):
        given = {name for name in environment(service) if name.startswith("RENDEZVOUS_")}
        settings = SETTINGS.get(module(service))
        fields = settings.model_fields.values() if settings else ()
        assert given <= {variable for field in fields for variable in names(field)}

    @pytest.mark.parametrize("service", OURS)
    def test_every_variable_is_ours_so_that_a_misspelt_one_is_found(self, service):
        assert all(name.startswith("RENDEZVOUS_") for name in environment(service))

    @pytest.mark.parametrize("service", OURS)
    def test_every_service_is_one_of_the_projects(self, service):
        path = Path(*module(service).split("."))
        assert (ROOT / path / "__main__.py").is_file() or (ROOT / f"{path}.py").is_file()

    def test_the_services_in_containers_are_all_that_there_are(self):
        assert {module(name) for name in OURS} - {"bench.stack"} == SETTINGS.keys()

    def test_every_model_of_the_configuration_has_a_service_with_its_role_and_endpoint(self):
        default = SETTINGS["services.model"].model_fields
        served = {
            (
                environment(name)["RENDEZVOUS_BUNDLE"],
                environment(name).get("RENDEZVOUS_ROLE", default["role"].default),
                environment(name).get("RENDEZVOUS_ENDPOINT", default["endpoint"].default),
            )
            for name in OURS
            if module(name) == "services.model"
        }
        endpoints = load(ROOT / "rendezvous.yaml").endpoints
        assert served == {
            (f"/{model.bundle}", model.role, name)
            for name, endpoint in endpoints.items()
            for model in endpoint.models
        }

    def test_the_decoy_reads_every_endpoint(self):
        topics = environment("decoy_model")["RENDEZVOUS_TOPICS"].split(",")
        assert topics == list(load(ROOT / "rendezvous.yaml").endpoints)

    def test_the_dead_letters_of_every_topic_are_stored(self):
        configuration = load(ROOT / "rendezvous.yaml")
        topics = [*configuration.endpoints, *(
            configuration.topics.decoy, configuration.topics.score, configuration.topics.decisions
        )]  # fmt: skip
        read = environment("dead_letter_elasticsearch_connector")["RENDEZVOUS_TOPICS"].split(",")
        assert sorted(read) == sorted(map(dead_letter_topic, topics))

    def test_the_prune_job_knows_every_index_that_is_written(self):
        written = {
            environment(name)["RENDEZVOUS_INDEX"]
            for name in OURS
            if module(name) == "services.elasticsearch_connector"
        }
        assert set(environment("prune")["RENDEZVOUS_INDEX"].split(",")) == written


class TestImages:
    def test_a_variable_has_one_default(self):
        assert len(IMAGES) == len(dict(IMAGES))

    @pytest.mark.parametrize(("variable", "image"), sorted(IMAGES))
    def test_has_an_exact_version_and_no_host_unless_it_is_built_here(self, variable, image):
        if variable in BUILT:
            assert re.fullmatch(r"rendezvous-[a-z]+", image)
        else:
            assert re.fullmatch(r"([a-z]+/)?[a-z]+:v?\d+(\.\d+)+(-slim)?", image)

    @pytest.mark.parametrize("service", SERVICES)
    def test_can_be_chosen(self, service):
        assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[^}]+\}", SERVICES[service]["image"])

    def test_the_dockerfile_stands_on_the_same_python(self):
        assert f"ARG PYTHON_IMAGE={dict(IMAGES)['PYTHON_IMAGE']}\n" in DOCKERFILE

    def test_elasticsearch_and_kibana_are_of_one_version(self):
        versions = {dict(IMAGES)[f"{n}_IMAGE"].split(":")[1] for n in ("ELASTICSEARCH", "KIBANA")}
        assert len(versions) == 1


class TestCare:
    @pytest.mark.parametrize("service", SERVICES)
    def test_every_container_has_limited_memory_and_no_rights(self, service):
        limit = SERVICES[service]["mem_limit"]
        assert 0 < int(limit[:-1]) * BYTES[limit[-1]] <= 1536 * BYTES["m"]
        assert SERVICES[service]["cap_drop"] == ["ALL"]
        assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "user"} & SERVICES[service].keys()

    @pytest.mark.parametrize("service", SERVICES)
    def test_every_container_comes_back_unless_it_is_a_job(self, service):
        assert SERVICES[service]["restart"] == JOBS.get(service, "unless-stopped")

    @pytest.mark.parametrize("service", SERVICES)
    def test_the_logs_of_every_container_are_bounded(self, service):
        assert SERVICES[service]["logging"]["options"].keys() == {"max-size", "max-file"}

    @pytest.mark.parametrize("service", OURS)
    def test_ours_write_to_no_part_of_their_image_and_start_few_processes(self, service):
        assert SERVICES[service]["read_only"] is True
        assert SERVICES[service]["pids_limit"] <= 128
        assert SERVICES[service]["init"] is True

    @pytest.mark.parametrize("service", OURS)
    def test_ours_have_the_health_check_of_the_image_unless_they_are_jobs(self, service):
        expected = {"disable": True} if service in JOBS else None
        assert SERVICES[service].get("healthcheck") == expected

    def test_what_is_mounted_from_this_checkout_is_only_read(self):
        mounted = [
            volume
            for each in SERVICES.values()
            for volume in each.get("volumes", [])
            if volume.startswith((".", "$"))
        ]
        assert mounted
        assert [volume for volume in mounted if not volume.endswith(":ro")] == []

    @pytest.mark.parametrize(("service", "port"), PORTS)
    def test_a_port_is_on_the_loopback_interface_unless_it_may_be_opened(self, service, port):
        variable = PUBLISHED_BEYOND.get(service)
        address = f"${{{variable}:-127.0.0.1}}" if variable else "127.0.0.1"
        assert re.fullmatch(rf"{re.escape(address)}:\$\{{[A-Z_]+_PORT:-(\d+)\}}:\1", port)

    def test_the_ports_that_are_published_do_not_collide(self):
        published = [re.search(r":-(\d+)\}:", port)[1] for _, port in PORTS]
        assert len(published) == len(set(published))

    @pytest.mark.parametrize("word", ["ulimits", "pull_policy", "password", "privileged"])
    def test_has_no_word_of(self, word):
        assert word not in TEXT.lower()


class TestPrometheus:
    def jobs(self):
        file = ROOT / "deploy" / "dashboards" / "prometheus" / "prometheus.yml"
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["scrape_configs"]
        return {job["job_name"]: job for job in jobs}

    def test_reads_every_service_of_ours_that_has_a_page_of_metrics(self):
        [found] = self.jobs()["services"]["dns_sd_configs"]
        own_page = {
            name
            for name in OURS
            if environment(name).get("RENDEZVOUS_METRICS_PORT") == str(found["port"])
        }
        assert len(found["names"]) == len(set(found["names"]))
        assert set(found["names"]) == own_page
        assert own_page == OURS.keys() - JOBS.keys() - {"score"}

    def test_reads_the_front_end_and_pulsar_at_their_ports(self):
        jobs = self.jobs()
        assert jobs.keys() == {"services", "score", "pulsar"}
        for name, port in {"score": 8000, "pulsar": 8080}.items():
            [targets] = jobs[name]["static_configs"]
            assert targets["targets"] == [f"{name}:{port}"]
            assert any(published.endswith(f":{port}") for published in SERVICES[name]["ports"])


class TestDockerfile:
    def test_every_package_has_a_hash(self):
        installs = [
            line for line in _commands() if re.search(r"\b(pip install|uv sync|apt-get)\b", line)
        ]
        assert len(installs) == 4
        for line in installs:
            assert (
                "--require-hashes" in line
                or ("uv sync" in line and "--frozen" in line)
                or "--no-deps --no-index" in line  # our own wheel, built two lines above
            )

    def test_runs_as_nobody_in_particular(self):
        *_, last = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
        assert last == "10001"
        final = DOCKERFILE.rpartition("\nFROM ")[2]
        assert "USER 10001\n" in final

    def test_has_a_health_check(self):
        assert re.search(r"^HEALTHCHECK .*\n? *.*services/probe\.py", DOCKERFILE, re.MULTILINE)
        assert (ROOT / "services" / "probe.py").is_file()

    @pytest.mark.parametrize("folder", ["services", *STANDINS])
    def test_needs_no_image_to_be_read(self, folder):
        text = (ROOT / folder / "Dockerfile").read_text(encoding="utf-8")
        assert not re.search(r"^#\s*syntax\b", text, re.MULTILINE | re.IGNORECASE)

    def test_has_the_folder_of_every_archive_so_that_its_volume_can_be_written(self):
        archives = [name for name in OURS if module(name) == "services.log_connector"]
        assert len(archives) == 3
        for name in archives:
            folder = environment(name)["RENDEZVOUS_OUTPUT_DIR"]
            assert re.search(rf"install -d -o 10001 .* {folder}\b", DOCKERFILE)
            assert SERVICES[name]["volumes"] == [f"{folder.strip('/')}:{folder}"]


def _commands():
    """Return the RUN commands of the Dockerfile, each on a line, its parts apart."""
    whole = DOCKERFILE.replace("\\\n", " ")
    runs = [line for line in whole.splitlines() if line.startswith("RUN ")]
    return [part for line in runs for part in line.split("&&")]
