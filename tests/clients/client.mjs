// The official JavaScript client against a server: typed objects, pages, patches, an informer, a watch and a custom
// resource. Needs KUBECONFIG; asserts what it sees and exits with 0 when all holds.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';

// The client is installed beside the tests, not beside this file.
const k8s = createRequire(`${process.env.CORACLE_JS ?? process.cwd()}/`)('@kubernetes/client-node');

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const namespace = `js-${randomUUID().slice(0, 6)}`;
await core.createNamespace({ body: { metadata: { name: namespace } } });

const fails = async (code, reason, promise) => {
  const error = await promise.then(() => assert.fail('it did not fail'), (e) => e);
  const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
  assert.deepEqual([error.code, status.reason], [code, reason]);
};
const until = (check, what) =>
  new Promise((resolve, reject) => {
    const timeout = setTimeout(() => reject(new Error(`timed out: ${what}`)), 30_000);
    check((value) => {
      clearTimeout(timeout);
      resolve(value);
    });
  });

// Typed objects.
const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' }, data: { x: '1' } } });
assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
await fails(409, 'AlreadyExists', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } }));
const newer = await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { ...made, data: { x: '2' } } });
assert.equal(newer.data.x, '2');
await fails(409, 'Conflict', core.replaceNamespacedConfigMap({ namespace, name: 'a', body: made }));
await fails(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'absent' }));
const patched = await core.patchNamespacedConfigMap(
  { namespace, name: 'a', body: [{ op: 'replace', path: '/data/x', value: '3' }] },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
);
assert.equal(patched.data.x, '3');

// Pages.
const names = [];
let token;
do {
  const page = await core.listNamespacedConfigMap({ namespace, limit: 1, _continue: token });
  names.push(...page.items.map((item) => item.metadata.name));
  token = page.metadata._continue;
} while (token);
assert.ok(names.includes('a'));

// An informer sees what is there, what comes, what changes and what goes.
const seen = [];
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () =>
  core.listNamespacedConfigMap({ namespace, labelSelector: 'watched=yes' }), 'watched=yes');
const note = (kind) => (object) => seen.push(`${kind} ${object.metadata.name}`);
['add', 'update', 'delete'].forEach((kind) => informer.on(kind, note(kind)));
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'there', labels: { watched: 'yes' } } } });
await informer.start();
const gone = until((done) => informer.on('delete', done), 'the deletion');
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'comes', labels: { watched: 'yes' } } } });
await core.patchNamespacedConfigMap(
  { namespace, name: 'comes', body: { data: { n: '1' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
await core.deleteNamespacedConfigMap({ namespace, name: 'comes' });
await gone;
await informer.stop();
assert.deepEqual(seen, ['add there', 'add comes', 'update comes', 'delete comes']);

// A workload, and a raw watch until it has scaled.
const labels = { app: 'd' };
await apps.createNamespacedDeployment({
  namespace,
  body: {
    metadata: { name: 'd' },
    spec: {
      replicas: 2,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'demo/web:v1' }] } },
    },
  },
});
let stop;
await until(async (done) => {
  stop = await new k8s.Watch(config).watch(
    `/apis/apps/v1/namespaces/${namespace}/deployments`, { resourceVersion: '0' },
    (_, deployment) => deployment.status?.replicas === 2 && done(), () => {});
}, 'the Deployment has 2 replicas');
stop.abort();
const scale = await apps.readNamespacedDeploymentScale({ namespace, name: 'd' });
assert.deepEqual([scale.spec.replicas, scale.status.selector], [2, 'app=d']);

// Any kind by its own manifest, and server-side apply.
const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace }, stringData: { k: 'v' } };
assert.equal((await objects.create(secret)).data.k, 'dg==');
const applied = await objects.patch(
  { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { k: 'v' } },
  undefined, undefined, 'js', true, k8s.PatchStrategy.ServerSideApply);
assert.equal(applied.metadata.managedFields[0].manager, 'js');

await core.deleteNamespace({ name: namespace });
console.log('javascript client: all holds');
process.exit(0);
