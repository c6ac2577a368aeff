import { controlPlaneBinaries } from './binaries.ts';

/** The first run on a machine builds Kubernetes: no test's time-out should pay for it. */
export async function setup(): Promise<void> {
  await controlPlaneBinaries();
}
