import type { z } from 'zod';

/**
 * One demand on a value, said twice: `cel` for the API server, `holds` for `parseSpec`, of `self`. A zod refinement
 * leaves no trace in the CRD, so there is none but through here; test/api/badSamples.ts holds both to the same answers.
 */
export interface Rule<T> {
  readonly cel: string;
  readonly holds: (self: T) => boolean;
  readonly message: string;
  /** The field below `self` that is to blame. */
  readonly field?: string;
}

/** The schema with the rules as refinements, and as `x-kubernetes-validations` in its metadata. */
export function withRules<S extends z.ZodType>(schema: S, rules: readonly Rule<z.output<S>>[]): S {
  const refined = rules.reduce<S>(
    (refined, { holds, message, field }) =>
      refined.refine(holds, { error: message, ...(field !== undefined && { path: [field] }) }),
    schema,
  );
  const validations = rules.map(({ cel, message, field }) => ({
    rule: cel,
    message,
    ...(field !== undefined && { fieldPath: `.${field}` }),
  }));
  return refined.meta({ 'x-kubernetes-validations': validations });
}

/** The text matches `pattern`, written in the part of the syntax that JavaScript and RE2, the API server's, read alike. */
export function matching(pattern: string): Pick<Rule<string>, 'cel' | 'holds'> {
  const expression = new RegExp(pattern);
  return { cel: `self.matches(r'${pattern}')`, holds: (self) => expression.test(self) };
}

export function notMatching(pattern: string): Pick<Rule<string>, 'cel' | 'holds'> {
  const expression = new RegExp(pattern);
  return { cel: `!self.matches(r'${pattern}')`, holds: (self) => !expression.test(self) };
}
