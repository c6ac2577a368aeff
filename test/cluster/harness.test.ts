import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ApiServerProxy } from './apiServerProxy.ts';
import { startCluster, type Cluster } from './cluster.ts';
import { eventually } from './eventually.ts';
import { KubeApi } from './kubeApi.ts';
import { startTimeOf, type LedgerEntry } from './processLedger.ts';
import { TcpRelay } from './tcpRelay.ts';

describe('a control plane', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(() => cluster?.stop());

  test('is the pinned Kubernetes', async () => {
    const folder = process.env['CLUSTER_KUBERNETES'] === 'oldest' ? 'kube-oldest' : 'kube';
    const goMod = readFileSync(new URL(`harness/${folder}/go.mod`, import.meta.url), 'utf8');
    const version = await cluster.admin.get<{ gitVersion: string }>('/version');
    expect(goMod).toContain(`k8s.io/kubernetes ${version?.gitVersion}\n`);
  });

  test('gives a new namespace its default ServiceAccount', async () => {
    await cluster.admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team-a' } });
    await cluster.admin.waitFor('/api/v1/namespaces/team-a/serviceaccounts/default');
    expect(await cluster.kubectl('get', 'namespace', 'team-a', '-o', 'name')).toBe('namespace/team-a\n');
  });

  test('writes an audit log that tells users and verbs apart', async () => {
    const mark = cluster.auditMark();
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'seen', namespace: 'default' } };
    await cluster.admin.apply({ ...object, data: { a: '1' } });
    const filter = { user: 'admin', verb: 'patch', resource: 'configmaps', namespace: 'default', name: 'seen' };
    const [event] = await eventually('the event is written', () => {
      const events = cluster.auditEvents({ ...filter, since: mark });
      return events.length > 0 && events;
    });
    expect(event?.responseStatus?.code).toBe(201);
    expect(cluster.auditEvents({ ...filter, verb: 'create' })).toEqual([]);
    const controller = { user: 'system:kube-controller-manager', verb: 'create', resource: 'serviceaccounts' } as const;
    await eventually('the controller is seen', () => cluster.auditEvents(controller).length > 0);
  });

  test("gives a kubeconfig with a ServiceAccount's own rights", async () => {
    const account = { namespace: 'default', name: 'reader' };
    await cluster.admin.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: account });
    await cluster.kubectl('create', 'role', 'reader', '--verb=list', '--resource=configmaps');
    await cluster.kubectl('create', 'rolebinding', 'reader', '--role=reader', '--serviceaccount=default:reader');
    const kubeconfig = await cluster.kubeconfigFor(account);
    expect(await cluster.run('kubectl', ['auth', 'whoami'], { kubeconfig })).toContain(
      'system:serviceaccount:default:reader',
    );
    const client = await cluster.clientFor(account);
    await eventually(
      'the role is in force',
      async () => (await client.list('/api/v1/namespaces/default/configmaps')).length,
    );
    const secrets = await client.request('GET', '/api/v1/namespaces/default/secrets');
    expect(secrets.status).toBe(403);
  });

  test('keeps its objects over a restart of the API server', async () => {
    await cluster.stopApiServer('SIGKILL');
    await expect(cluster.admin.get('/version')).rejects.toThrow('ECONNREFUSED');
    await cluster.startApiServer();
    expect(await cluster.admin.get('/api/v1/namespaces/team-a')).not.toBeNull();
    await cluster.restartApiServer();
    expect(await cluster.admin.get('/api/v1/namespaces/team-a')).not.toBeNull();
  });

  test('has a proxy that answers in its place and lets a watch go silent', async () => {
    const proxy = await ApiServerProxy.start(cluster);
    const client = new KubeApi({ server: proxy.url, ca: cluster.ca, token: tokenOf(cluster.kubeconfig) });
    const path = '/api/v1/namespaces/default/configmaps';
    const configMap = (name: string) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace: 'default' },
    });
    try {
      proxy.inject = ({ isWatch }) => (isWatch ? null : { status: 429, headers: { 'retry-after': '7' } });
      const answer = await client.request('GET', path);
      expect([answer.status, answer.headers['retry-after']]).toEqual([429, '7']);
      proxy.inject = () => null;

      let text = '';
      const ended = vi.fn<() => void>();
      const { dispatcher, headers } = client.transport;
      const watch = await request(`${proxy.url}${path}?watch=1`, { dispatcher, headers, bodyTimeout: 0 });
      watch.body.on('data', (bytes: Buffer) => (text += bytes.toString('utf8')));
      for (const event of ['end', 'error', 'close']) watch.body.on(event, ended);
      await client.create(configMap('before'));
      await eventually('the watch brings it', () => text.includes('"name":"before"'));
      expect(proxy.silence()).toBe(1);
      await client.create(configMap('after'));
      await expect(client.get(`${path}/after`)).resolves.toMatchObject({ metadata: { name: 'after' } });
      expect(text).not.toContain('"name":"after"');
      expect(ended).not.toHaveBeenCalled();
      watch.body.destroy();
    } finally {
      await client.close();
      await proxy.close();
    }
  });

  test('stands beside another one', async () => {
    const other = await startCluster({ apiServerFlags: ['--enable-admission-plugins=AlwaysPullImages'] });
    try {
      expect(await other.admin.get('/api/v1/namespaces/team-a')).toBeNull();
    } finally {
      await other.stop();
    }
    expect(existsSync(other.dir)).toBe(false);
  });
});

function tokenOf(kubeconfig: string): string {
  const { users } = JSON.parse(readFileSync(kubeconfig, 'utf8')) as { users: { user: { token: string } }[] };
  return users[0]?.user.token ?? '';
}

test('a test run that is killed leaves no process and no folder', async () => {
  const script = fileURLToPath(new URL('cluster.ts', import.meta.url));
  const code = `
    const { startCluster } = await import(${JSON.stringify(script)});
    console.log((await startCluster()).dir);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const dir = line.toString().trim();
  const ledger = readFileSync(join(dir, 'ledger.jsonl'), 'utf8').trim().split('\n');
  const processes = ledger.map((line) => JSON.parse(line) as LedgerEntry).filter((entry) => 'process' in entry);
  expect(processes.map((entry) => entry.process)).toEqual(['etcd', 'kube-apiserver', 'kube-controller-manager']);
  expect(processes.every((entry) => startTimeOf(entry.pid) === entry.startTime)).toBe(true);
  child.kill('SIGKILL');
  await eventually('the folder is gone', () => !existsSync(dir));
  expect(processes.map((entry) => startTimeOf(entry.pid))).toEqual([null, null, null]);
});

test('a relay that is told to go on twice, or before it was paused, passes each byte once', async () => {
  const echo = createServer((socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  const relay = await TcpRelay.start({ host: '127.0.0.1', port: (echo.address() as AddressInfo).port });
  const client = connect(relay.port, relay.host);
  try {
    let got = '';
    client.on('data', (bytes: Buffer) => (got += bytes.toString()));
    client.write('1');
    await eventually('it comes', () => got === '1');
    relay.resume();
    client.write('2');
    await eventually('it comes', () => got.endsWith('2'));
    relay.pause();
    client.write('3');
    relay.resume();
    relay.resume();
    client.write('4');
    await eventually('it comes', () => got.endsWith('4'));
    expect(got).toBe('1234');
  } finally {
    client.destroy();
    await relay.close();
    echo.close();
  }
});
