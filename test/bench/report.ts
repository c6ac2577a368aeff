import { cpus, totalmem } from 'node:os';

export interface Figure {
  readonly name: string;
  readonly value: string;
  readonly target: string; // '' where it is told for itself
  readonly isMet?: boolean;
}

export interface Report {
  readonly date: string;
  readonly machine: string;
  readonly namespaces: number;
  readonly figures: readonly Figure[];
}

/** Of today and of this machine. */
export function reportOf(namespaces: number, figures: readonly Figure[]): Report {
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
  return { date: new Date().toISOString().slice(0, 10), machine, namespaces, figures };
}

const verdictOf = ({ isMet }: Figure): string => (isMet === undefined ? '' : isMet ? 'met' : 'MISSED');

export function printReport({ date, machine, namespaces, figures }: Report): void {
  const width = (of: (figure: Figure) => string): number => Math.max(...figures.map((figure) => of(figure).length));
  const [names, values, targets] = [width(({ name }) => name), width(({ value }) => value), width((f) => f.target)];
  console.log(`\n${namespaces} namespaces, ${date}, ${machine}\n`);
  for (const figure of figures) {
    const { name, value, target } = figure;
    console.log(`  ${name.padEnd(names)}  ${value.padStart(values)}  ${target.padEnd(targets)}  ${verdictOf(figure)}`);
  }
}

export function reportMarkdown(report: Report): string {
  return page('Performance', report, [
    'Written by `npm run bench -- --write`. A real kube-apiserver with etcd, controller manager, a stand-in ECR and the',
    "operator's bundle share one machine. The raw limit is measured in the same run: the same two writes for each",
    "namespace, with the operator's own token and rights, over 16 connections and with no logic, once on a control plane",
    'of its own and once after the operator has ended. Where the operator is faster than that, it has more connections open.',
    'Ten thousand namespaces: [scale.md](scale.md).',
  ]);
}

export function scaleMarkdown(report: Report): string {
  return page('Scale', report, [
    'Written by `npm run bench:scale -- --write`. The set-up is that of [performance.md](performance.md), with five',
    'ServiceAccounts in each namespace. The raw rate comes of the same run and the same writes with no logic, on a control',
    'plane of its own with a fifth of the namespaces. Control plane and operator share the cores.',
  ]);
}

function page(title: string, { date, machine, namespaces, figures }: Report, text: readonly string[]): string {
  const rows = figures.map(
    (figure) => `| ${figure.name} | ${figure.value} | ${figure.target} | ${verdictOf(figure)} |`,
  );
  return [
    `# ${title}`,
    '',
    ...text,
    '',
    `${namespaces} namespaces, ${date}, ${machine}.`,
    '',
    '| figure | value | target | |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
