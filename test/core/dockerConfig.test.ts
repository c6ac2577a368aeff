import { describe, expect, it } from 'vitest';
import { dockerConfigJson, hashOfEntry, parseDockerConfigJson, sizeOfEntry } from '../../src/core/dockerConfig.ts';

describe('.dockerconfigjson', () => {
  const one = { auth: 'b25l' };
  const two = { auth: 'dHdv' };
  it('has only auth, under the bare host', () => {
    expect(dockerConfigJson(new Map([['r.example', one]]))).toBe('{"auths":{"r.example":{"auth":"b25l"}}}');
  });
  it('has equal bytes for equal entries, whatever their order', () => {
    const forth = new Map(Object.entries({ a: one, b: two }));
    expect(dockerConfigJson(forth)).toBe(dockerConfigJson(new Map([...forth].toReversed())));
  });
  it('is read back, also with names that every object has', () => {
    const entries = new Map(Object.entries({ constructor: one, '__proto__.example': two }));
    expect(parseDockerConfigJson(dockerConfigJson(entries))).toEqual(entries);
  });
  it.each(['', 'null', '[]', '{"auths":null}', '{"auths":{"x":{"auth":7},"y":null}}', '<html>'])(
    'reads nothing from %j',
    (text) => expect(parseDockerConfigJson(text).size).toBe(0),
  );
  it('hashes what stands in the document', () => {
    expect(hashOfEntry({ auth: 'b25l' })).toMatch(/^[0-9a-f]{64}$/);
    expect(hashOfEntry(one)).not.toBe(hashOfEntry(two));
  });
  it('knows what an entry adds', () => {
    const alone = dockerConfigJson(new Map([['a', one]])).length;
    const both = dockerConfigJson(new Map(Object.entries({ a: one, bb: two }))).length;
    expect(both - alone).toBe(sizeOfEntry('bb', two));
  });
});
