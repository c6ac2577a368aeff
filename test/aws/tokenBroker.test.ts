import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AuthorizationToken, TokenRequest } from '../../src/aws/authorizationToken.ts';
import type { CheckResult } from '../../src/aws/registryCheck.ts';
import { TokenBroker, type StoredToken, type TokenChange, type TokenWant } from '../../src/aws/tokenBroker.ts';
import { ConfigurationError, StoppedError, ThrottledError, TransientError } from '../../src/errors.ts';
import { FakeClock, flush } from '../fakeClock.ts';
import { seeded } from '../seeded.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const HOST = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
const OTHER = '210987654321.dkr.ecr.eu-west-1.amazonaws.com';
const ACCEPTED: CheckResult = { verdict: 'accepted' };
const REFUSED: CheckResult = { verdict: 'refused', message: `${HOST} refuses the token (HTTP 403)` };
const UNREACHABLE: CheckResult = { verdict: 'unreachable', message: `${HOST} cannot be reached` };

function wantOf(o: Partial<TokenWant> = {}): TokenWant {
  const request: TokenRequest = {
    identity: { source: { kind: 'operator' }, chain: [] },
    service: 'ecr',
    region: 'eu-west-1',
  };
  return { key: 'key', request, hosts: [HOST], outliveSession: false, verification: 'IfReachable', revision: '', ...o };
}

type Fetch = (call: number) => AuthorizationToken | Promise<AuthorizationToken>;

function givenUp(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const giveUp = () => reject(new StoppedError('Stopped', 'given up'));
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp);
  });
}

class Bench {
  readonly clock: FakeClock;
  readonly broker: TokenBroker;
  readonly calls: number[] = []; // ms since the start
  readonly checks: string[] = []; // the tokens
  readonly changes: TokenChange[] = [];
  stored: StoredToken[] = [];
  writes = 0;
  readonly metrics = new Map<string, number | null>();
  readonly failures: string[] = [];
  readonly start: number;
  life = 12 * HOUR;
  session: number | null = null;
  offset = 0; // of the server's clock
  isLeader = true;
  fetch: Fetch = (call) => this.token(call);
  check: (auth: string) => CheckResult | Promise<CheckResult> = () => ACCEPTED;

  constructor(o: { clock?: FakeClock; random?: () => number } = {}) {
    this.clock = o.clock ?? new FakeClock();
    this.start = this.clock.monotonic();
    const log = { debug() {}, info() {}, warn() {}, error() {} } as never;
    this.broker = new TokenBroker({
      clock: this.clock,
      random: o.random ?? (() => 0),
      source: {
        fetch: async (_request, signal) => {
          this.calls.push(this.clock.monotonic() - this.start);
          return Promise.race([this.fetch(this.calls.length), givenUp(signal)]);
        },
      },
      check: async (_host, auth) => {
        this.checks.push(auth);
        return this.check(auth);
      },
      serverNow: () => this.serverNow(),
      log,
      metrics: {
        tokenExpiry: (_region, host, seconds) => void this.metrics.set(host, seconds),
        tokenRefreshed: () => {},
        forgetHost: (_region, host) => void this.metrics.delete(host),
        refreshFailed: (reason) => void this.failures.push(reason),
      },
      isLeader: () => this.isLeader,
      onChange: (change) => void this.changes.push(change),
      persist: (tokens) => {
        this.stored = tokens;
        this.writes += 1;
      },
    });
  }

  serverNow(): number {
    return this.clock.now() + this.offset;
  }

  token(call: number, o: { life?: number; session?: number | null } = {}): AuthorizationToken {
    const now = this.serverNow();
    const session = o.session === undefined ? this.session : o.session;
    return {
      auth: `token-${call}`,
      issuedAt: new Date(now),
      expiresAt: new Date(now + (o.life ?? this.life)),
      sessionEndsAt: session === null ? null : new Date(now + session),
    };
  }

  status(host = HOST, key = 'key') {
    return this.broker.hostStatus(key, host);
  }

  /** The token at a host: its text, or its state where it is not usable. */
  auth(host = HOST, key = 'key'): string {
    const { token } = this.status(host, key);
    return token.state === 'usable' ? token.auth : token.state;
  }

  async run(...wants: TokenWant[]): Promise<void> {
    this.broker.start();
    this.broker.setWants(wants.length === 0 ? [wantOf()] : wants);
    await flush();
  }

  reasons(): string[] {
    return this.changes.map(({ reason }) => reason);
  }
}

const down: Fetch = () => {
  throw new TransientError('Unreachable', 'api.ecr.eu-west-1.amazonaws.com cannot be reached');
};

describe('a want', () => {
  test('is met at once, for all of its hosts by one call', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ hosts: [HOST, OTHER] }), wantOf({ hosts: [HOST, 'cname.example'] }));
    expect(bench.calls).toEqual([0]);
    expect([HOST, OTHER, 'cname.example'].map((host) => bench.auth(host))).toEqual(['token-1', 'token-1', 'token-1']);
    expect(bench.changes).toEqual([{ key: 'key', hosts: [HOST, OTHER, 'cname.example'], reason: 'token' }]);
    expect(bench.stored.map(({ host }) => host)).toEqual([HOST, OTHER, 'cname.example']);
    expect(bench.writes).toBe(1);
    expect(bench.metrics.get(HOST)).toBe((bench.clock.now() + 12 * HOUR) / 1000);
    expect(bench.status().nextRefreshTime).toEqual(new Date(bench.clock.now() + 6 * HOUR));
  });

  test('of a host that joins costs no call', async () => {
    const bench = new Bench();
    await bench.run();
    bench.broker.setWants([wantOf({ hosts: [HOST, OTHER] })]);
    await flush();
    expect(bench.auth(OTHER)).toBe('token-1');
    expect(bench.calls).toHaveLength(1);
    expect(bench.checks).toHaveLength(2);
  });

  test('of another identity is met apart, whatever the first comes to', async () => {
    const bench = new Bench();
    bench.fetch = (call) => (call === 1 ? new Promise(() => {}) : bench.token(call));
    await bench.run(wantOf({ key: 'a' }), wantOf({ key: 'b' }));
    expect(bench.auth(HOST, 'a')).toBe('unknown');
    expect(bench.auth(HOST, 'b')).toBe('token-2');
  });

  test('that is set again and again while a call is under way makes no second one', async () => {
    const bench = new Bench();
    bench.fetch = () => new Promise(() => {});
    await bench.run();
    for (let time = 0; time < 5; time++) bench.broker.setWants([wantOf({ revision: String(time) })]);
    await bench.clock.advance(25 * SECOND);
    expect(bench.calls).toHaveLength(1);
  });

  test('that is gone is refreshed no more; its token is kept for a while, its metric is not', async () => {
    const bench = new Bench();
    await bench.run();
    bench.broker.setWants([]);
    expect(bench.metrics.size).toBe(0);
    await bench.clock.advance(30 * MINUTE);
    expect(bench.auth()).toBe('token-1');
    bench.broker.setWants([wantOf()]);
    expect(bench.metrics.size).toBe(1);
    bench.broker.setWants([]);
    await bench.clock.advance(70 * MINUTE);
    expect(bench.auth()).toBe('unknown');
    expect(bench.stored).toEqual([]);
    await bench.clock.advance(12 * HOUR);
    expect(bench.calls).toHaveLength(1);
    expect(bench.broker.nextRefreshAt()).toBeNull();
  });

  test('with a new revision asks for a try at once, but not within 10 s of the last', async () => {
    const bench = new Bench();
    await bench.run();
    bench.broker.setWants([wantOf({ revision: 'one' })]);
    await bench.clock.advance(MINUTE);
    bench.broker.setWants([wantOf({ revision: 'two' })]);
    await flush();
    bench.broker.setWants([wantOf({ revision: 'two' })]);
    await bench.clock.advance(MINUTE);
    expect(bench.calls).toEqual([0, 10 * SECOND, MINUTE]);
  });

  test('that goes back to a revision of before, or to none, asks for nothing', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ revision: 'one' }));
    for (const revision of ['two', 'one', 'two', '']) {
      bench.broker.setWants([wantOf({ revision })]);
      await bench.clock.advance(MINUTE);
    }
    expect(bench.calls).toEqual([0, 10 * SECOND]); // for `two`
  });

  test('that goes while another resource wants the same asks for nothing', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ revision: 'one' }), wantOf({ revision: 'two' }));
    bench.broker.setWants([wantOf({ revision: 'two' })]);
    await bench.clock.advance(MINUTE);
    expect(bench.calls).toHaveLength(1);
  });
});

describe('a refresh', () => {
  test('comes at half of the life, for days', async () => {
    const bench = new Bench();
    await bench.run();
    await bench.clock.advance(49 * HOUR);
    expect(bench.calls).toEqual([0, 6, 12, 18, 24, 30, 36, 42, 48].map((hour) => hour * HOUR));
    expect(bench.auth()).toBe('token-9');
    expect(bench.reasons()).toEqual(Array.from({ length: 9 }, () => 'token'));
  });

  test('comes at half of the session, unless that is outlived', async () => {
    const bench = new Bench();
    bench.session = HOUR;
    await bench.run();
    await bench.clock.advance(50 * MINUTE);
    expect(bench.calls).toEqual([0, 30 * MINUTE]);
    bench.broker.setWants([wantOf({ outliveSession: true })]);
    await bench.clock.advance(5 * HOUR);
    expect(bench.calls).toHaveLength(2);
    expect(bench.status().token).toMatchObject({
      state: 'usable',
      expiresAt: new Date(bench.start + bench.clock.now() - bench.clock.monotonic() + 12.5 * HOUR),
    });
  });

  test('comes at a tick of any resource, however they share the token', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ schedule: '0 3 * * *' }), wantOf({ schedule: '0 5 * * *', timeZone: 'Europe/Paris' }));
    await bench.clock.advance(5 * HOUR);
    expect(bench.calls).toEqual([0, 3 * HOUR, 4 * HOUR]);
  });

  test('of a minutely schedule comes no more than once in a 24th of the life', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ schedule: '* * * * *' }));
    await bench.clock.advance(12 * HOUR);
    expect(bench.calls.length).toBeGreaterThan(20);
    expect(bench.calls.length).toBeLessThanOrEqual(24);
  });

  test('of a life of 60 days comes after 6 h, with a word on it', async () => {
    const bench = new Bench();
    bench.life = 60 * 24 * HOUR;
    await bench.run();
    expect(bench.status().note).toContain('12 h');
    await bench.clock.advance(6 * HOUR - MINUTE);
    expect(bench.calls).toHaveLength(1);
  });

  test('is made by the leader alone, and soon after it has become one', async () => {
    const bench = new Bench();
    bench.isLeader = false;
    await bench.run();
    await bench.clock.advance(HOUR);
    expect(bench.calls).toEqual([]);
    bench.isLeader = true;
    await bench.clock.advance(2 * SECOND);
    expect(bench.auth()).toBe('token-1');
  });

  test('by a wrong local clock is neither early nor late', async () => {
    const bench = new Bench();
    bench.offset = -300 * 24 * HOUR;
    await bench.run();
    expect(bench.auth()).toBe('token-1');
    await bench.clock.advance(7 * HOUR);
    expect(bench.calls).toEqual([0, 6 * HOUR]);
  });

  test('is not put off by a local clock that is set back', async () => {
    const bench = new Bench();
    await bench.run();
    await bench.clock.advance(HOUR);
    bench.clock.jump({ wall: -5 * HOUR });
    await bench.clock.advance(5 * HOUR + MINUTE);
    expect(bench.calls).toEqual([0, 6 * HOUR]);
  });

  test('that a clock set forward brings about puts things right', async () => {
    const bench = new Bench();
    // AWS' answer tells its own time: the local one is 100 days ahead from then on.
    bench.fetch = (call) => {
      if (call === 2) bench.offset = -100 * 24 * HOUR;
      return bench.token(call);
    };
    await bench.run();
    await bench.clock.advance(HOUR);
    bench.clock.jump({ wall: 100 * 24 * HOUR });
    await bench.clock.advance(5 * HOUR);
    expect(bench.calls).toHaveLength(2);
    expect(bench.reasons()).not.toContain('expired');
    expect(bench.auth()).toBe('token-2');
  });

  test.each([
    ['whose monotonic clock stood still', { wall: 20 * HOUR }],
    ['whose clocks went on', { wall: 20 * HOUR, monotonic: 20 * HOUR }],
  ])(
    'comes within 5 s of the waking of a machine %s, and the token is not called expired before',
    async (_name, jump) => {
      const bench = new Bench();
      await bench.run();
      await bench.clock.advance(HOUR);
      bench.clock.jump(jump);
      await bench.clock.advance(5 * SECOND);
      expect(bench.auth()).toBe('token-2');
      expect(bench.reasons()).toEqual(['token', 'token']);
    },
  );
});

describe('a failure', () => {
  test('leaves the good token, is told, and is over with the next success', async () => {
    const bench = new Bench();
    await bench.run();
    bench.fetch = down;
    await bench.clock.advance(6 * HOUR);
    expect(bench.auth()).toBe('token-1');
    expect(bench.status().failure).toEqual({
      code: 'Unreachable',
      message: 'api.ecr.eu-west-1.amazonaws.com cannot be reached',
    });
    expect(bench.failures).toEqual(['Unreachable']);
    bench.fetch = (call) => bench.token(call);
    await bench.clock.advance(10 * SECOND);
    expect(bench.status().failure).toBeNull();
    expect(bench.auth()).toBe('token-3');
    expect(bench.reasons()).toEqual(['token', 'failure', 'failure', 'token']);
  });

  test('is tried again after 10 s, doubling to 5 min', async () => {
    const bench = new Bench({ random: () => 1 - Number.EPSILON });
    await bench.run();
    bench.fetch = down;
    await bench.clock.advance(6.5 * HOUR);
    const [first = 0, ...rest] = bench.calls.slice(1);
    expect(rest.slice(0, 7).map((at) => Math.round((at - first) / SECOND))).toEqual([10, 30, 70, 150, 310, 610, 910]);
  });

  test('where no token is alive is tried again each 30 s at most', async () => {
    const bench = new Bench();
    bench.fetch = down;
    await bench.run();
    await bench.clock.advance(10 * MINUTE);
    const gaps = bench.calls.slice(1).map((at, index) => at - (bench.calls[index] ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(10 * SECOND);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(31 * SECOND);
    expect(bench.auth()).toBe('unknown');
    expect(bench.status().failure?.code).toBe('Unreachable');
  });

  test('to the end of life makes the token expired, once, and keeps its text', async () => {
    const bench = new Bench();
    await bench.run();
    bench.fetch = down;
    await bench.clock.advance(13 * HOUR);
    expect(bench.status().token).toMatchObject({ state: 'expired', auth: 'token-1' });
    expect(bench.reasons().filter((reason) => reason === 'expired')).toHaveLength(1);
    bench.fetch = (call) => bench.token(call);
    await bench.clock.advance(31 * SECOND);
    expect(bench.status().token.state).toBe('usable');
  });

  test('by throttling waits as long as AWS says, and not longer than 5 min', async () => {
    const bench = new Bench();
    bench.fetch = (call) => {
      if (call === 3) return bench.token(call);
      throw new ThrottledError('Throttled', 'AWS throttles', { retryAfterMs: call === 1 ? MINUTE : 100 * HOUR });
    };
    await bench.run();
    bench.broker.setWants([wantOf({ revision: 'at once' })]);
    await bench.clock.advance(7 * MINUTE);
    expect(bench.calls.map((at) => Math.round(at / SECOND))).toEqual([0, 60, 360]);
  });

  test('is tried again at once when the spec changes', async () => {
    const bench = new Bench();
    bench.fetch = () => {
      throw new ConfigurationError('AccessDenied', 'AWS refuses');
    };
    await bench.run();
    await bench.clock.advance(5 * MINUTE);
    const before = bench.calls.length;
    await bench.clock.advance(11 * SECOND);
    bench.fetch = (call) => bench.token(call);
    bench.broker.setWants([wantOf({ revision: 'fixed' })]);
    await flush();
    expect(bench.calls.length).toBe(before + 1);
    expect(bench.auth()).toMatch('token-');
  });

  test.each([-11 * 365 * 24 * HOUR, 0])('is a token whose life is over as it comes (%i ms): no loop', async (life) => {
    const bench = new Bench();
    await bench.run();
    bench.life = life;
    await bench.clock.advance(6 * HOUR + MINUTE);
    expect(bench.auth()).toBe('token-1');
    expect(bench.status().failure?.code).toBe('ExpiredOnArrival');
    expect(bench.calls.length).toBeLessThanOrEqual(5);
  });

  test('is forgotten in the sleep of a machine: its next try is not the long back-off', async () => {
    const bench = new Bench();
    await bench.run();
    bench.fetch = down;
    await bench.clock.advance(6 * HOUR + 30 * MINUTE);
    bench.fetch = (call) => bench.token(call);
    const before = bench.calls.length;
    bench.clock.jump({ wall: 12 * SECOND, monotonic: 12 * SECOND });
    await bench.clock.advance(5 * SECOND);
    expect(bench.calls.length).toBe(before + 1);
  });

  test('of our own is no end of it', async () => {
    const bench = new Bench();
    bench.fetch = () => {
      throw new TypeError('canary');
    };
    await bench.run();
    expect(bench.status().failure).toMatchObject({ code: 'Unexpected' });
    expect(bench.status().failure?.message).not.toContain('canary');
    await bench.clock.advance(11 * SECOND);
    expect(bench.calls).toHaveLength(2);
  });
});

describe('the check of a registry', () => {
  const pending = (): Promise<CheckResult> => new Promise(() => {});

  test("does not hold back a host's first token", async () => {
    const bench = new Bench();
    bench.check = pending;
    await bench.run();
    expect(bench.auth()).toBe('token-1');
    expect(bench.checks).toEqual(['token-1']);
  });

  test('holds back a later one 3 s at most', async () => {
    const bench = new Bench();
    await bench.run();
    bench.check = pending;
    await bench.clock.advance(6 * HOUR);
    expect(bench.auth()).toBe('token-1');
    await bench.clock.advance(3 * SECOND);
    expect(bench.auth()).toBe('token-2');
    expect(bench.status().note).toContain('not checked');
  });

  test('that finds nobody holds nothing back, and says so', async () => {
    const bench = new Bench();
    bench.check = () => UNREACHABLE;
    await bench.run();
    await bench.clock.advance(6 * HOUR);
    expect(bench.auth()).toBe('token-2');
    expect(bench.status()).toMatchObject({ failure: null, note: `not checked: ${HOST} cannot be reached` });
  });

  test('that is refused holds a later token back until a quarter of the old life is left, at that host alone', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ hosts: [HOST, OTHER] }));
    let calls = 0;
    bench.check = (auth) => (auth === 'token-2' && calls++ % 2 === 0 ? REFUSED : ACCEPTED);
    bench.broker.setWants([wantOf({ hosts: [HOST, OTHER] })]);
    await bench.clock.advance(6 * HOUR);
    expect([bench.auth(HOST), bench.auth(OTHER)]).toEqual(['token-1', 'token-2']);
    expect(bench.status(HOST).failure?.code).toBe('TokenRefused');
    expect(bench.status(OTHER).failure).toBeNull();
    bench.check = () => REFUSED;
    await bench.clock.advance(3 * HOUR - MINUTE);
    expect(bench.auth(HOST)).toBe('token-1');
    await bench.clock.advance(2 * MINUTE);
    expect(bench.auth(HOST)).toBe('token-2');
    expect(bench.status(HOST).failure?.code).toBe('TokenRefused');
  });

  test('that is refused is made again, without a call of AWS, and publishes when it is taken', async () => {
    const bench = new Bench();
    await bench.run();
    bench.check = () => REFUSED;
    await bench.clock.advance(6 * HOUR + MINUTE);
    const { length } = bench.checks;
    expect(length).toBeGreaterThan(3);
    bench.check = () => ACCEPTED;
    await bench.clock.advance(5 * MINUTE);
    expect(bench.auth()).toBe('token-2');
    expect(bench.status().failure).toBeNull();
    expect(bench.calls).toHaveLength(2);
  });

  test('of a first token that is refused is told, and the token stays', async () => {
    const bench = new Bench();
    bench.check = () => REFUSED;
    await bench.run();
    expect(bench.auth()).toBe('token-1');
    expect(bench.status().failure).toMatchObject({
      code: 'TokenRefused',
      message: `${HOST} refuses the token (HTTP 403)`,
    });
    expect(bench.failures).toEqual(['TokenRefused']);
    bench.check = () => ACCEPTED;
    await bench.clock.advance(20 * SECOND);
    expect(bench.status().failure).toBeNull();
  });

  test.each([REFUSED, UNREACHABLE])(
    'that is required holds back the first token and every other: %j',
    async (result) => {
      const bench = new Bench();
      bench.check = () => result;
      await bench.run(wantOf({ verification: 'Required' }));
      expect(bench.auth()).toBe('unknown');
      expect(bench.status().failure).not.toBeNull();
      bench.check = () => ACCEPTED;
      await bench.clock.advance(31 * SECOND);
      expect(bench.auth()).toBe('token-1');
      expect(bench.status().failure).toBeNull();
      bench.check = () => result;
      await bench.clock.advance(13 * HOUR);
      expect(bench.status().token.state).toBe('expired');
    },
  );

  test('that is required of one resource is required of all that share the host', async () => {
    const bench = new Bench();
    bench.check = () => UNREACHABLE;
    await bench.run(wantOf({ verification: 'Disabled' }), wantOf({ verification: 'Required' }));
    expect(bench.auth()).toBe('unknown');
    bench.broker.setWants([wantOf({ verification: 'Disabled' })]);
    await bench.clock.advance(31 * SECOND);
    expect(bench.auth()).toBe('token-1');
  });

  test('that is disabled is not made', async () => {
    const bench = new Bench();
    await bench.run(wantOf({ verification: 'Disabled' }));
    await bench.clock.advance(6 * HOUR);
    expect(bench.auth()).toBe('token-2');
    expect(bench.checks).toEqual([]);
  });
});

describe('after a restart', () => {
  async function restarted(o: { after: number; jump?: boolean }): Promise<Bench> {
    const before = new Bench();
    await before.run(wantOf({ revision: 'one' }));
    await before.broker.stop();
    await before.clock.advance(o.after);
    const bench = new Bench({ clock: before.clock });
    bench.broker.restore(before.stored);
    return bench;
  }

  test('a token that is fresh is used without a call, its refresh at its time', async () => {
    const bench = await restarted({ after: HOUR });
    await bench.run(wantOf({ revision: 'one' }));
    expect(bench.auth()).toBe('token-1');
    expect(bench.calls).toEqual([]);
    await bench.clock.advance(5 * HOUR);
    expect(bench.calls).toEqual([5 * HOUR]);
  });

  test('its refresh is due when it was before, and what is stored is not written again', async () => {
    const before = new Bench({ random: () => 0.75 });
    await before.run();
    const { nextRefreshTime } = before.status();
    const bench = new Bench({ clock: before.clock, random: () => 0.25 });
    bench.broker.restore(before.stored);
    await bench.run();
    expect(bench.status().nextRefreshTime).toEqual(nextRefreshTime);
    expect(bench.writes).toBe(0);
    await bench.clock.advance(6 * HOUR);
    expect(bench.writes).toBe(1);
  });

  test.each([
    { verdict: 'refused', message: 'no', failure: { code: 'TokenRefused', message: 'no' }, note: null },
    { verdict: 'unreachable', message: 'a firewall', failure: null, note: 'not checked: a firewall' },
  ] as const)(
    'it is checked once more, and what its check says is told again: $verdict',
    async ({ failure, note, ...result }) => {
      const bench = await restarted({ after: HOUR });
      const answers: ((answer: CheckResult) => void)[] = [];
      bench.check = () => new Promise((resolve) => answers.push(resolve));
      await bench.run(wantOf({ revision: 'one' }));
      expect(bench.status()).toMatchObject({
        isUnconfirmed: true,
        token: { state: 'usable' },
        failure: null,
        note: null,
      });
      bench.changes.length = 0;
      answers[0]?.(result);
      await flush();
      expect(bench.status()).toMatchObject({ isUnconfirmed: false, token: { state: 'usable' }, failure, note });
      expect(bench.reasons()).toEqual(['failure']);
      expect([bench.checks, bench.calls]).toEqual([['token-1'], []]);
    },
  );

  test('where verification is disabled it is not checked', async () => {
    const bench = await restarted({ after: HOUR });
    await bench.run(wantOf({ revision: 'one', verification: 'Disabled' }));
    expect(bench.status().isUnconfirmed).toBe(false);
    expect(bench.checks).toEqual([]);
  });

  test('a token of another identity is not used', async () => {
    const bench = await restarted({ after: HOUR });
    await bench.run(wantOf({ key: 'other' }));
    expect(bench.auth(HOST, 'other')).toBe('token-1');
    expect(bench.calls).toEqual([0]);
  });

  test('a token past its end is expired while AWS is away', async () => {
    const bench = await restarted({ after: 13 * HOUR });
    bench.fetch = down;
    await bench.run();
    expect(bench.status().token).toMatchObject({ state: 'expired', auth: 'token-1' });
  });

  test('a token beyond its session is good where that is outlived', async () => {
    const before = new Bench();
    before.session = 20 * SECOND;
    await before.run(wantOf({ outliveSession: true }));
    await before.clock.advance(5 * MINUTE);
    expect(before.calls).toHaveLength(1);
    const bench = new Bench({ clock: before.clock });
    bench.broker.restore(before.stored);
    await bench.run(wantOf({ outliveSession: true }));
    await bench.clock.advance(5 * MINUTE);
    expect(bench.auth()).toBe('token-1');
    expect(bench.calls).toEqual([]);
  });

  test("a standby takes the leader's tokens over, and what is newer stays", async () => {
    const standby = new Bench();
    standby.isLeader = false;
    await standby.run();
    const leader = new Bench({ clock: standby.clock });
    await leader.run();
    standby.broker.restore(leader.stored);
    expect(standby.auth()).toBe('token-1');
    expect(standby.writes).toBe(0);
    standby.isLeader = true;
    await standby.clock.advance(6 * HOUR);
    expect(standby.calls).toHaveLength(1);
    standby.broker.restore(leader.stored);
    expect(standby.status().lastRefreshTime).toEqual(new Date(standby.clock.now()));
  });

  const orders: [
    when: string,
    inOrder: (ask: () => void, answer: () => Promise<void>, wait: (ms: number) => Promise<void>) => Promise<void>,
  ][] = [
    [
      '0.2 s before the answer, told in whole seconds',
      async (ask, answer, wait) => {
        ask();
        await wait(200);
        await answer();
      },
    ],
    [
      '3 s after it, as its watch is behind',
      async (ask, answer, wait) => {
        await answer();
        await wait(3 * SECOND);
        ask();
      },
    ],
  ];
  test.each(orders)(
    "a standby that sees a request for a refresh %s, knows the leader's answer by its time",
    async (_, inOrder) => {
      const standby = new Bench();
      standby.isLeader = false;
      await standby.run(wantOf({ revision: 'one' }));
      await standby.clock.advance(HOUR + 700);
      const ask = () => standby.broker.setWants([wantOf({ revision: 'two' })]);
      const leader = new Bench({ clock: standby.clock });
      leader.fetch = (call) => {
        const token = leader.token(call);
        return { ...token, issuedAt: new Date(Math.floor(token.issuedAt.getTime() / 1_000) * 1_000) };
      };
      const answer = () => leader.run(wantOf({ revision: 'two' }));
      await inOrder(ask, answer, (ms) => standby.clock.advance(ms));
      standby.isLeader = true;
      standby.broker.restore(leader.stored);
      await standby.clock.advance(MINUTE);
      expect(standby.calls).toEqual([]);
      expect(standby.auth()).toBe('token-1');
    },
  );

  test('a leader that was none for a while goes on: what it broke off is done', async () => {
    const bench = new Bench();
    await bench.run();
    bench.fetch = (call) => (call === 2 ? new Promise(() => {}) : bench.token(call));
    bench.check = () => (bench.checks.length === 2 ? new Promise(() => {}) : ACCEPTED);
    await bench.clock.advance(6 * HOUR);
    expect(bench.calls).toHaveLength(2);
    const follow = async () => {
      bench.isLeader = false;
      await bench.broker.stop();
      await bench.clock.advance(MINUTE);
    };
    const lead = async () => {
      bench.isLeader = true;
      bench.broker.start();
      await bench.clock.advance(SECOND);
    };
    await follow();
    expect(bench.calls).toHaveLength(2);
    await lead();
    expect(bench.calls).toHaveLength(3);
    expect(bench.auth()).toBe('token-1'); // the check of the new one is under way
    await follow();
    await lead();
    expect(bench.auth()).toBe('token-3');
    expect(bench.failures).toEqual([]);
  });

  test('what is stored and cannot be read costs a call, never an error', async () => {
    const bench = new Bench();
    const token: StoredToken = {
      key: 'key',
      host: HOST,
      auth: 'x',
      issuedAt: 'nonsense',
      expiresAt: '',
      sessionEndsAt: null,
    };
    bench.broker.restore([token, { ...token, issuedAt: '2026-01-01T00:00:00Z', expiresAt: '2015-01-01T00:00:00Z' }]);
    await bench.run();
    expect(bench.auth()).toBe('token-1');
  });
});

test('what may be stored no more is stored anew, by the leader alone, and where there is something', async () => {
  const bench = new Bench();
  bench.broker.storeAnew();
  expect(bench.writes).toBe(0);
  await bench.run();
  bench.stored = [];
  bench.broker.storeAnew();
  expect(bench.stored.map(({ auth }) => auth)).toEqual(['token-1']);
  bench.isLeader = false;
  bench.broker.storeAnew();
  expect(bench.writes).toBe(2);
});

test('who leads again after a pause refreshes again, and finishes a check that was cut short', async () => {
  const bench = new Bench();
  await bench.run();
  await bench.clock.advance(6 * HOUR - SECOND);
  bench.check = () => new Promise(() => {});
  await bench.clock.advance(SECOND);
  expect(bench.auth()).toBe('token-1');
  await bench.broker.stop();
  await bench.clock.advance(MINUTE);
  bench.check = () => ACCEPTED;
  bench.broker.start();
  await flush();
  expect(bench.auth()).toBe('token-2');
  await bench.clock.advance(7 * HOUR);
  expect(bench.auth()).toBe('token-3');
});

test('no call is made after stop', async () => {
  const bench = new Bench();
  await bench.run();
  await bench.broker.stop();
  await bench.clock.advance(24 * HOUR);
  expect(bench.calls).toHaveLength(1);
  expect(bench.clock.pending).toBe(0);
});

test('whatever lives AWS gives, and however often it fails, calls are 10 s apart', async () => {
  const life = fc.integer({ min: -11 * 365 * 24 * HOUR, max: 13 * HOUR });
  const answer = fc.record({
    life: fc.oneof(life, fc.integer({ min: -1000, max: 60_000 })),
    session: fc.option(life),
    fails: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(answer, { minLength: 1, maxLength: 8 }),
      fc.option(fc.constantFrom('* * * * *', '0 */4 * * *')),
      async (answers, schedule) => {
        const bench = new Bench({ random: () => 0.5 });
        bench.fetch = (call) => {
          const now = answers[call % answers.length];
          if (!now || now.fails) return down(call);
          return bench.token(call, now);
        };
        await bench.run(wantOf(schedule === null ? {} : { schedule }));
        for (let revision = 0; revision < 20; revision++) {
          if (revision % 5 === 0) bench.broker.setWants([wantOf({ revision: String(revision) })]);
          await bench.clock.advance(7 * SECOND);
        }
        const gaps = bench.calls.slice(1).map((at, index) => at - (bench.calls[index] ?? 0));
        expect(Math.min(...gaps, Infinity)).toBeGreaterThanOrEqual(10 * SECOND);
        await bench.broker.stop();
      },
    ),
    { numRuns: 50 },
  );
});

test('thirty clusters of one account with one schedule, AWS throttling: their calls are spread, all are fresh, none loses its token', async () => {
  const clock = new FakeClock('2026-01-01T00:00:30Z');
  const random = seeded(7);
  const calls: number[] = []; // ms, of all clusters
  let throttled = 0;
  const clusters = Array.from({ length: 30 }, () => new Bench({ clock, random }));
  for (const bench of clusters) {
    bench.fetch = (call) => {
      const now = clock.monotonic();
      calls.push(now);
      if (calls.filter((at) => at > now - SECOND).length <= 5) return bench.token(call);
      throttled += 1;
      throw new ThrottledError('Throttled', 'AWS throttles', { retryAfterMs: 10_000 });
    };
    // All start in one moment, and have one schedule.
    await bench.run(wantOf({ schedule: '0 4 * * *' }));
  }
  await clock.advance(10 * MINUTE);
  expect(throttled).toBeGreaterThan(0);
  expect(clusters.filter((bench) => bench.auth() === 'unknown')).toEqual([]);
  calls.length = 0;
  await clock.advance(4 * HOUR);
  const tick = Date.parse('2026-01-01T04:00:00Z');
  expect(clusters.map((bench) => Date.parse(bench.stored[0]?.issuedAt ?? '') >= tick)).toEqual(
    clusters.map(() => true),
  );
  const seconds = calls.map((at) => Math.floor(at / SECOND));
  const most = Math.max(...[...new Set(seconds)].map((second) => seconds.filter((other) => other === second).length));
  expect(most).toBeLessThanOrEqual(5);
  expect(clusters.every((bench) => bench.auth().startsWith('token-'))).toBe(true);
});
