import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Vitals } from './vitals.ts';

const preload = fileURLToPath(new URL('./vitals.ts', import.meta.url));

/** Environment with which a process tells its vitals into this file; Node's options beside it stay. */
export function vitalsEnv(file: string, env: Readonly<Record<string, string>> = {}): Record<string, string> {
  const options = ['--disable-warning=ExperimentalWarning', `--import=${preload}`, env['NODE_OPTIONS'] ?? ''];
  return { ...env, VITALS_FILE: file, NODE_OPTIONS: options.join(' ').trim() };
}

export function readVitals(file: string): Vitals[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Vitals);
}

/** The least of a figure in each of so many equal parts of time: of memory, what is left when garbage is collected. */
export function floors(vitals: readonly Vitals[], parts: number, figure: (of: Vitals) => number): number[] {
  return Array.from({ length: parts }, (_, part) => {
    const within = vitals.slice((part * vitals.length) / parts, ((part + 1) * vitals.length) / parts);
    return Math.min(...within.map(figure));
  });
}
