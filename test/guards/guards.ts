/** A line that something hangs on, what the code would be without it, and the test that must then fail. */
export interface Guard {
  /** What it guards. */
  readonly what: string;
  readonly file: string;
  readonly line: string;
  readonly instead: string;
  readonly test: string;
  /** A part of the test's name, where not all of the file is needed. */
  readonly named?: string;
}

export const guards: readonly Guard[] = [
  {
    what: 'an entry is added to the very list that was read',
    file: 'src/core/imagePullSecrets.ts',
    line: "  return { op: 'test', path: '/metadata/resourceVersion', value: list.resourceVersion };",
    instead: "  return { op: 'test', path: '/kind', value: list.resourceVersion ? 'ServiceAccount' : '' };",
    test: 'test/cluster/twoWriters.test.ts',
  },
  {
    what: 'a new Secret is applied without force: a foreign one is left alone',
    file: 'src/controller/applyWrites.ts',
    line: "query: { fieldManager, ...(observed && { force: 'true' }) },",
    instead: "query: { fieldManager, force: 'true' },",
    test: 'test/cluster/foreign.test.ts',
  },
  {
    what: 'a deletion is seen by the watch before the namespace is looked at again',
    file: 'src/controller/applyWrites.ts',
    line: '  await context.seenGone(observed.name, observed.resourceVersion);\n',
    instead: '',
    test: 'test/faults/crash.test.ts',
  },
  {
    what: 'a leader looks at its clocks before each write',
    file: 'src/kube/leaderElection.ts',
    line: 'return this.#leading && !this.#stopping && !this.#hasLapsed();',
    instead: 'return this.#leading && !this.#stopping;',
    test: 'test/faults/servers.test.ts',
    named: 'stands still',
  },
  {
    what: 'leadership ends before the lease does',
    file: 'src/kube/leaderElection.ts',
    line: 'return this.#elapsed() >= this.#o.renewDeadlineMs;',
    instead: 'return this.#elapsed() < 0;',
    test: 'test/faults/servers.test.ts',
    named: 'cannot be renewed',
  },
  {
    what: 'a renewed lease of nobody known is honoured until it has not changed for its time',
    file: 'src/kube/leaderElection.ts',
    line: 'return Boolean(holderIdentity) && holderIdentity !== this.#o.identity && this.#freeInMs(lease) > 0;',
    instead: 'return false && Boolean(holderIdentity) && this.#freeInMs(lease) > 0;',
    test: 'test/faults/servers.test.ts',
  },
  {
    what: 'the CRD is read before anything is removed',
    file: 'src/controller/removalGate.ts',
    line: 'this.#options.isViewTrusted() && (await this.#isCrdSteady()) && this.#options.isViewTrusted();',
    instead: 'this.#options.isViewTrusted() || (await this.#isCrdSteady());',
    test: 'test/cluster/crd.test.ts',
  },
  {
    what: 'removal waits for its delay',
    file: 'src/controller/removalGate.ts',
    line: 'return (since ?? now) + this.#options.delayMs - now;',
    instead: 'return (since ?? now) - now;',
    test: 'test/faults/unobserved.test.ts',
  },
  {
    what: 'a list without items, a page and a Status are no empty list',
    file: 'src/kube/parseAnswer.ts',
    line: "  if (!kind.endsWith('List') || !('items' in value)) throw noKubernetes(asked, 'no list');\n",
    instead: '',
    test: 'test/faults/answers.test.ts',
    named: 'every list and watch is answered with',
  },
  {
    what: 'nothing is removed on a view that is refused with 403 or 404',
    file: 'src/kube/reflector.ts',
    line: 'synced: this.#known.synced && !isRefused, listStatus }',
    instead: 'listStatus }',
    test: 'test/kube/reflector.test.ts',
  },
  {
    what: 'a watch that is silent for long is given up',
    file: 'src/kube/streamLines.ts',
    line: '      return this.#ending.abort(error);',
    instead: '      return void error;',
    test: 'test/kube/reflector.test.ts',
  },
  {
    what: 'a watch that ends in the middle of an event is told from one that ended',
    file: 'src/kube/streamLines.ts',
    line: 'const isCut = this.#splitter.pendingBytes > 0;',
    instead: 'const isCut = this.#splitter.pendingBytes < 0;',
    test: 'test/kube/client.test.ts',
  },
  {
    what: 'a watch event has a greatest length',
    file: 'src/kube/lineSplitter.ts',
    line: 'if (this.#pendingBytes > this.#maxBytes) throw',
    instead: 'if (this.#pendingBytes < 0) throw',
    test: 'test/faults/watches.test.ts',
    named: '64 MiB',
  },
  {
    what: 'every request has a deadline',
    file: 'src/kube/client.ts',
    line: 'const ms = r.deadlineMs ?? DEADLINE_MS;',
    instead: 'const ms = 3_600_000;',
    test: 'test/faults/servers.test.ts',
    named: 'stands still for a while',
  },
  {
    what: 'repairs of the same object wait ever longer',
    file: 'src/controller/repairBackoff.ts',
    line: 'return Math.max(0, repair.at + wait - this.#clock.monotonic());',
    instead: 'return Math.max(0, 0 * (repair.at + wait - this.#clock.monotonic()));',
    test: 'test/cluster/repair.test.ts',
    named: 'never gives in',
  },
  {
    what: 'a token that has ended is written nowhere anew',
    file: 'src/core/planNamespace.ts',
    line: "    if (token.state !== 'usable') {",
    instead: "    if (token.state === 'unknown') {",
    test: 'test/core/planAndDiff.test.ts',
  },
  {
    what: 'a token that had ended on arrival is refused',
    file: 'src/aws/tokenRefresher.ts',
    line: '  #received(token: AuthorizationToken): void {\n    endOfLife({ ...token, outliveSession: this.#want?.outliveSession ?? false });\n',
    instead: '  #received(token: AuthorizationToken): void {\n',
    test: 'test/aws/tokenBroker.test.ts',
  },
  {
    what: 'no attempt at AWS comes within ten seconds of the last',
    file: 'src/aws/tokenRefresher.ts',
    line: 'SHORTEST_INTERVAL_MS - this.#sinceAttempt.elapsedMs() : 0;',
    instead: '0 * SHORTEST_INTERVAL_MS - this.#sinceAttempt.elapsedMs() : 0;',
    test: 'test/aws/tokenBroker.test.ts',
  },
  {
    what: 'a refused spec is held: nothing of what is published goes',
    file: 'src/controller/resolveResource.ts',
    line: '      held: problem.code,',
    instead: '      held: null,',
    test: 'test/operator/badInput.test.ts',
  },
  {
    what: 'a Secret that was made anew is not overwritten as the one that was seen',
    file: 'src/controller/applyWrites.ts',
    line: 'const precondition = observed ? { uid: observed.uid, resourceVersion: observed.resourceVersion } : {};',
    instead: 'const precondition = observed?.uid === "" ? { uid: observed.uid } : {};',
    test: 'test/faults/unobserved.test.ts',
    named: 'somebody else’s',
  },
  {
    what: 'a leader knows the stored tokens before it works',
    file: 'src/controller/controller.ts',
    line: 'return this.#leads && this.#options.isLeader();',
    instead: 'return this.#options.isLeader();',
    test: 'test/operator/restart.test.ts',
  },
  {
    what: 'what is logged passes the filter that knows the live secrets',
    file: 'src/observability/redactor.ts',
    line: 'if (this.#pieces.size === 0) return text;',
    instead: 'if (this.#pieces.size >= 0) return text;',
    test: 'test/observability/log.test.ts',
  },
];
