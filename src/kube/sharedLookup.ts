import dns from 'node:dns';
import type { LookupFunction } from 'node:net';

type Callback = Parameters<LookupFunction>[2];

/**
 * Whoever asks for an address that is being asked for already gets the same answer. Node asks the system's resolver for
 * two names at a time and no more (libuv's limit for slow work), once for each connection: where an answer takes five
 * seconds and every watch has been cut, those that wait behind the first two would be given up before their turn.
 */
export function sharedLookup(lookup: LookupFunction = dns.lookup): LookupFunction {
  const waiting = new Map<string, Callback[]>();
  return (hostname, options, callback) => {
    const key = JSON.stringify([hostname, options.family, options.hints, options.order, options.all]);
    const others = waiting.get(key);
    if (others !== undefined) {
      others.push(callback);
      return;
    }
    const callbacks = [callback];
    waiting.set(key, callbacks);
    lookup(hostname, options, (...answer) => {
      waiting.delete(key);
      for (const answered of callbacks) answered(...answer);
    });
  };
}
