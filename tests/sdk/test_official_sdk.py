"""Drives the simulator with HubSpot's official Python SDK (hubspot-api-client 12.0.0).

Usage: test_official_sdk.py <base url> <token> <client secret>
Prints one line per check and, at the end, "N passed, M failed"; exits with 1 when M is not 0.
"""

import json
import sys
import threading
import traceback
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hubspot import HubSpot
from hubspot.crm.companies import (
    ApiException,
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectBatchInput,
    SimplePublicObjectBatchInputForCreate,
    SimplePublicObjectBatchInputUpsert,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.contacts import ApiException as ContactApiException
from hubspot.crm.contacts import SimplePublicObjectInputForCreate as ContactInput
from hubspot.crm.properties import ApiException as PropertyApiException
from hubspot.crm.properties import OptionInput, PropertyCreate, PropertyUpdate
from hubspot.exceptions import InvalidSignatureTimestampError
from hubspot.utils.signature import Signature

BASE, TOKEN, SECRET = sys.argv[1:4]
DELIVERIES = []
CHECKS = []

client = HubSpot(access_token=TOKEN, host=BASE)
companies = client.crm.companies
properties = client.crm.properties


def check(function):
    CHECKS.append(function)
    return function


def control(action, body=None):
    """One of the simulator's own actions."""
    data = json.dumps({} if body is None else body).encode()
    request = urllib.request.Request(f"{BASE}/_sim/{action}", data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def refusal(kind, call):
    """The exception of a call that must fail, with its body parsed."""
    try:
        call()
    except kind as error:
        return error.status, json.loads(error.body)
    raise AssertionError("the call was not refused")


def create(**values):
    return companies.basic_api.create(SimplePublicObjectInputForCreate(properties=values, associations=[]))


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        DELIVERIES.append((dict(self.headers.items()), body.decode()))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@check
def create_and_get():
    made = create(name="Acme", warp_ban="SDK-1", warp_current_balance="12.50")
    assert made.id.isdigit() and made.archived is False
    got = companies.basic_api.get_by_id(made.id, properties=["name", "warp_current_balance", "phone"])
    assert got.properties["name"] == "Acme"
    assert got.properties["warp_current_balance"] == "12.50"
    assert got.properties["phone"] is None
    assert got.created_at.tzinfo is not None


@check
def update_and_history():
    made = create(name="History", warp_ban="SDK-2")
    changed = companies.basic_api.update(made.id, SimplePublicObjectInput(properties={"name": "History 2"}))
    control("ui_set", {"object_type": "companies", "id": made.id, "property": "name", "value": "History 3"})
    got = companies.basic_api.get_by_id(made.id, properties_with_history=["name"])
    versions = got.properties_with_history["name"]
    assert [version.value for version in versions] == ["History 3", "History 2", "History"]
    assert [version.source_type for version in versions] == ["CRM_UI", "INTEGRATION", "INTEGRATION"]
    assert versions[0].source_id == "userId:77" and versions[0].updated_by_user_id == 77
    assert versions[1].source_id == "54321"
    assert versions[1].timestamp == changed.updated_at
    assert versions[0].timestamp > versions[1].timestamp > versions[2].timestamp


@check
def batch_create_and_read():
    inputs = [
        SimplePublicObjectBatchInputForCreate(properties={"name": f"B{n}", "warp_ban": f"SDK-B{n}"}, associations=[])
        for n in range(10)
    ]
    made = companies.batch_api.create(BatchInputSimplePublicObjectBatchInputForCreate(inputs=inputs))
    assert made.status == "COMPLETE" and len(made.results) == 10
    ids = [SimplePublicObjectId(id=f"SDK-B{n}") for n in range(10)] + [SimplePublicObjectId(id="SDK-none")]
    query = BatchReadInputSimplePublicObjectId(
        id_property="warp_ban", properties=["name", "warp_ban"], properties_with_history=["name"], inputs=ids
    )
    read = companies.batch_api.read(query)
    assert {one.properties["name"] for one in read.results} == {f"B{n}" for n in range(10)}
    assert read.num_errors == 1 and read.errors[0].category == "OBJECT_NOT_FOUND"
    assert read.errors[0].context["ids"] == ["SDK-none"]
    assert read.results[0].properties_with_history["name"][0].source_type == "INTEGRATION"


@check
def batch_update_with_trace_ids():
    first, second = create(name="U1", warp_ban="SDK-U1"), create(name="U2", warp_ban="SDK-U2")
    inputs = [
        SimplePublicObjectBatchInput(id=first.id, object_write_trace_id="a", properties={"phone": "1"}),
        SimplePublicObjectBatchInput(id=second.id, object_write_trace_id="b", properties={"warp_status": "ODD"}),
    ]
    answer = companies.batch_api.update(BatchInputSimplePublicObjectBatchInput(inputs=inputs))
    assert [one.id for one in answer.results] == [first.id]
    assert answer.num_errors == 1 and answer.errors[0].context["objectWriteTraceId"] == ["b"]
    for one in inputs:
        one.object_write_trace_id = None
    status, body = refusal(
        ApiException, lambda: companies.batch_api.update(BatchInputSimplePublicObjectBatchInput(inputs=inputs))
    )
    assert status == 400 and body["category"] == "VALIDATION_ERROR"
    assert body["errors"][0]["code"] == "INVALID_OPTION"
    assert json.loads(body["message"].split(": ", 1)[1])[0]["name"] == "warp_status"


@check
def batch_upsert():
    def upsert(ban, values, id_property="warp_ban"):
        row = SimplePublicObjectBatchInputUpsert(id=ban, id_property=id_property, properties=values)
        return companies.batch_api.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=[row])).results[0]

    made = upsert("SDK-UP", {"name": "Upserted"})
    again = upsert("SDK-UP", {"phone": "2"})
    assert made.new is True and again.new is False and made.id == again.id
    status, body = refusal(ApiException, lambda: upsert("Upserted", {"phone": "3"}, "name"))
    assert status == 400 and "non-unique" in body["message"]


@check
def archive():
    made = create(name="Gone", warp_ban="SDK-GONE")
    companies.basic_api.archive(made.id)
    assert refusal(ApiException, lambda: companies.basic_api.get_by_id(made.id))[0] == 404
    assert companies.basic_api.get_by_id(made.id, archived=True).archived is True
    other = create(name="Gone too")
    ids = BatchInputSimplePublicObjectId(inputs=[SimplePublicObjectId(id=other.id)])
    companies.batch_api.archive(ids)
    page = companies.basic_api.get_page(limit=100, archived=True)
    assert {made.id, other.id} <= {one.id for one in page.results}


@check
def list_all_pages():
    everything = companies.get_all(properties=["name"])
    ids = [int(one.id) for one in everything]
    assert len(ids) > 10 and ids == sorted(set(ids))


@check
def search():
    request = PublicObjectSearchRequest(
        filter_groups=[{"filters": [{"propertyName": "warp_ban", "operator": "EQ", "value": "SDK-1"}]}],
        sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        properties=["name"], limit=10, after="0",
    )
    found = companies.search_api.do_search(request)
    assert found.total == 1 and found.results[0].properties["name"] == "Acme"


@check
def merge():
    first, second = create(name="M1", warp_ban="SDK-M1"), create(name="M2", phone="9")
    merged = companies.basic_api.merge(PublicMergeInput(primary_object_id=first.id, object_id_to_merge=second.id))
    assert merged.id not in (first.id, second.id)
    got = companies.basic_api.get_by_id(second.id, properties=["name", "phone", "hs_merged_object_ids"])
    assert got.id == merged.id and got.properties["name"] == "M1" and got.properties["phone"] == "9"
    assert got.properties["hs_merged_object_ids"] == f"{first.id};{second.id}"


@check
def conflict_409():
    def add():
        return client.crm.contacts.basic_api.create(ContactInput(properties={"email": "Ann@Example.com"}, associations=[]))

    made = add()
    assert made.properties["email"] == "ann@example.com"
    status, body = refusal(ContactApiException, add)
    assert status == 409 and body["category"] == "CONFLICT"
    assert body["message"] == f"Contact already exists. Existing ID: {made.id}"


@check
def validation_400():
    status, body = refusal(ApiException, lambda: create(name="x", nonsense="y"))
    assert status == 400 and body["category"] == "VALIDATION_ERROR" and body["correlationId"]
    assert body["errors"][0]["code"] == "PROPERTY_DOESNT_EXIST"


@check
def unauthorized_401():
    stranger = HubSpot(access_token="wrong", host=BASE)
    status, body = refusal(ApiException, lambda: stranger.crm.companies.basic_api.get_page())
    assert status == 401 and body["category"] == "INVALID_AUTHENTICATION"


@check
def property_definitions():
    wanted = PropertyCreate(
        name="sdk_level", label="Level", type="enumeration", field_type="select", group_name="companyinformation",
        options=[OptionInput(label="A", value="a", display_order=0, hidden=False)],
    )
    made = properties.core_api.create("companies", wanted)
    assert made.name == "sdk_level" and made.options[0].value == "a"
    status, body = refusal(PropertyApiException, lambda: properties.core_api.create("companies", wanted))
    assert status == 409 and body["category"] == "OBJECT_ALREADY_EXISTS"
    options = [OptionInput(label="B", value="b", display_order=0, hidden=False)]
    changed = properties.core_api.update("companies", "sdk_level", PropertyUpdate(options=options))
    assert [option.value for option in changed.options] == ["b"]
    every = {one.name: one for one in properties.core_api.get_all("companies").results}
    assert every["warp_ban"].has_unique_value is True
    assert every["hs_object_id"].modification_metadata.read_only_value is True
    properties.core_api.archive("companies", "sdk_level")
    assert refusal(PropertyApiException, lambda: properties.core_api.get_by_name("companies", "sdk_level"))[0] == 404
    assert "companyinformation" in {group.name for group in properties.groups_api.get_all("companies").results}


@check
def rate_limit_429():
    control("fault", {"op": "list", "kind": {"rate_limited": "ten_secondly_rolling"}, "times": 1})
    status, body = refusal(ApiException, lambda: companies.basic_api.get_page())
    assert status == 429 and body["policyName"] == "TEN_SECONDLY_ROLLING"


@check
def webhooks_and_signatures():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{server.server_port}/hubspot/webhook"
    control("webhooks", {"url": target})
    made = create(name="Zoë & Søn GmbH – 東京 🚀", warp_ban="SDK-WH")
    control("ui_set", {"object_type": "companies", "id": made.id, "property": "phone", "value": "1"})
    control("flush")
    control("webhooks", {"url": None})
    server.shutdown()
    events = []
    assert DELIVERIES
    for headers, body in DELIVERIES:
        headers = {name.lower(): value for name, value in headers.items()}
        assert headers["x-hubspot-signature-version"] == "v1"
        assert Signature.is_valid(headers["x-hubspot-signature"], SECRET, body, signature_version="v1")
        stamp = headers["x-hubspot-request-timestamp"]
        third = dict(client_secret=SECRET, http_uri=target, http_method="POST", signature_version="v3")
        sign = headers["x-hubspot-signature-v3"]
        assert Signature.is_valid(sign, request_body=body, timestamp=stamp, **third)
        assert not Signature.is_valid(sign, request_body=body + " ", timestamp=stamp, **third)
        try:
            Signature.is_valid(sign, request_body=body, timestamp=str(int(stamp) - 400_000), **third)
            raise AssertionError("an old timestamp was accepted")
        except InvalidSignatureTimestampError:
            pass
        events += json.loads(body)
    assert all(event["objectId"] == int(made.id) for event in events)
    kinds = {(event["subscriptionType"], event.get("propertyName")): event for event in events}
    echo = kinds[("company.propertyChange", "name")]
    assert echo["changeSource"] == "INTEGRATION" and echo["sourceId"] == str(echo["appId"])
    assert echo["propertyValue"] == "Zoë & Søn GmbH – 東京 🚀"
    assert kinds[("company.propertyChange", "phone")]["changeSource"] == "CRM_UI"
    assert ("company.creation", None) in kinds


def main():
    passed = failed = 0
    for function in CHECKS:
        try:
            function()
            passed += 1
            print(f"ok     {function.__name__}")
        except Exception:  # every failure is reported, none ends the run
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
