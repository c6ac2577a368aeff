/** A kubeconfig for one user of the embedded API server, as YAML. */
export function kubeconfig(o: { server: string; token: string; caPem?: string; namespace?: string }): string {
  const ca =
    o.caPem === undefined ? '' : `\n      certificate-authority-data: ${Buffer.from(o.caPem).toString('base64')}`;
  const namespace = o.namespace === undefined ? '' : `\n      namespace: ${o.namespace}`;
  return `apiVersion: v1
kind: Config
clusters:
  - name: sandbox
    cluster:
      server: ${o.server}${ca}
users:
  - name: user
    user:
      token: ${o.token}
contexts:
  - name: sandbox
    context:
      cluster: sandbox
      user: user${namespace}
current-context: sandbox
`;
}
