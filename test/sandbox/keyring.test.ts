import { describe, expect, it } from 'vitest';
import { credentialsFor } from './keyring.ts';

const host = '123456789012.dkr.ecr.us-east-1.amazonaws.com';
const auth = (name: string): string => Buffer.from(`AWS:${name}`).toString('base64');

function offered(image: string, ...documents: object[]): string[] {
  const found = credentialsFor(
    image,
    documents.map((auths) => JSON.stringify({ auths })),
  );
  return found.map((text) => Buffer.from(text, 'base64').toString().replace('AWS:', ''));
}

describe('which entries a kubelet offers for an image', () => {
  it.each([
    [host, true],
    [`https://${host}`, true],
    [`https://${host}/v2/`, true],
    ['*.dkr.ecr.us-east-1.amazonaws.com', true],
    ['*.dkr.ecr.*.amazonaws.com', true],
    ['1*2.dkr.ecr.us-east-1.amazonaws.com', true],
    ['*.amazonaws.com', false], // no star crosses a dot
    [`${host}:443`, false],
    [`${host}/team`, true],
    [`${host}/te`, true], // a plain prefix
    [`${host}/other`, false],
    ['210987654321.dkr.ecr.us-east-1.amazonaws.com', false],
  ])('%s: %s', (key, isOffered) => {
    expect(offered(`${host}/team/app:1`, { [key]: { auth: auth('x') } })).toEqual(isOffered ? ['x'] : []);
  });

  it('all that match, longest key first, of all pull secrets in their order', () => {
    const documents = [
      { [host]: { auth: auth('a') } },
      { [host]: { auth: auth('b') }, [`${host}/t`]: { auth: auth('c') } },
    ];
    expect(offered(`${host}/team/app:1`, ...documents)).toEqual(['c', 'a', 'b']);
  });

  it('`auth` is stronger than user and password, and may lack its padding', () => {
    const unpadded = auth('xy').replaceAll('=', '');
    expect(offered(`${host}/a:1`, { [host]: { auth: unpadded, username: 'u', password: 'p' } })).toEqual(['xy']);
    expect(offered(`${host}/a:1`, { [host]: { username: 'AWS', password: 'p' } })).toEqual(['p']);
  });

  it('one document that cannot be read spoils them all', () => {
    expect(() => credentialsFor(`${host}/a:1`, ['{"auths":{}}', '<html>'])).toThrow('JSON');
    expect(() => offered(`${host}/a:1`, { [host]: { auth: '!!!' } })).toThrow('unable to parse auth field');
  });
});
