"""What the front end answers over HTTP: the original's surface, and ours beside it."""

import asyncio
import json
import re
import uuid
from importlib.metadata import version

import pytest
from fastapi.openapi.models import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from rendezvous.contract import decode_request
from rendezvous.frontend.app import missing_parts
from tests.unit.front_ends import EXAMPLE, Script, front_end, total


def refuse(_):
    raise ValueError("no such flower")


class TestTheOriginalsSurface:
    async def test_ping(self):
        async with front_end() as front:
            response = await front.client.get("/ping")
        assert (response.status_code, response.json()) == (200, {"ping": "pong"})

    async def test_predict_answers_with_the_originals_keys_and_the_decision(self):
        async with front_end() as front:
            response = await front.predict()
        answer = response.json()
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert list(answer) == ["timestamp", "messageId", "modelInput", "modelResult", "decision"]
        assert isinstance(answer["timestamp"], float)
        assert uuid.UUID(answer["messageId"]).version == 4
        assert answer["modelInput"] == EXAMPLE
        assert list(answer["modelInput"]) == list(EXAMPLE)
        assert answer["modelResult"] == {"modelName": "dt", "result": total(EXAMPLE)}

    async def test_an_integer_will_do_for_a_number(self):
        body = {"sepalLength": 9, "sepalWidth": 10, "petalLength": 11, "petalWidth": 12}
        async with front_end() as front:
            answer = (await front.predict(body)).json()
        assert answer["modelInput"] == body
        assert answer["modelResult"]["result"] == 42

    async def test_unknown_fields_are_ignored(self):
        async with front_end() as front:
            answer = (await front.predict(EXAMPLE | {"colour": "blue"})).json()
        assert answer["modelInput"] == EXAMPLE

    async def test_nothing_in_time_is_200_and_empty_where_the_endpoint_is_compatible(self):
        async with front_end(Script(say=lambda _: None), deadline=0.05, compat=True) as front:
            response = await front.predict()
        answer = response.json()
        assert response.status_code == 200
        assert answer["modelResult"] == {}
        assert answer["decision"]["reason"] == "exhausted"
        assert answer["decision"]["missing"] == [{"model": "dt", "version": 1}]

    async def test_a_decision_without_a_live_model_names_none(self):
        async with front_end(compat=True, deadline=0.1) as front:
            house = await front.predict({"rooms": 3, "age": 1}, "/endpoints/housing/predict")
        assert "missing" not in house.json()["decision"]

    async def test_the_same_input_twice_gets_two_message_ids(self):
        async with front_end() as front:
            first, second = [(await front.predict()).json() for _ in range(2)]
        assert first["messageId"] != second["messageId"]


class TestTheDecision:
    async def test_says_who_was_chosen_and_why(self):
        canary = Script("lr", 0, "canary", say=lambda _: 0)
        async with front_end(canary, Script()) as front:
            decision = (await front.predict()).json()["decision"]
        assert decision["endpoint"] == "iris"
        assert (decision["policy"], decision["reason"]) == ("newest", "newest")
        assert (decision["model"], decision["version"]) == ("dt", 1)
        assert decision["role"] == "production"
        assert decision["deadlineMs"] == 5000
        assert 0 < decision["elapsedMs"] < 5000

    async def test_shows_every_score_that_was_seen(self):
        canary = Script("lr", 0, "canary", say=lambda _: 0)
        async with front_end(canary, Script()) as front:
            decision = (await front.predict()).json()["decision"]
        seen = {score["model"]: score for score in decision["scores"]}
        assert seen["dt"]["result"] == total(EXAMPLE)
        if "lr" in seen:  # it may come after the answer has gone
            assert seen["lr"]["role"] == "canary"
            assert seen["lr"]["result"] == 0

    async def test_shows_a_models_error_beside_the_best_of_the_others(self):
        canary = Script("lr", 0, "canary", say=lambda _: 0)
        async with front_end(canary, Script(say=refuse)) as front:
            answer = (await front.predict()).json()
        assert answer["modelResult"] == {"modelName": "lr", "result": 0}
        seen = {score["model"]: score for score in answer["decision"]["scores"]}
        assert seen["dt"]["error"] == "ModelError"
        assert "result" not in seen["dt"]

    async def test_names_the_models_that_had_not_come(self):
        hung = Script("rf", 2, say=lambda _: None)
        async with front_end(Script(), hung, deadline=0.2) as front:
            answer = (await front.predict()).json()
        assert answer["modelResult"]["modelName"] == "dt"
        assert answer["decision"]["reason"] == "deadline_best"
        assert answer["decision"]["missing"] == [{"model": "rf", "version": 2}]

    async def test_a_shadow_never_answers(self):
        shadow = Script("next", 9, "shadow", say=lambda _: 9)
        async with front_end(shadow, Script()) as front:
            answers = [(await front.predict()).json() for _ in range(20)]
        assert {answer["modelResult"]["modelName"] for answer in answers} == {"dt"}


class TestNothingAcceptable:
    async def test_is_504_with_the_reasons_and_the_message_id(self):
        models = [Script("lr", 0, "canary", say=refuse), Script(say=lambda _: None)]
        async with front_end(*models, deadline=0.1) as front:
            response = await front.predict()
        problem = response.json()
        assert response.status_code == 504
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == 504
        assert problem["title"] == "Gateway Timeout"
        assert "100 ms" in problem["detail"]
        assert uuid.UUID(problem["messageId"])
        assert sorted(problem["reasons"]) == [
            "dt version 1: did not score in time",
            "lr version 0: ModelError",
        ]

    async def test_is_told_at_once_when_every_model_has_failed(self):
        async with front_end(Script(say=refuse), deadline=60) as front:
            response = await front.predict()
        assert response.status_code == 504
        assert response.json()["reasons"] == ["dt version 1: ModelError"]

    async def test_says_why_a_score_that_came_may_not_answer(self):
        shadow = Script("next", 9, "shadow", say=lambda _: 9)
        async with front_end(shadow, Script(say=lambda _: None), deadline=0.2) as front:
            response = await front.predict()
        assert "next version 9: may not answer" in response.json()["reasons"]

    async def test_says_that_no_model_is_live(self):
        async with front_end(Script(), deadline=0.1) as front:
            response = await front.predict({"rooms": 3, "age": 1}, "/endpoints/housing/predict")
        assert response.status_code == 504
        assert response.json()["reasons"] == ["no model of this endpoint is live"]


class Liar(Script):
    """A model whose scores are whatever the test writes, as JSON."""

    result = "1"
    version_said = "1"
    id_said = "{id}"

    def _answer(self, bus, payload):
        request, _ = decode_request(payload)
        score = (
            f'{{"messageId": "{self.id_said.format(id=request.message_id)}",'
            f' "provenance": {{"model": {{"modelName": "dt", "modelVersion": {self.version_said},'
            ' "elapsedTimeAfterRequest": 1.0}},'
            f' "result": {{"modelName": "dt", "result": {self.result}}}}}'
        )
        bus.publish(request.score_topic, score.encode())


class TestALyingModel:
    @pytest.mark.parametrize(
        "lie",
        [
            {"result": "null"},
            {"result": "[" * 970 + "]" * 970},
            {"result": "NaN"},
            {"result": "1e400"},
            {"result": '"\\ud800"'},
            {"version_said": '"one"'},
            {"id_said": "another"},
        ],
    )
    async def test_costs_its_own_answer_and_no_500(self, lie):
        liar = Liar()
        vars(liar).update(lie)
        async with front_end(liar, deadline=0.1) as front:
            response = await front.predict()
            assert response.status_code == 504
            del vars(liar)[next(iter(lie))]
            assert (await front.predict()).status_code == 200

    @pytest.mark.parametrize("result", ["0", "-1.5", '"setosa"', '{"mean": 1}', "[1, 2]", "1" * 40])
    async def test_any_result_that_json_can_write_is_passed_on(self, result):
        liar = Liar()
        liar.result = result
        async with front_end(liar) as front:
            answer = (await front.predict()).json()
        assert answer["modelResult"]["result"] == json.loads(result)


class TestTheBusIsAway:
    async def test_is_503_and_when_to_try_again(self):
        async with front_end() as front:
            front.bus.closed = True
            response = await front.predict()
            front.bus.closed = False
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"] == "the bus did not take the request"

    async def test_the_next_request_is_served_when_it_is_back(self):
        async with front_end() as front:
            front.bus.closed = True
            await front.predict()
            front.bus.closed = False
            assert (await front.predict()).status_code == 200
            assert front.rendezvous.in_flight == 0


class TestEndpoints:
    async def test_each_has_a_route_of_its_own(self):
        house = Script("price", 1, topic="housing")
        async with front_end(Script(), house) as front:
            answer = await front.predict({"rooms": 3, "age": 1.5}, "/endpoints/housing/predict")
            flower = await front.predict(EXAMPLE, "/endpoints/iris/predict")
        assert answer.json()["modelResult"] == {"modelName": "price", "result": 4.5}
        assert flower.json()["modelResult"]["modelName"] == "dt"

    async def test_an_integer_field_takes_no_fraction(self):
        house = Script("price", 1, topic="housing")
        async with front_end(Script(), house) as front:
            response = await front.predict({"rooms": 3.5, "age": 1}, "/endpoints/housing/predict")
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body", "rooms"]

    async def test_one_endpoints_input_does_not_fit_another(self):
        async with front_end() as front:
            response = await front.predict(EXAMPLE, "/endpoints/housing/predict")
        assert response.status_code == 422

    async def test_an_unknown_one_is_404(self):
        async with front_end() as front:
            response = await front.predict(EXAMPLE, "/endpoints/weather/predict")
        assert response.status_code == 404


class TestOperations:
    async def test_healthz_says_that_the_process_lives(self):
        async with front_end() as front:
            response = await front.client.get("/healthz")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})

    async def test_readyz_is_200_when_every_endpoint_has_a_live_model(self):
        house = Script("price", 1, topic="housing")
        async with front_end(Script(), house) as front:
            response = await front.client.get("/readyz")
        assert response.status_code == 200
        assert response.json() == {
            "ready": True,
            "missing": [],
            "models": {"iris": ["dt@1"], "housing": ["price@1"]},
        }

    async def test_readyz_names_the_endpoint_without_a_model(self):
        async with front_end() as front:
            response = await front.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["missing"] == ["endpoint housing: no live model"]

    def test_what_is_missing_names_the_bus_too(self):
        assert missing_parts(
            listening=False, publishing=True, models={"iris": ["dt@1"], "housing": []}
        ) == [
            "bus: scores are not being read",
            "endpoint housing: no live model",
        ]

    async def test_metrics_can_be_read_by_prometheus(self):
        async with front_end() as front:
            await front.predict()
            response = await front.client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
        assert samples["rendezvous_answers_total", "iris", "dt", "1"] == 1
        assert samples["rendezvous_requests_total", "iris", "answered", "newest"] == 1
        assert samples["rendezvous_request_duration_seconds_count", "iris"] == 1
        assert samples["rendezvous_inflight",] == 0


class TestOpenApi:
    @pytest.fixture
    async def spec(self):
        async with front_end() as front:
            return (await front.client.get("/openapi.json")).json()

    def test_is_valid(self, spec):
        OpenAPI.model_validate(spec)
        operations = [op for path in spec["paths"].values() for op in path.values()]
        ids = [operation["operationId"] for operation in operations]
        assert len(ids) == len(set(ids))
        assert "$ref" not in str(spec)

    def test_lists_every_route(self, spec):
        assert set(spec["paths"]) == {
            "/predict",
            "/endpoints/iris/predict",
            "/endpoints/housing/predict",
            "/ping",
            "/healthz",
            "/readyz",
            "/metrics",
        }

    def test_shows_the_bounds_of_each_field_and_the_example(self, spec):
        body = spec["paths"]["/predict"]["post"]["requestBody"]
        assert body["required"]
        content = body["content"]["application/json"]
        assert content["example"] == EXAMPLE
        assert content["schema"]["required"] == list(EXAMPLE)
        for field in content["schema"]["properties"].values():
            assert (field["type"], field["minimum"], field["maximum"]) == ("number", -1000, 1000)

    def test_tells_a_number_from_an_integer(self, spec):
        body = spec["paths"]["/endpoints/housing/predict"]["post"]["requestBody"]
        properties = body["content"]["application/json"]["schema"]["properties"]
        assert properties["rooms"]["type"] == "integer"
        assert properties["age"]["type"] == "number"

    async def test_shows_an_answer_with_the_fields_of_a_real_one(self, spec):
        async with front_end() as front:
            real = (await front.predict()).json()
        responses = spec["paths"]["/predict"]["post"]["responses"]
        shown = responses["200"]["content"]["application/json"]["example"]
        assert list(shown) == list(real)
        assert list(shown["decision"]) == list(real["decision"])
        assert list(shown["decision"]["scores"][0]) == list(real["decision"]["scores"][0])

    @pytest.mark.parametrize("endpoint", ["iris", "housing"])
    def test_shows_an_answer_that_names_no_model_of_another_endpoint(self, spec, endpoint):
        responses = spec["paths"][f"/endpoints/{endpoint}/predict"]["post"]["responses"]
        shown = responses["200"]["content"]["application/json"]["example"]
        assert shown["modelResult"] == {"modelName": f"{endpoint}-model", "result": 1}
        assert shown["decision"]["model"] == shown["decision"]["scores"][0]["model"]
        assert shown["decision"]["model"] == f"{endpoint}-model"

    def test_says_which_version_of_rendezvous_it_is(self, spec):
        assert spec["info"]["version"] == version("rendezvous-serving")

    def test_lists_every_code_that_predict_answers_with(self, spec):
        codes = set(spec["paths"]["/predict"]["post"]["responses"])
        assert codes == {"200", "400", "408", "413", "415", "422", "431", "503", "504"}


class TestDocs:
    async def test_load_nothing_from_another_host(self):
        async with front_end() as front:
            page = (await front.client.get("/docs")).text
            assets = re.findall(r'(?:src|href)="([^"]+)"', page)
            answers = [await front.client.get(asset) for asset in assets]
        assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page) == []
        assert [(a.status_code, len(a.content) > 1000) for a in answers] == [(200, True)] * 3

    async def test_are_of_a_swagger_ui_that_reads_openapi_3_1(self):
        async with front_end() as front:
            script = (await front.client.get("/static-offline-docs/swagger-ui-bundle.js")).text
        [major] = re.findall(r'PACKAGE_VERSION:"(\d+)', script)
        assert int(major) >= 5

    async def test_there_is_no_second_page_of_them(self):
        async with front_end() as front:
            assert (await front.client.get("/redoc")).status_code == 404


async def test_concurrent_requests_each_get_the_answer_to_their_own_input():
    async with front_end() as front:
        bodies = [EXAMPLE | {"sepalLength": number} for number in range(200)]
        responses = await asyncio.gather(*(front.predict(body) for body in bodies))
        assert front.rendezvous.in_flight == 0
    for body, response in zip(bodies, responses, strict=True):
        answer = response.json()
        assert answer["modelInput"] == body
        assert answer["modelResult"]["result"] == total(body)
