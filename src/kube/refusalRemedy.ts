const DENIED = /admission webhook "[^"]{0,253}" denied the request/;
const UNANSWERED = /failed calling webhook "[^"]{0,253}"/;
const BY_TEXT: readonly [RegExp, string][] = [
  [/exceeded quota: /, 'raise that quota, or delete what uses it up'],
  [DENIED, 'whoever runs it must let this write pass'],
  [UNANSWERED, 'mend that webhook, or let it leave this object out'],
];
const BY_STATUS: ReadonlyMap<number, string> = new Map([
  [413, 'raise the limit of what refuses it, or write less'],
  [422, 'why is in the audit log of the API server, and shown to whoever tries the same with kubectl'],
]);

/** What a person can do about a write that is refused, by the words of its refusal, else by its status; '' where nothing is known. */
export function remedyOf(status: number, text: string): string {
  const remedy = BY_TEXT.find(([pattern]) => pattern.test(text))?.[1] ?? BY_STATUS.get(status);
  return remedy === undefined ? '' : `; ${remedy}`;
}

/** A webhook says no with whatever code it has chosen, and that is then no word of the API server's own. */
export function isWebhookDenial(message: string): boolean {
  return DENIED.exec(message)?.index === 0;
}

/** `failed calling webhook "name"`, where that is why the API server could not do it. */
export function unansweredWebhook(message: string): string | null {
  return UNANSWERED.exec(message)?.[0] ?? null;
}
