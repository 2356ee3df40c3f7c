"""What is served, from ``rendezvous.yaml``: a mistake in it is named at the start."""

from pathlib import Path

import pytest

from rendezvous.configuration import load
from rendezvous.errors import ConfigurationError
from rendezvous.policy import First, Newest, Priority, Rank

OURS = Path(__file__).resolve().parent.parent.parent / "rendezvous.yaml"
INPUT = "input: {a: {minimum: 0, maximum: 1}}"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a configuration and loads it."""

    def write(text):
        path = tmp_path / "rendezvous.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path)

    return write


@pytest.fixture
def iris(written):
    """Return a function that loads a configuration with one endpoint, iris."""

    def write(text):
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        return written(f"endpoints:\n  iris:\n{indented}\n").endpoints["iris"]

    return write


class TestTheRepositorysOwn:
    def test_is_loaded(self):
        configuration = load(OURS)

        assert list(configuration.endpoints) == ["iris", "housing"]
        assert configuration.default_endpoint == "iris"
        assert configuration.directory == OURS.parent

    def test_serves_the_original_systems_input_and_models(self):
        iris = load(OURS).endpoints["iris"]

        fields = ["sepalLength", "sepalWidth", "petalLength", "petalWidth"]
        assert [field.name for field in iris.input] == fields
        assert iris.policy.build() == Newest()
        assert [(str(m.bundle), m.role) for m in iris.models] == [
            ("models/lr/0", "canary"),
            ("models/dt/1", "production"),
        ]

    def test_uses_the_original_systems_topics(self):
        configuration = load(OURS)

        topics = configuration.topics
        assert (topics.score, topics.decoy, topics.models) == ("score", "decoy", "models")
        assert topics.decisions == "decisions"
        assert configuration.topic("iris") == "iris"

    @pytest.mark.parametrize("name", ["iris", "housing"])
    def test_shows_an_example_within_the_bounds(self, name):
        endpoint = load(OURS).endpoints[name]

        for field in endpoint.input:
            assert field.minimum <= endpoint.example[field.name] <= field.maximum


class TestAnEndpoint:
    def test_needs_no_more_than_its_input(self, iris):
        found = iris(INPUT)

        assert (found.deadline_ms, found.policy.build()) == (1000.0, Newest())
        assert (found.topic, found.models, found.example, found.compat) == (None, (), None, False)

    def test_is_what_the_core_is_given(self, written):
        configuration = written(f"""
            endpoints:
              iris: {{topic: flowers, deadline_ms: 250, policy: {{name: first}}, {INPUT}}}
        """)

        endpoint = configuration.endpoint("iris")

        assert (endpoint.name, endpoint.topic) == ("iris", "flowers")
        assert (endpoint.deadline, endpoint.policy) == (0.25, First())
        assert endpoint.tolerance == 0.0

    def test_may_say_by_how_much_amounts_may_differ(self, written):
        configuration = written(f"endpoints: {{price: {{tolerance: 0.05, {INPUT}}}}}")

        assert configuration.endpoint("price").tolerance == 0.05

    @pytest.mark.parametrize("nothing", ["", "null", '""'])
    def test_leaves_no_records_where_their_topic_is_empty(self, written, nothing):
        text = f"endpoints: {{iris: {{{INPUT}}}}}\ntopics:\n  decisions: {nothing}\n"

        assert written(text).topics.decisions is None

    def test_ranks_its_models_with_patience_in_milliseconds(self, iris):
        ranking = "[{model: dt}, {model: lr, patience_ms: 0.5}]"
        found = iris(f"policy: {{name: priority, ranking: {ranking}}}\n{INPUT}")

        assert found.policy.build() == Priority([Rank("dt"), Rank("lr", 0.0005)])

    def test_has_its_fields_in_the_order_of_the_file_as_a_mapping_or_a_list(self, iris):
        mapping = iris("""
            input:
              b: {type: integer, minimum: 0, maximum: 9}
              a: {minimum: -1, maximum: 1}
        """)
        listed = iris("""
            input:
              - {name: b, type: integer, minimum: 0, maximum: 9}
              - {name: a, minimum: -1, maximum: 1}
        """)

        assert mapping.input == listed.input
        assert [(f.name, f.type, f.minimum, f.maximum) for f in mapping.input] == [
            ("b", "integer", 0, 9),
            ("a", "number", -1, 1),
        ]

    def test_may_have_a_topic_of_its_own(self, written):
        endpoint = f"{{topic: flowers, {INPUT}}}"

        assert written(f"endpoints: {{iris: {endpoint}}}").topic("iris") == "flowers"


class TestAMistakeInAnEndpoint:
    @pytest.mark.parametrize(
        ("text", "key", "rule"),
        [
            ("deadline_ms: 100", "endpoints.iris.input", "Field required"),
            ("input: {}", "endpoints.iris.input", "at least 1 item"),
            ("input: 5", "endpoints.iris.input", "valid tuple"),
            ("input: {a: 5}", "endpoints.iris.input.0", "valid dictionary"),
            ("input: {a: [1]}", "endpoints.iris.input.0", "valid dictionary"),
            ("input: {a: }", "endpoints.iris.input.0.minimum", "Field required"),
            ("input: {a: {minimum: 0}}", "endpoints.iris.input.0.maximum", "Field required"),
            ("input: {a: {minimum: 2, maximum: 1}}", "input.0", "a: minimum 2.0 is above 1.0"),
            ("input: {a: {minimum: .nan, maximum: 1}}", "input.0.minimum", "finite number"),
            ("input: {a: {minimum: 0, maximum: .inf}}", "input.0.maximum", "finite number"),
            ("input: {a: {type: text, minimum: 0, maximum: 1}}", "type", "'number' or 'integer'"),
            ("input: {a: {min: 0, minimum: 0, maximum: 1}}", "input.0.min", "not permitted"),
            ("input: {a: {name: b, minimum: 0, maximum: 1}}", "input", "named by its key"),
            (
                "input: [{name: a, minimum: 0, maximum: 1}, {name: a, minimum: 0, maximum: 1}]",
                "endpoints.iris",
                "named only once",
            ),
            (f"deadline: 100\n{INPUT}", "endpoints.iris.deadline", "not permitted"),
            (f"deadline_ms: 0\n{INPUT}", "endpoints.iris.deadline_ms", "greater than 0"),
            (f"deadline_ms: 1.5\n{INPUT}", "endpoints.iris", "deadline: must be more than 2 ms"),
            (f"tolerance: -0.1\n{INPUT}", "endpoints.iris.tolerance", "greater than or equal to 0"),
            (f"tolerance: .inf\n{INPUT}", "endpoints.iris.tolerance", "finite number"),
            (f"deadline_ms: .inf\n{INPUT}", "endpoints.iris.deadline_ms", "finite number"),
            (f"deadline_ms: soon\n{INPUT}", "endpoints.iris.deadline_ms", "valid number"),
            (f"topic: a/b\n{INPUT}", "endpoints.iris.topic", "match pattern"),
            (f"policy: newest\n{INPUT}", "endpoints.iris.policy", "valid dictionary"),
            (f"policy: {{}}\n{INPUT}", "endpoints.iris.policy", "'name'"),
            (f"policy: {{name: best}}\n{INPUT}", "policy", "'newest', 'first', 'priority'"),
            (f"policy: {{name: first, x: 1}}\n{INPUT}", "policy.first.x", "not permitted"),
            (f"policy: {{name: priority}}\n{INPUT}", "priority.ranking", "Field required"),
            (f"policy: {{name: priority, ranking: []}}\n{INPUT}", "ranking", "at least 1 item"),
            (
                f"policy: {{name: priority, ranking: [{{model: a}}, {{model: a}}]}}\n{INPUT}",
                "endpoints.iris: ranking",
                "each only once",
            ),
            (
                "policy: {name: priority, ranking: [{model: a, patience_ms: 2}, {model: b}]}\n"
                + INPUT,
                "endpoints.iris: ranking",
                "nor fall",
            ),
            (
                f"policy: {{name: priority, ranking: [{{model: a, patience_ms: -1}}]}}\n{INPUT}",
                "ranking.0.patience_ms",
                "greater than or equal to 0",
            ),
            (
                f"policy: {{name: priority, ranking: [{{model: a, patience_ms: .nan}}]}}\n{INPUT}",
                "ranking.0.patience_ms",
                "Input should be",
            ),
            (f"models: [{{role: canary}}]\n{INPUT}", "models.0.bundle", "Field required"),
            (f"models: [{{bundle: a, role: decoy}}]\n{INPUT}", "models.0.role", "'production'"),
            (f"example: {{b: 1}}\n{INPUT}", "endpoints.iris", "fields of the input: a"),
            (f"compat: perhaps\n{INPUT}", "endpoints.iris.compat", "valid boolean"),
        ],
    )
    def test_is_an_error_that_names_the_file_the_key_and_the_rule(self, iris, text, key, rule):
        with pytest.raises(ConfigurationError) as raised:
            iris(text)

        assert "rendezvous.yaml: " in str(raised.value)
        assert key in str(raised.value)
        assert rule in str(raised.value)


class TestAMistakeInTheFile:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the file: Input should be a valid dictionary"),
            ("[]", "the file: Input should be a valid dictionary"),
            ("just words", "the file: Input should be a valid dictionary"),
            ("{}", "endpoints: Field required"),
            ("endpoints: {}", "endpoints: .* at least 1 item"),
            ("endpoints:", "endpoints: Input should be a valid dictionary"),
            (f"endpoint: {{iris: {{{INPUT}}}}}", "endpoint: Extra inputs are not permitted"),
            (f"endpoints: {{1: {{{INPUT}}}}}", r"endpoints\.1.*valid string"),
            (f"endpoints: {{a b: {{{INPUT}}}}}", r"endpoints\.a b.*match pattern"),
            (f"endpoints: {{on: {{{INPUT}}}}}", "endpoints.*valid string"),
            (f"endpoints: {{a: {{{INPUT}}}, a: {{{INPUT}}}}}", "a: is there twice"),
            (f"topics: {{scores: s}}\nendpoints: {{a: {{{INPUT}}}}}", r"topics\.scores"),
            (f"endpoints: {{score: {{{INPUT}}}}}", "used twice: score"),
            (f"endpoints: {{a: {{topic: b, {INPUT}}}, b: {{{INPUT}}}}}", "used twice: b"),
            (f"topics: {{decisions: a}}\nendpoints: {{a: {{{INPUT}}}}}", "used twice: a"),
            (f"topics: {{decoy: d, models: d}}\nendpoints: {{a: {{{INPUT}}}}}", "used twice: d"),
            ("a: b: c", "mapping values are not allowed"),
            ("\tendpoints:", "cannot start any token"),
            ("endpoints: &a [*a", "expected"),
            ("{[a]: b}", "unhashable key"),
            ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
            (b"endpoints: \xff\xfe", "codec can't decode"),
            (b"endpoints: \x00", "special characters are not allowed"),
        ],
    )
    def test_is_an_error_that_names_the_file_and_the_place(self, written, text, reason):
        with pytest.raises(ConfigurationError, match=rf"rendezvous\.yaml: (?s:.)*{reason}"):
            written(text)

    def test_that_it_is_not_there_is_an_error_too(self, tmp_path):
        with pytest.raises(ConfigurationError, match="No such file"):
            load(tmp_path / "nowhere.yaml")

    def test_that_it_is_a_folder_is_an_error_too(self, tmp_path):
        with pytest.raises(ConfigurationError, match="Is a directory"):
            load(tmp_path)
