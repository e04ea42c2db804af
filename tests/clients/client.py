"""The official Python client against a server: typed and dynamic objects, watches, pages, patches, a custom resource and
leader election. Needs KUBECONFIG; asserts what it sees and exits with 0 when all holds."""

import os
import threading
import uuid

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

config.load_kube_config()
core, apps, batch, ext = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api(), client.ApiextensionsV1Api()
NS = f"py-{uuid.uuid4().hex[:6]}"
core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NS)))


def fails(status, reason, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        body = client.ApiClient().sanitize_for_serialization(__import__("json").loads(error.body))
        assert (error.status, body["reason"]) == (status, reason), (error.status, error.body)
        return body
    raise AssertionError(f"{call.__name__} did not fail")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "x"}), data=data)


# Typed objects: create, read, replace with a stale version, patch, delete.
made = core.create_namespaced_config_map(NS, config_map("a", x="1"))
assert made.metadata.uid and made.metadata.creation_timestamp
fails(409, "AlreadyExists", core.create_namespaced_config_map, NS, config_map("a"))
made.data["x"] = "2"
newer = core.replace_namespaced_config_map("a", NS, made)
assert newer.metadata.resource_version != made.metadata.resource_version
fails(409, "Conflict", core.replace_namespaced_config_map, "a", NS, made)
patched = core.patch_namespaced_config_map("a", NS, {"data": {"y": "3", "x": None}})
assert patched.data == {"y": "3"}, patched.data
fails(404, "NotFound", core.read_namespaced_config_map, "absent", NS)
body = fails(422, "Invalid", core.create_namespaced_config_map, NS, config_map("Not_A_Name"))
assert body["details"]["causes"][0]["field"] == "metadata.name", body

# Pages of one list are from one revision.
for n in range(7):
    core.create_namespaced_config_map(NS, config_map(f"page-{n}"))
names, token = [], None
while True:
    page = core.list_namespaced_config_map(NS, limit=3, label_selector="app=x", _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
    core.create_namespaced_config_map(NS, config_map(f"late-{len(names)}"))
assert names == ["a", *[f"page-{n}" for n in range(7)]], names

# A watch from a list's revision sees what comes after it, and nothing else.
listed = core.list_namespaced_config_map(NS)
core.create_namespaced_config_map(NS, config_map("w", n="1"))
core.patch_namespaced_config_map("w", NS, {"data": {"n": "2"}})
core.delete_namespaced_config_map("w", NS)
seen = []
stream = watch.Watch()
for event in stream.stream(
    core.list_namespaced_config_map, NS, resource_version=listed.metadata.resource_version, timeout_seconds=30
):
    seen.append((event["type"], event["object"].metadata.name, (event["object"].data or {}).get("n")))
    if event["type"] == "DELETED":
        stream.stop()
assert seen == [("ADDED", "w", "1"), ("MODIFIED", "w", "2"), ("DELETED", "w", "2")], seen
try:
    for _ in watch.Watch().stream(core.list_namespaced_config_map, NS, resource_version="1", timeout_seconds=5):
        pass
except ApiException as error:
    assert error.status == 410, error

# Workloads and their subresources.
pod = {"containers": [{"name": "c", "image": "demo/web:v1"}]}
labels = {"app": "d"}
apps.create_namespaced_deployment(
    NS,
    {
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    },
)
scale = apps.read_namespaced_deployment_scale("d", NS)
assert (scale.spec.replicas, scale.status.selector) == (2, "app=d"), scale
apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 3}})
for event in watch.Watch().stream(apps.list_namespaced_deployment, NS, timeout_seconds=30):
    if event["object"].status.replicas == 3:
        break
else:
    raise AssertionError("the Deployment did not scale to 3")
batch.create_namespaced_job(
    NS, {"metadata": {"name": "j"}, "spec": {"template": {"spec": {**pod, "restartPolicy": "Never"}}}}
)
assert batch.read_namespaced_job("j", NS).spec.parallelism == 1
utils.create_from_dict(
    client.ApiClient(), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}, namespace=NS
)
assert core.read_namespaced_secret("s", NS).data == {"k": "dg=="}

# A custom resource by the dynamic client.
group = f"{NS}.example.com"
schema = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1, "default": 5}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
ext.create_custom_resource_definition(
    {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }
)
for event in watch.Watch().stream(ext.list_custom_resource_definition, timeout_seconds=30):
    crd = event["object"]
    conditions = {c.type: c.status for c in (crd.status and crd.status.conditions) or []}
    if crd.spec.group == group and conditions.get("Established") == "True":
        break
else:
    raise AssertionError("the definition was not established")
widgets = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version=f"{group}/v1", kind="Widget")
widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
assert widgets.create(body=widget, namespace=NS).spec.size == 5
applied = widgets.server_side_apply(
    body={**widget, "spec": {"size": 9}}, name="w", namespace=NS, field_manager="py", force_conflicts=True
)
assert applied.spec.size == 9
assert any(m.manager == "py" and m.operation == "Apply" for m in applied.metadata.managedFields)
try:
    widgets.patch(
        body={"spec": {"size": 0}}, name="w", namespace=NS, content_type="application/merge-patch+json"
    )
    raise AssertionError("size 0 was accepted")
except dynamic.exceptions.UnprocessibleEntityError:
    pass

# Leader election: one leads, and another waits while it does.
order = []


def candidate(name, done):
    def lead():
        order.append(name)
        done.set()

    lock = LeaseLock("election", NS, name)
    settings = electionconfig.Config(
        lock, lease_duration=60, renew_deadline=40, retry_period=1, onstarted_leading=lead, onstopped_leading=None
    )
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()


first, second = threading.Event(), threading.Event()
candidate("one", first)
assert first.wait(30)
lease = client.CoordinationV1Api().read_namespaced_lease("election", NS)
assert lease.spec.holder_identity == "one", lease.spec
candidate("two", second)
assert not second.wait(2), "two leaders at once"

ext.delete_custom_resource_definition(f"widgets.{group}")
core.delete_namespace(NS)
print("python client: all holds", flush=True)
# The candidates' threads would still be running while the interpreter ends.
os._exit(0)
