{{- /* Rules that the operator and `cleanup` share. docs/security.md says what each is for. */ -}}

{{- /* POST carries no name, so `create` by name lets in server-side apply alone. */ -}}
{{- define "ecr-pull-secrets.fanOutRules" -}}
- apiGroups: ['']
  resources: [secrets]
  resourceNames: {{ include "ecr-pull-secrets.pullSecretNames" . }}
  verbs: {{ .secretVerbs }}
- apiGroups: ['']
  resources: [namespaces]
  verbs: [list, watch]
{{- if .Values.serviceAccounts.enabled }}
- apiGroups: ['']
  resources: [serviceaccounts]
  verbs: [get, list, watch, patch]
{{- end }}
{{- end -}}

{{- /* A Lease is created without a name in the path, which resourceNames cannot match. */ -}}
{{- define "ecr-pull-secrets.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [ecr-pull-secrets]
  verbs: [get, update]
{{- end -}}
