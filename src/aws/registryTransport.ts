import { EnvHttpProxyAgent, type Dispatcher } from 'undici';

/** How registries are reached: as nodes would, by HTTPS_PROXY and NO_PROXY of `env`, with short time limits. */
export function createRegistryDispatcher(env: NodeJS.ProcessEnv): Dispatcher {
  return new EnvHttpProxyAgent({
    // '' where there is none: else undici reads its process's environment.
    httpProxy: env['http_proxy'] || env['HTTP_PROXY'] || '',
    httpsProxy: env['https_proxy'] || env['HTTPS_PROXY'] || '',
    noProxy: env['no_proxy'] || env['NO_PROXY'] || '',
    connect: { timeout: 5_000 }, // ms, as all of these
    headersTimeout: 10_000,
    bodyTimeout: 10_000,
    keepAliveTimeout: 1_000, // a registry is asked twice a day
  });
}
