"""Asks the Lightsail stand-in for every operation with botocore, and checks what comes back.

Reads one JSON object from standard input: url, ca (a file), region, keys (id, secret and session token, by name) and
zone. Ends with 1 and a line for each thing that is not as the service has it.
"""

import datetime
import json
import sys
import time
import traceback

import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.session

PROBLEMS = []


def check(what, holds):
    if not holds:
        PROBLEMS.append(what)


class Aws:
    def __init__(self, given, key, region=None):
        self.session = botocore.session.Session()
        self.given, self.region = given, region or given["region"]
        self.key = given["keys"][key]
        self.session.set_credentials(*self.key)

    def client(self, service, **config):
        return self.session.create_client(
            service, region_name=self.region, endpoint_url=self.given["url"], verify=self.given["ca"],
            config=botocore.config.Config(retries={"total_max_attempts": 1}, **config))


def refused(what, call, kind, words=""):
    try:
        call()
        PROBLEMS.append(f"{what}: not refused")
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]
        check(f"{what}: {found}", found["Code"] == kind and words in found["Message"])


def until(what, ask):
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        found = ask()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} does not come")


def fresh(what, at):
    age = datetime.datetime.now(datetime.timezone.utc) - at
    check(f"{what}: {at}", abs(age) < datetime.timedelta(minutes=2))


def drive(given):
    aws = Aws(given, "admin")
    api = aws.client("lightsail")
    who = aws.client("sts").get_caller_identity()
    check(f"who {who}", who["Account"] == "123456789012" and who["Arn"].endswith(":user/admin") and who["UserId"])
    assumed = Aws(given, "session").client("sts").get_caller_identity()
    check(f"who {assumed}", ":assumed-role/session/" in assumed["Arn"])

    regions = api.get_regions(includeAvailabilityZones=True)["regions"]
    here = next(region for region in regions if region["name"] == given["region"])
    check(f"zones {here}", given["zone"] in [zone["zoneName"] for zone in here["availabilityZones"]])
    for name, key in [("get_bundles", "bundles"), ("get_blueprints", "blueprints")]:
        pages = list(api.get_paginator(name).paginate())
        rows = [row for page in pages for row in page[key]]
        ids = {row[f"{key[:-1]}Id"] for row in rows}
        check(f"{name}: {len(pages)} pages, {len(rows)} rows", len(pages) > 1 and len(ids) == len(rows))

    wish = {"instanceNames": ["vm"], "availabilityZone": given["zone"], "blueprintId": "ubuntu_24_04",
            "bundleId": "micro_3_0", "tags": [{"key": "outrigger:id", "value": "a b"}, {"key": "alone"}],
            "ipAddressType": "dualstack"}
    made = api.create_instances(**wish)["operations"][0]
    check(f"made {made}", made["status"] == "Started" and made["resourceName"] == "vm")
    fresh("made", made["createdAt"])
    refused("a name twice", lambda: api.create_instances(**wish), "InvalidInputException",
            "Some names are already in use: vm")

    def instance():
        try:
            return api.get_instance(instanceName="vm")["instance"]
        except api.exceptions.NotFoundException:
            return None

    def running():
        found = instance()
        return found if found and found["state"]["name"] == "running" and "publicIpAddress" in found else None

    vm = until("a running instance", running)
    fresh("instance", vm["createdAt"])
    check(f"instance {vm}", vm["tags"] == wish["tags"] and vm["arn"].startswith("arn:aws:lightsail:"))
    ended = until("the operation's end", lambda: (
        lambda one: one if one["isTerminal"] else None)(api.get_operation(operationId=made["id"])["operation"]))
    check(f"operation {ended}", ended["status"] == "Succeeded" and ended["operationType"] == "CreateInstance")

    def details():
        found = api.get_instance_access_details(instanceName="vm", protocol="ssh")["accessDetails"]
        return found if found["hostKeys"] else None

    access = until("host keys", details)
    check("access", access["ipAddress"] == vm["publicIpAddress"] and "PRIVATE KEY" in access["privateKey"])
    check("certificate", access["certKey"].startswith("ecdsa-sha2-nistp256-cert-v01@openssh.com "))
    left = access["expiresAt"] - datetime.datetime.now(datetime.timezone.utc)
    check(f"{left} left", datetime.timedelta(minutes=10) < left < datetime.timedelta(minutes=15))
    check("host keys", all(key["publicKey"] and key["fingerprintSHA256"].startswith("SHA256:")
                           and key["witnessedAt"].tzinfo for key in access["hostKeys"]))

    port = {"fromPort": 22, "toPort": 22, "protocol": "tcp"}

    def states():
        return api.get_instance_port_states(instanceName="vm")["portStates"]

    check(f"ports {states()}", [state["fromPort"] for state in states()] == [22, 80])
    wanted = port | {"cidrs": ["192.0.2.7/32"], "ipv6Cidrs": [], "cidrListAliases": ["lightsail-connect"]}
    put = api.put_instance_public_ports(instanceName="vm", portInfos=[wanted])["operation"]
    check(f"put {put}", put["operationType"] == "PutInstancePublicPorts")
    check(f"ports {states()}", states() == [wanted | {"state": "open"}])
    closed = api.close_instance_public_ports(instanceName="vm", portInfo=port)["operation"]
    check(f"closed {closed}", closed["operationType"] == "CloseInstancePublicPorts" and states() == [])

    options = {"httpTokens": "required", "httpEndpoint": "enabled", "httpPutResponseHopLimit": 1,
               "httpProtocolIpv6": "disabled"}
    api.update_instance_metadata_options(instanceName="vm", **options)
    check("pending", instance()["metadataOptions"]["state"] == "pending")
    applied = until("applied options", lambda: (
        lambda one: one if one["state"] == "applied" else None)(instance()["metadataOptions"]))
    check(f"options {applied}", applied == options | {"state": "applied"})

    tagged = api.tag_resource(resourceName="vm", resourceArn=vm["arn"], tags=[{"key": "more", "value": "1"}])
    check(f"tagged {tagged}", tagged["operations"][0]["resourceName"] == "vm" and len(instance()["tags"]) == 3)

    api.allocate_static_ip(staticIpName="ip")
    api.attach_static_ip(staticIpName="ip", instanceName="vm")
    ip = api.get_static_ip(staticIpName="ip")["staticIp"]
    fresh("static IP", ip["createdAt"])
    check(f"static IP {ip}", ip["attachedTo"] == "vm" and instance()["publicIpAddress"] == ip["ipAddress"])
    api.detach_static_ip(staticIpName="ip")
    check("detached", not api.get_static_ip(staticIpName="ip")["staticIp"]["isAttached"])
    api.release_static_ip(staticIpName="ip")
    refused("a released IP", lambda: api.get_static_ip(staticIpName="ip"), "NotFoundException", "ip")

    deleted = api.delete_instance(instanceName="vm", forceDeleteAddOns=True)["operations"][0]
    check(f"deleted {deleted}", deleted["operationType"] == "DeleteInstance")
    until("the instance's end", lambda: instance() is None)
    refused("a deleted instance", lambda: api.get_instance(instanceName="vm"), "NotFoundException",
            "The Instance does not exist: vm")

    def as_(key, region=None):
        return lambda: Aws(given, key, region).client("lightsail").get_regions()

    refused("an expired token", as_("expired"), "ExpiredTokenException")
    refused("another region", as_("admin", "ap-south-1"), "InvalidSignatureException")
    refused("no right", lambda: Aws(given, "reader").client("lightsail").create_instances(**wish),
            "AccessDeniedException", "lightsail:CreateInstances")
    refused("another secret", as_("forged"), "InvalidSignatureException", "signature we calculated")
    refused("an unknown key", as_("unknown"), "UnrecognizedClientException")
    refused("STS, an expired token", lambda: Aws(given, "expired").client("sts").get_caller_identity(), "ExpiredToken")
    refused("STS, an unknown key", lambda: Aws(given, "unknown").client("sts").get_caller_identity(),
            "InvalidClientTokenId")

    # What botocore itself does not send.
    for what, body, kind, words in [
        ("an unknown member", {"instanceName": "vm", "userData": ""}, "SerializationException", "userData"),
        ("a wrong type", {"instanceName": 7}, "SerializationException", "instanceName"),
        ("a missing member", {}, "InvalidInputException", "instanceName"),
        ("a wrong name", {"instanceName": "v m"}, "InvalidInputException", "v m"),
    ]:
        raw = aws.client("lightsail", parameter_validation=False)

        def replace(request, body=body, **_):
            request.data = json.dumps(body).encode()

        raw.meta.events.register_first("request-created.lightsail.GetInstance", replace)
        refused(what, lambda: raw.get_instance(instanceName="vm"), kind, words)


try:
    drive(json.load(sys.stdin))
except Exception:  # what it had found by then is said all the same
    PROBLEMS.append(traceback.format_exc())
print("\n".join(PROBLEMS))
sys.exit(1 if PROBLEMS else 0)
