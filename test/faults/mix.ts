import type { Random } from '../../src/clock.ts';
import type { Fault, ProxiedRequest } from '../cluster/apiServerProxy.ts';
import { seeded } from '../seeded.ts';
import { inPieces, twice } from './streams.ts';

// A bad night drawn by lot. What one seed gives is always the same: the plan, and what meets the n-th request of a path,
// in whatever order the paths come.

export const incidents = [
  'the leader is killed',
  'the leader stands still for 3 s',
  'the leader is told to end',
  'the API server is killed and comes again',
  'every connection is reset',
  'the watches go silent until the end',
  'the lease is deleted',
] as const;
export type Incident = (typeof incidents)[number];
const silence = 'the watches go silent until the end' satisfies Incident;

/** How many of a hundred requests meet what; the rest pass. */
export interface Noise {
  readonly delayed: number; // by up to a second
  readonly lostBefore: number;
  readonly lostAfter: number;
  readonly refused: number; // 429, 500, 503, 504
}

export interface MixPlan {
  readonly seed: number;
  readonly noise: Noise;
  /** In what form watches come. */
  readonly watches: 'whole' | 'in pieces' | 'twice' | 'cut every 1.5 s';
  readonly incidents: readonly { readonly what: Incident; readonly atMs: number }[];
}

const OPEN_MS = 1_500; // the night begins with a reset: until then watches are open again

/** One bad night of `lastsMs`. */
export function drawMix(seed: number, lastsMs: number): MixPlan {
  const random = seeded(hash(`mix ${seed}`)); // seeds that follow each other begin alike
  const upTo = (most: number): number => Math.floor(random() * (most + 1));
  const noise = { delayed: upTo(20), lostBefore: upTo(8), lostAfter: upTo(8), refused: upTo(8) };
  const watches = pick(['whole', 'in pieces', 'twice', 'cut every 1.5 s'] as const, random);
  const count = 1 + upTo(1);
  // What is rewritten or cut on its way ends with what it came from: there is no silence.
  const possible = incidents.filter((what) => watches === 'whole' || what !== silence);
  const drawn = Array.from({ length: count }, () => {
    const what = pick(possible, random);
    return { what, atMs: Math.max(upTo(lastsMs - 1_000), what === silence ? OPEN_MS : 0) };
  });
  const happening = drawn.toSorted((a, b) => a.atMs - b.atMs);
  const silenced = happening.findIndex(({ what }) => what === silence);
  // What is silent already cannot go silent.
  const distinct = happening.filter(({ what }, index) => what !== silence || index === silenced);
  return { seed, noise, watches, incidents: distinct };
}

export function described({ seed, noise, watches, incidents: drawn }: MixPlan): string {
  const shares = Object.entries(noise).map(([name, share]) => `${share} % ${name}`);
  const happens = drawn.map(({ what, atMs }) => `after ${(atMs / 1_000).toFixed(1)} s ${what}`);
  return `seed ${seed}: requests ${shares.join(', ')}; watches ${watches}; ${happens.join('; ')}`;
}

/** What meets each request of one replica. */
export function noiseOf({ seed, noise, watches }: MixPlan, replica: number): (request: ProxiedRequest) => Fault | null {
  const seen = new Map<string, number>();
  return (request) => {
    const key = `${request.method} ${request.path.split('?')[0]} ${request.isWatch}`;
    const nth = (seen.get(key) ?? 0) + 1;
    seen.set(key, nth);
    const random = seeded(hash(`${seed} ${replica} ${key} ${nth}`));
    const form: Pick<Fault, 'body'> = request.isWatch ? formOf(watches) : {};
    return { ...form, ...lotOf(noise, random) };
  };
}

function formOf(watches: MixPlan['watches']): Pick<Fault, 'body'> {
  if (watches === 'in pieces') return { body: inPieces(7) };
  return watches === 'twice' ? { body: twice } : {};
}

function lotOf({ delayed, lostBefore, lostAfter, refused }: Noise, random: Random): Fault {
  const lot = random() * 100;
  const lots: [share: number, fault: () => Fault][] = [
    [delayed, () => ({ delayMs: random() * 1_000 })],
    [lostBefore, () => ({ drop: 'request' })],
    [lostAfter, () => ({ drop: 'answer' })],
    [refused, () => ({ answer: pick(refusals, random) })],
  ];
  let below = 0;
  for (const [share, fault] of lots) {
    below += share;
    if (lot < below) return fault();
  }
  return {};
}

const refusals = (
  [
    [429, 'TooManyRequests', { 'retry-after': '1' }],
    [500, 'InternalError', {}],
    [503, 'ServiceUnavailable', {}],
    [504, 'Timeout', {}],
  ] as const
).map(([status, reason, headers]) => ({
  status,
  headers,
  body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code: status, reason, message: 'drawn' },
}));

function pick<T>(from: readonly T[], random: Random): T {
  return from[Math.floor(random() * from.length)] as T;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return value >>> 0;
}
