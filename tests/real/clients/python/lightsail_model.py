"""Prints the part of botocore's service model of Lightsail that the stand-in for Lightsail speaks.

The operations are those of OPERATIONS, with every shape that their inputs, outputs and errors reach; documentation
is left out, and what an operation has beside its shapes is the same for all of them. Run by the python of a virtual
environment that has botocore:

    python lightsail_model.py > tests/doubles/src/lightsail/model.json
"""

import json

import botocore
import botocore.loaders

OPERATIONS = [
    "AllocateStaticIp", "AttachStaticIp", "CloseInstancePublicPorts", "CreateInstances", "DeleteInstance",
    "DetachStaticIp", "GetBlueprints", "GetBundles", "GetInstance", "GetInstanceAccessDetails",
    "GetInstancePortStates", "GetOperation", "GetRegions", "GetStaticIp", "PutInstancePublicPorts", "ReleaseStaticIp",
    "TagResource", "UpdateInstanceMetadataOptions",
]


def without_documentation(node):
    if isinstance(node, dict):
        # A member may be called so, too; its value is a shape then, not a text.
        return {key: without_documentation(value) for key, value in node.items()
                if not (key == "documentation" and isinstance(value, str))}
    if isinstance(node, list):
        return [without_documentation(value) for value in node]
    return node


def reached(shapes, name, found):
    if name in found:
        return
    shape = found[name] = without_documentation(shapes[name])
    for member in shape.get("members", {}).values():
        reached(shapes, member["shape"], found)
    for part in ("member", "key", "value"):
        if part in shape:
            reached(shapes, shape[part]["shape"], found)


def lines(name, entries):
    rows = ",\n".join(f"{json.dumps(key)}:{json.dumps(entries[key], separators=(',', ':'))}" for key in sorted(entries))
    return f"{json.dumps(name)}:{{\n{rows}\n}}"


def main():
    loader = botocore.loaders.Loader()
    service = loader.load_service_model("lightsail", "service-2")
    pages = loader.load_service_model("lightsail", "paginators-1")["pagination"]
    operations, shapes = {}, {}
    for name in OPERATIONS:
        whole = service["operations"][name]
        operation = {"input": whole["input"]["shape"], "output": whole["output"]["shape"]}
        operation["errors"] = [error["shape"] for error in whole["errors"]]
        if name in pages:
            operation["pages"] = [pages[name]["input_token"], pages[name]["output_token"]]
        operations[name] = operation
        for shape in [operation["input"], operation["output"], *operation["errors"]]:
            reached(service["shapes"], shape, shapes)
    kept = ("apiVersion", "endpointPrefix", "jsonVersion", "protocol", "serviceId", "signatureVersion", "targetPrefix")
    head = {
        "source": "botocore/data/lightsail/2016-11-28/service-2.json and paginators-1.json, an extract",
        "version": botocore.__version__,
        "license": "Apache-2.0",
        "metadata": {key: service["metadata"][key] for key in kept},
    }
    parts = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in head.items()]
    print("{\n" + ",\n".join([*parts, lines("operations", operations), lines("shapes", shapes)]) + "\n}")


main()
