/** What to do about failures of the way to AWS: the same words wherever one is met. */
export const remedies = {
  unreachable: 'look at firewalls, network policies and HTTPS_PROXY',
  notAws: 'is there a proxy or a login page in between (HTTPS_PROXY, NO_PROXY)?',
  empty: 'is it AWS that answers (AWS_ENDPOINT_URL, HTTPS_PROXY)?',
} as const;
