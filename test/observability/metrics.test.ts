import { expect, it } from 'vitest';

import { Metrics } from '../../src/observability/metrics.ts';

async function samples(metrics: Metrics): Promise<string[]> {
  const text = await metrics.scrape();
  return text.split('\n').filter((line) => line.startsWith('ecr_pull_secrets_'));
}

it('has the names that dashboards hang on', async () => {
  const metrics = new Metrics();
  metrics.tokenExpiry('eu-west-1', 'a.example', 1_800_000_000);
  metrics.tokenRefreshed('eu-west-1', 'a.example', 1_799_000_000);
  metrics.refreshFailed('AccessDenied');
  metrics.awsRequest('ecr', 'GetAuthorizationToken', '200');
  metrics.kubeRequest('PATCH', '409');
  metrics.queue('urgent', 3, 1.5);
  metrics.namespaces('production', { matched: 4, ready: 2, blocked: 1, failed: 1 });
  metrics.staleness('Namespace', 2);
  metrics.leader(true);
  metrics.policyPresent(false);
  metrics.buildInfo('1.2.3');
  expect(await samples(metrics)).toEqual([
    'ecr_pull_secrets_token_expiry_timestamp_seconds{region="eu-west-1",host="a.example"} 1800000000',
    'ecr_pull_secrets_token_refresh_timestamp_seconds{region="eu-west-1",host="a.example"} 1799000000',
    'ecr_pull_secrets_refresh_failures_total{reason="AccessDenied"} 1',
    'ecr_pull_secrets_aws_requests_total{service="ecr",operation="GetAuthorizationToken",code="200"} 1',
    'ecr_pull_secrets_kube_requests_total{verb="PATCH",code="409"} 1',
    'ecr_pull_secrets_queue_depth{lane="urgent"} 3',
    'ecr_pull_secrets_queue_oldest_seconds{lane="urgent"} 1.5',
    'ecr_pull_secrets_namespaces{resource="production",state="matched"} 4',
    'ecr_pull_secrets_namespaces{resource="production",state="ready"} 2',
    'ecr_pull_secrets_namespaces{resource="production",state="blocked"} 1',
    'ecr_pull_secrets_namespaces{resource="production",state="failed"} 1',
    'ecr_pull_secrets_reflector_staleness_seconds{kind="Namespace"} 2',
    'ecr_pull_secrets_leader 1',
    'ecr_pull_secrets_policy_present 0',
    `ecr_pull_secrets_build_info{version="1.2.3",node="${process.versions.node}"} 1`,
  ]);
});

it('forgets what is gone: no alert fires for a host or resource that was deleted', async () => {
  const metrics = new Metrics();
  metrics.tokenExpiry('eu-west-1', 'a.example', 1);
  metrics.tokenExpiry('eu-west-1', 'b.example', 1);
  metrics.tokenRefreshed('eu-west-1', 'a.example', 1);
  metrics.namespaces('production', { matched: 4, ready: 2, blocked: 1, failed: 1 });
  metrics.forgetHost('eu-west-1', 'a.example');
  metrics.tokenExpiry('eu-west-1', 'b.example', null);
  metrics.forgetResource('production');
  expect((await samples(metrics)).filter((line) => line.includes('{'))).toEqual([]);
});

it('asks for the latest before each scrape', async () => {
  const metrics = new Metrics();
  let depth = 0;
  metrics.beforeScrape(() => metrics.queue('refresh', ++depth, 0));
  await metrics.scrape();
  expect(await samples(metrics)).toContain('ecr_pull_secrets_queue_depth{lane="refresh"} 2');
});

it('tells memory, CPU and start of the process', async () => {
  const text = await new Metrics().scrape();
  for (const name of ['process_resident_memory_bytes', 'process_cpu_seconds_total', 'process_start_time_seconds']) {
    expect(text).toMatch(new RegExp(`^${name} [0-9.]+`, 'm'));
  }
});
