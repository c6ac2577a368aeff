import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What tests write goes to one folder, which ends with the run. Workers have the environment of this process. */
export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'ecr-test-'));
  process.env['TMPDIR'] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
