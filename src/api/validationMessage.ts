import type { z } from 'zod';

export interface FieldError {
  readonly field: string; // as the API server writes it: spec.registries[0].host
  readonly message: string;
}

type Issue = z.core.$ZodIssue;

/**
 * What zod found, in the API server's words: a user meets one text, whoever refuses. Rules are told only where the
 * shape is right, as the API server does.
 */
export function describeIssues(root: string, issues: readonly Issue[]): FieldError[] {
  const ofShape = issues.filter((issue) => issue.code !== 'custom');
  return (ofShape.length > 0 ? ofShape : issues).map((issue) => ({
    field: fieldOf(root, issue),
    message: messageOf(issue),
  }));
}

// The API server writes keys of maps with a dot where the shape is wrong, in brackets where a rule is broken.
function fieldOf(root: string, { path, code }: Issue): string {
  return path.reduce<string>((field, part) => {
    const isKey = code === 'custom' && field.endsWith('.matchLabels');
    return typeof part === 'number' || isKey ? `${field}[${String(part)}]` : `${field}.${String(part)}`;
  }, root);
}

const TYPE_NAMES = new Map<string, string>([
  ['number', 'integer'], // there are no others
  ['int', 'integer'],
  ['record', 'object'],
]);

function messageOf(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined
        ? 'Required value'
        : `must be of type ${TYPE_NAMES.get(issue.expected) ?? issue.expected}`;
    case 'invalid_value':
      return `Unsupported value: supported values: ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`;
    case 'too_big':
      return tooBig(issue);
    case 'too_small':
      return tooSmall(issue);
    case 'unrecognized_keys':
      return `unknown field ${issue.keys.join(', ')}: misspelt, or of a newer version of the operator; until it is understood nothing is changed`;
    default:
      return issue.message;
  }
}

function tooBig({ origin, maximum }: z.core.$ZodIssueTooBig): string {
  if (origin === 'string') return `Too long: may not be more than ${maximum} bytes`;
  if (origin === 'array') return `must have at most ${maximum} items`;
  return `should be less than or equal to ${maximum}`;
}

function tooSmall({ origin, minimum }: z.core.$ZodIssueTooSmall): string {
  if (origin === 'string') return `should be at least ${minimum} chars long`;
  if (origin === 'array') return `should have at least ${minimum} items`;
  return `should be greater than or equal to ${minimum}`;
}
