import { annotations } from '../src/api/groupVersion.ts';
import { crd } from '../src/api/clusterEcrPullSecret.ts';
import { Metrics } from '../src/observability/metrics.ts';
import { parseOptions } from '../src/options.ts';
import type { GeneratedFile } from './generate.ts';

/** docs/reference.md: every field, flag and metric. */
export function referencePage(): GeneratedFile {
  const { names, versions, group } = (crd() as Definition).spec;
  const [version] = versions;
  if (!version) throw new Error('the CRD has no version');
  const { spec, status } = version.schema.openAPIV3Schema.properties;
  const help = parseOptions(['--help'], {});
  const text = [
    '# Reference',
    '',
    'Made from the sources by `npm run generate`. In italics: what the API server says to what it refuses.',
    '',
    `## ${names.kind}`,
    '',
    `\`apiVersion: ${group}/${version.name}\`, cluster-scoped; \`kubectl get ${names.shortNames[0]}\`, \`kubectl explain ${names.shortNames[0]}.spec\`.`,
    '',
    ...sections('spec', spec),
    ...sections('status', status),
    '## Annotations',
    '',
    '| annotation | on | meaning |',
    '| --- | --- | --- |',
    `| \`${annotations.refreshRequestedAt}\` | ${names.kind} | any new value, such as the time of now, asks for a refresh at once |`,
    `| \`${annotations.ignore}: "true"\` | Namespace, ServiceAccount | nothing of ours stays there |`,
    '',
    '## Flags',
    '',
    '```',
    help.command === 'help' ? help.text.trimEnd() : '',
    '```',
    '',
    'Exit codes: 0 after SIGTERM, 2 bad input, 1 anything else.',
    '',
    '## Metrics',
    '',
    '| name | type | labels | meaning |',
    '| --- | --- | --- | --- |',
    ...metricRows(),
    '',
  ].join('\n');
  return { path: 'docs/reference.md', text };
}

interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly 'x-kubernetes-validations'?: readonly { readonly message: string }[];
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
}

interface Definition {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string; readonly shortNames: readonly string[] };
    readonly versions: readonly {
      readonly name: string;
      readonly schema: { readonly openAPIV3Schema: { readonly properties: { spec: Schema; status: Schema } } };
    }[];
  };
}

// A table for the object, then one for each object in it.
function sections(path: string, schema: Schema): string[] {
  const fields = Object.entries(schema.properties ?? {});
  const inner = fields.flatMap(([name, field]) => {
    const { object, suffix } = objectIn(field);
    return object ? sections(`${path}.${name}${suffix}`, object) : [];
  });
  return [
    `### ${path}`,
    '',
    ...(schema.description ? [schema.description, ''] : []),
    ...rulesOf(schema).flatMap((rule) => [`- ${rule}`]),
    ...(rulesOf(schema).length ? [''] : []),
    '| field | type | default | meaning | validation |',
    '| --- | --- | --- | --- | --- |',
    ...fields.map(([name, field]) => row({ path, name, field, isRequired: schema.required?.includes(name) ?? false })),
    '',
    ...inner,
  ];
}

function objectIn(field: Schema): { object: Schema | null; suffix: string } {
  if (hasFields(field)) return { object: field, suffix: '' };
  if (field.items && hasFields(field.items)) return { object: field.items, suffix: '[]' };
  return { object: null, suffix: '' };
}

function hasFields(schema: Schema): boolean {
  return Object.keys(schema.properties ?? {}).length > 0;
}

function row(of: { path: string; name: string; field: Schema; isRequired: boolean }): string {
  const { path, name, field, isRequired } = of;
  const { object, suffix } = objectIn(field);
  const type = object ? `[${typeOf(field)}](#${anchorOf(`${path}.${name}${suffix}`)})` : typeOf(field);
  const cells = [`\`${name}\``, type, defaultOf(field, isRequired), field.description ?? '', validationOf(field)];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

// As GitHub makes anchors of headings.
function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^a-z0-9 -]/g, '');
}

function typeOf({ type = 'any', items, additionalProperties, format }: Schema): string {
  if (items) return `list of ${typeOf(items)}`;
  if (additionalProperties) return `map to ${typeOf(additionalProperties)}`;
  return format === 'date-time' ? 'time' : type;
}

function defaultOf(field: Schema, isRequired: boolean): string {
  if (isRequired) return '**required**';
  return field.default === undefined ? '' : `\`${JSON.stringify(field.default)}\``;
}

function validationOf(field: Schema): string {
  const ofItems = field.items && !hasFields(field.items) ? validationOf(field.items) : '';
  const ofValues = field.additionalProperties ? validationOf(field.additionalProperties) : '';
  const rules = hasFields(field) ? [] : rulesOf(field); // else they stand above the object's own table
  return [
    field.enum?.map((value) => `\`${value}\``).join(', '),
    rangeOf([field.minimum, field.maximum], ''),
    rangeOf([field.minLength, field.maxLength], 'characters'),
    rangeOf([field.minItems, field.maxItems], 'items'),
    rangeOf([undefined, field.maxProperties], 'keys'),
    field['x-kubernetes-list-map-keys'] && `each ${field['x-kubernetes-list-map-keys'].join(', ')} once`,
    ...rules,
    ofItems && `each: ${ofItems}`,
    ofValues && `values: ${ofValues}`,
  ]
    .filter(Boolean)
    .join('; ');
}

function rulesOf(schema: Schema): string[] {
  return schema['x-kubernetes-validations']?.map(({ message }) => `*${message.replaceAll('*', '\\*')}*`) ?? [];
}

function rangeOf([least, most]: readonly [number | undefined, number | undefined], unit: string): string {
  if (least === undefined && most === undefined) return '';
  const range =
    most === undefined ? `at least ${least}` : least === undefined ? `up to ${most}` : `${least} to ${most}`;
  return `${range} ${unit}`.trimEnd();
}

function metricRows(): string[] {
  const rows = new Metrics().registry.getMetricsAsArray() as unknown as readonly {
    name: string;
    help: string;
    labelNames: readonly string[];
    constructor: { name: string };
  }[];
  return rows
    .map(({ name, help, labelNames, constructor }) =>
      [`\`${name}\``, constructor.name.toLowerCase(), labelNames.map((label) => `\`${label}\``).join(', '), help].join(
        ' | ',
      ),
    )
    .map((cells) => `| ${cells} |`);
}
