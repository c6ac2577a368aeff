import type { ObjectMeta } from './kubeObject.ts';
import { microTime } from './microTime.ts';

/** coordination.k8s.io/v1; fields of newer servers are kept, as what is read is written back. */
export interface Lease {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  spec: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

export function newLease({ name, namespace }: { name: string; namespace: string }): Lease {
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace }, spec: {} };
}

/** The lease as it is to be written: renewed where we hold it, else taken over; an empty identity gives it back. */
export function withHolder(lease: Lease, o: { identity: string; now: number; leaseSeconds: number }): Lease {
  const { spec } = lease;
  const isRenewal = spec.holderIdentity === o.identity && spec.acquireTime !== undefined;
  const isTakeOver = spec.holderIdentity !== undefined && spec.holderIdentity !== o.identity && o.identity !== '';
  const time = microTime(o.now);
  return {
    ...lease,
    spec: {
      ...spec,
      holderIdentity: o.identity,
      leaseDurationSeconds: Math.max(1, Math.round(o.leaseSeconds)),
      acquireTime: isRenewal ? (spec.acquireTime ?? time) : time,
      renewTime: time,
      leaseTransitions: (spec.leaseTransitions ?? 0) + (isTakeOver ? 1 : 0),
    },
  };
}
