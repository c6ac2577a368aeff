import { basename } from 'node:path';
import type { Results } from '../cluster/runSuite.ts';

/** What each file of tests does to the operator, in the order of the report. */
const chapters: readonly [file: string, title: string, text: string][] = [
  [
    'crash',
    'Killed at every write',
    'The operator dies by SIGKILL at each single write of serving three namespaces and giving them up again: before the API server sees the write, and after it is committed but before the answer is there.',
  ],
  [
    'watches',
    'Watches',
    'A proxy between operator and API server tears, doubles, delays and merges what the watches bring.',
  ],
  [
    'unobserved',
    'What nobody saw',
    'The watches show nothing for a while, and then the last state of each object alone.',
  ],
  ['answers', 'Answers', 'The same proxy answers in the place of the API server, or loses and delays what it says.'],
  [
    'servers',
    'Leaders, leases and the API server',
    'Two replicas; signals by process id; the Lease in the hands of others.',
  ],
  [
    'versions',
    'Upgrades',
    'Replicas of the last release and of this version beside each other: an upgrade, the way back, and leaders that are killed on it.',
  ],
  [
    'rules',
    'Rights taken away',
    'A rule of its roles is taken away, its connections are cut, and the rule is given back.',
  ],
  [
    'refusals',
    'Refused writes',
    'Writes to one namespace are denied, held up or too many: by fail-closed webhooks, a quota, a proxy.',
  ],
  [
    'foreignWriters',
    'Other writers',
    'A crowd that writes at once, and operators that replace what is ours every three seconds.',
  ],
  ['clones', 'Backups and clones', 'Secrets with our marks that a backup or a policy engine puts there.'],
  [
    'identity',
    'The operator’s own token',
    'It expires, is replaced in its file, or is of an account that was made anew. The tokens are signed with the key of the control plane.',
  ],
  ['crd', 'The CRD', 'Away, replaced, held, late: each resource vanishes with it.'],
  [
    'namespaces',
    'Namespaces that go',
    'They are deleted while they are written to, held on their way out, and made again at once.',
  ],
  [
    'slow',
    'Slow, small, ended',
    'An API server that takes two seconds for each request, a heap of 64 MiB, and SIGTERM in the middle of a write.',
  ],
  ['aws', 'AWS', 'A stand-in for ECR that refuses, throttles, or is something else.'],
  ['registry', 'The registry', 'A stand-in for the `/v2/` that a new token is shown to before it is published.'],
  ['expiry', 'Past the end of a token', 'Tokens of 24 s.'],
  [
    'stale',
    'A stale API server',
    'The operator reads from a second API server whose link to etcd stands still, and writes to the first.',
  ],
  [
    'restore',
    'etcd restored from a copy',
    'Objects, resourceVersions and tokens go back to what they were. The history before it and the one after it are judged each for itself.',
  ],
  [
    'network',
    'Cables',
    'Each replica runs in a network namespace of its own; its cable is pulled, or swallows everything: no FIN or RST tells it.',
  ],
  [
    'clocks',
    'Clocks',
    'libfaketime moves the wall clock of a replica, and not its monotonic one. AWS refuses what is signed more than five minutes off.',
  ],
  [
    'names',
    'Names',
    'AWS and the API server are known by name alone, and the name server is away, broken, slow, or of another opinion.',
  ],
  [
    'mix',
    'By lot',
    'Faults of requests, watches, leaders and the API server, drawn from a seed, several at once; what one seed gives is always the same.',
  ],
  ['soak', 'For long', 'Tokens of 40 s, and a namespace that is made and deleted every two seconds.'],
];

export interface ReportOptions {
  seed: string;
  isLong: boolean;
  date: string;
  machine: string;
}

/** docs/reliability.md, of one run. */
export function reliabilityPage(results: Results, { seed, isLong, date, machine }: ReportOptions): string {
  const sections = chapters.flatMap(([file, title, text]) => {
    const found = results.testResults.find(({ name }) => basename(name) === `${file}.test.ts`);
    if (found === undefined) return [];
    const rows = found.assertionResults
      .filter(({ status }) => status === 'passed' || status === 'failed')
      .map(
        (result) =>
          `| ${promiseOf(result)} | ${result.status === 'passed' ? 'held' : '**BROKEN**'} | ${seconds(result.duration)} |`,
      );
    return [
      `## ${title}`,
      '',
      `${text} Tests: \`test/faults/${file}.test.ts\`.`,
      '',
      '| promise | | s |',
      '| --- | --- | --- |',
      ...rows,
      '',
    ];
  });
  return [
    '# Reliability',
    '',
    'Written by `npm run test:faults -- --report`: what was done to the operator on a real control plane, and what it keeps to all the while.',
    '',
    `Run of ${date} on ${machine}, seed ${seed}${isLong ? ', in full' : ', long waits shortened by ten'}: ${results.numPassedTests} held, ${results.numFailedTests} broken.`,
    '',
    '## What is held against each of them',
    '',
    'While a fault lasts, life goes on: a namespace is made, a pull secret is deleted, an entry is dropped as a foreign one comes, labels change. Every version of every Secret,',
    'ServiceAccount and Lease is written down by a watch past all proxies, and the audit log tells who made it. At the end:',
    '',
    '1. No entry, Secret or field of somebody else was changed by the operator.',
    '2. Its entry stood on no ServiceAccount twice, and it deleted no Secret to make it anew.',
    '3. No expired token was written, none of another registry, none older than the one before.',
    '4. Within a minute the state is as without the fault, and then nothing is written any more.',
    '5. It made and deleted each object as often as without the fault, and no more.',
    '6. No write came from a replica whose lease had ended, or that never had it.',
    '7. No secret stands in a log, event, status, metric or audit line: raw, in base64, URL-encoded, or a piece of 16 bytes.',
    '8. AWS was asked no more than the fault explains.',
    '9. No process ended by itself, none logged an error, none held more memory than the Deployment allows (512 MiB), and no event loop stood still for 2.5 s.',
    '10. What was refused was not asked again before the time that the answer named, and a write that went on being refused came once in five seconds.',
    '11. Every request to the API server but a watch ended within the ten seconds in which a lease is renewed.',
    '12. In the end the status counts every namespace as served and complains of nothing.',
    '',
    'Each of these oracles is itself tested to see what it is there for (`test/faults/oracles`).',
    '',
    ...sections,
  ].join('\n');
}

function promiseOf({ ancestorTitles, title }: { ancestorTitles: string[]; title: string }): string {
  const text = [...ancestorTitles, title].filter((part) => part !== '').join(' ');
  return text.charAt(0).toUpperCase() + text.slice(1).replaceAll('|', '\\|');
}

function seconds(ms = 0): string {
  return (ms / 1_000).toFixed(1);
}
