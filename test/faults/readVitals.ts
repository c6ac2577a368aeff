import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Vitals } from './vitals.ts';

const preload = fileURLToPath(new URL('./vitals.ts', import.meta.url));

/** Environment with which a process tells its vitals into this file. */
export function vitalsEnv(file: string): Record<string, string> {
  return { VITALS_FILE: file, NODE_OPTIONS: `--disable-warning=ExperimentalWarning --import=${preload}` };
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
