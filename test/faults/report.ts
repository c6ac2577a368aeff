import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
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
  /** The text of a file of tests; '' where there is none. */
  sourceOf?: (file: string) => string;
}

type File = Results['testResults'][number];

/** docs/reliability.md, of one run. */
export function reliabilityPage(results: Results, o: ReportOptions): string {
  const { seed, isLong, date, machine, sourceOf = read } = o;
  const sections = chapters.flatMap(([file, title, text]) => {
    const path = `test/faults/${file}.test.ts`;
    const found = results.testResults.find(({ name }) => basename(name) === basename(path));
    const table = found ? tableOf(found) : ['Not run.'];
    return [`## ${title}`, '', `${text} ${heldIn(sourceOf(path))} Tests: \`${path}\`.`, '', ...table, ''];
  });
  return [
    '# Reliability',
    '',
    'Written by `npm run test:faults -- --report`: what was done to the operator on a real control plane, and what it keeps to all the while.',
    '',
    `Run of ${date} on ${machine}, seed ${seed}${isLong ? ', in full' : ', long waits shortened by ten'}: ${summaryOf(results)}.`,
    '',
    '## What is held against each of them',
    '',
    'Every version of every Secret, ServiceAccount and Lease is written down by a watch past all proxies, and the audit log tells who made it. In most chapters life goes on',
    'while a fault lasts: a namespace is made, a pull secret is deleted, an entry is dropped as a foreign one comes, labels change. Each chapter says which of these is held in it:',
    '',
    ...invariants.map((text, index) => `${index + 1}. ${text}`),
    '',
    'Each of these oracles is itself tested to see what it is there for (`test/faults/oracles`).',
    '',
    ...sections,
  ].join('\n');
}

const invariants = [
  'No entry, Secret or field of somebody else was changed by the operator, and nothing was tried that is none of its business.',
  'Its entry stood on no ServiceAccount twice, and it deleted no Secret to make it anew.',
  'No expired token was written, none of another registry, none older than the one before, and none that was good was dropped.',
  'Within a minute the state is as without the fault, and then nothing is written any more.',
  'It made and deleted each object as often as without the fault, and no more.',
  'No write came from a replica whose lease had ended, or that never had it.',
  'No secret stands in a log, event, status, metric or audit line: raw, in base64, URL-encoded, or a piece of 16 bytes.',
  'AWS was asked no more than the fault explains.',
  'No process ended by itself, none logged an error, none held more memory than the Deployment allows (512 MiB), and no event loop stood still for 2.5 s.',
  'In the end the status counts every namespace as served and complains of nothing. What a fault is told by while it lasts, its own tests look at.',
  'What was refused was not asked again before the time that the answer named, and a write, list or watch that went on failing came once in five seconds.',
  'Every request to the API server but a watch ended within the ten seconds in which a lease is renewed.',
];

/** Which of the invariants a file holds, by what it calls: most are in `violations`, which all of them call. */
function heldIn(source: string): string {
  const calls = (...names: string[]): boolean => names.some((name) => source.includes(name));
  const isQuiet = calls('.quiet()', '.afterwards()');
  const missing = [
    ...(calls('.under(', '.whole(') ? [] : [4]),
    ...(calls('.under(', 'moreThan(') ? [] : [5]),
    ...(calls('.under(', 'ecr.calls') ? [] : [8]),
    ...(calls('.afterwards()', 'endurance.quiet()') ? [] : [10]),
  ];
  const held = missing.length === 0 ? 'Held: all of them.' : `Held: all but ${missing.join(', ')}.`;
  return isQuiet || missing.includes(4) ? held : `${held} (Of 4 the state alone.)`;
}

function read(path: string): string {
  const file = fileURLToPath(new URL(`../../${path}`, import.meta.url));
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

function tableOf(file: File): string[] {
  const rows = file.assertionResults.map(
    (result) => `| ${promiseOf(result)} | ${outcomeOf(result)} | ${seconds(result.duration)} |`,
  );
  const whole = isBrokenAsAWhole(file) ? ['| The file as a whole | **BROKEN** | |'] : [];
  return ['| promise | | s |', '| --- | --- | --- |', ...rows, ...whole];
}

/** A hook that fails fails no test of its own: those of its file are not run. */
function isBrokenAsAWhole({ status, assertionResults }: File): boolean {
  return status === 'failed' && !assertionResults.some((result) => result.status === 'failed');
}

function summaryOf(results: Results): string {
  const names = new Set(results.testResults.map(({ name }) => basename(name, '.test.ts')));
  const counts: [count: number, what: string][] = [
    [results.numPendingTests + results.numTodoTests, 'not run'],
    [chapters.filter(([file]) => !names.has(file)).length, 'chapters not run'],
    [results.testResults.filter(isBrokenAsAWhole).length, 'files broken as a whole'],
  ];
  const told = counts.flatMap(([count, what]) => (count > 0 ? [`${count} ${what}`] : []));
  return [`${results.numPassedTests} held`, `${results.numFailedTests} broken`, ...told].join(', ');
}

function outcomeOf({ status }: File['assertionResults'][number]): string {
  if (status === 'passed') return 'held';
  return status === 'failed' ? '**BROKEN**' : 'not run';
}

function promiseOf({ ancestorTitles, title }: { ancestorTitles: string[]; title: string }): string {
  const text = [...ancestorTitles, title].filter((part) => part !== '').join(' ');
  return text.charAt(0).toUpperCase() + text.slice(1).replaceAll('|', '\\|');
}

function seconds(ms = 0): string {
  return (ms / 1_000).toFixed(1);
}
