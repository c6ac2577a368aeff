import { ConfigurationError } from '../errors.ts';
import { remedyOf } from './refusalRemedy.ts';
import type { ResourcePath } from './resourcePath.ts';

export interface StatusCause {
  reason?: string;
  message?: string;
  field?: string;
}

/** What was asked. */
export interface Asked extends ResourcePath {
  verb: string;
}

/**
 * The API server's Status that says no, where asking again changes nothing. `code` is its reason. Of Secrets no text of
 * the server is kept but what is known to quote no data.
 */
export class ApiStatusError extends ConfigurationError {
  readonly status: number; // HTTP
  readonly reason: string;
  readonly causes: readonly StatusCause[];
  readonly verb: string;
  readonly resource: string | null;
  readonly namespace: string | undefined;
  readonly objectName: string | undefined; // Error has a `name` of its own

  constructor(
    asked: Asked,
    answer: { status: number; reason: string; message: string; causes: readonly StatusCause[] },
  ) {
    super(
      answer.reason,
      `${describe(asked)}: ${answer.status} ${answer.reason}${answer.message && `: ${answer.message}`}${remedyOf(answer.status, answer.message)}`,
    );
    this.status = answer.status;
    this.reason = answer.reason;
    this.causes = answer.causes;
    this.verb = asked.verb;
    this.resource = asked.resource;
    this.namespace = asked.namespace;
    this.objectName = asked.name;
  }
}

/** `cannot get secrets team/pull`. */
export function describe({ verb, resource, namespace, name }: Asked): string {
  const object = [namespace, name].filter((part) => part !== undefined).join('/');
  return `cannot ${verb} ${resource ?? 'from the API server'}${object && ` ${object}`}`;
}
