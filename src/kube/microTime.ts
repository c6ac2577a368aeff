/** The form of Kubernetes' MicroTime: `2026-01-01T00:00:00.123000Z`. Milliseconds alone are refused. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
