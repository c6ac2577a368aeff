import type { RequestInfo } from './faults.ts';

export interface AuditEntry extends RequestInfo {
  readonly code: number; // HTTP; 0 where there was no answer
  readonly at: number; // ms
}

const WRITES: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete', 'deletecollection']);

/** Every request, in the order of the answers; a watch is entered when it begins. */
export class Audit {
  readonly entries: AuditEntry[] = [];

  record(entry: AuditEntry): void {
    this.entries.push(entry);
  }

  /** Successful or not, dry runs and reviews of access apart. */
  writes(filter: Partial<AuditEntry> = {}): AuditEntry[] {
    return this.of(filter).filter(
      ({ verb, dryRun, resource }) => WRITES.has(verb) && !dryRun && resource !== 'selfsubjectaccessreviews',
    );
  }

  /** Writes to Secrets and ServiceAccounts, the fan-out. */
  fanOutWrites(filter: Partial<AuditEntry> = {}): AuditEntry[] {
    return this.writes(filter).filter(({ resource }) => resource === 'secrets' || resource === 'serviceaccounts');
  }

  of(filter: Partial<AuditEntry>): AuditEntry[] {
    const wanted = Object.entries(filter);
    return this.entries.filter((entry) => wanted.every(([name, value]) => entry[name as keyof AuditEntry] === value));
  }

  /** How many entries there are: `since(mark())` is what came after. */
  mark(): number {
    return this.entries.length;
  }

  since(mark: number): Audit {
    const audit = new Audit();
    audit.entries.push(...this.entries.slice(mark));
    return audit;
  }

  clear(): void {
    this.entries.length = 0;
  }
}
