/** As the Dockerfile has them, where the container's limit is the Deployment's: 60 % of 512 MiB for the heap. */
export const imageEnv = {
  MALLOC_ARENA_MAX: '1',
  NODE_OPTIONS: '--max-semi-space-size=4 --max-old-space-size=307',
};
