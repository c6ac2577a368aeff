{{- /*
The names of the objects are fixed: there is one operator per cluster, and its ServiceAccount, Lease, policy and
Deployment are known by name to the operator itself, to `cleanup` and to the docs.
*/ -}}

{{- define "ecr-pull-secrets.selector" -}}
app.kubernetes.io/name: ecr-pull-secrets
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "ecr-pull-secrets.labels" -}}
app.kubernetes.io/name: ecr-pull-secrets
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .component | default "operator" }}
app.kubernetes.io/part-of: ecr-pull-secrets
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ecr-pull-secrets.image" -}}
{{- with .Values.image -}}
{{ .repository }}
{{- if .digest -}}
{{ with .tag }}:{{ . }}{{ end }}@{{ .digest }}
{{- else -}}
:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* As JSON, in order: the pull secret's name of now, then those of before. */ -}}
{{- define "ecr-pull-secrets.pullSecretNames" -}}
{{- concat (list .Values.secretName) .Values.formerSecretNames | toJson -}}
{{- end -}}

{{- /* What the operator would refuse at its start is refused here, with the same reason. */ -}}
{{- define "ecr-pull-secrets.check" -}}
{{- if has .Values.secretName .Values.formerSecretNames -}}
{{- fail (printf "formerSecretNames: %s is the secretName of now" .Values.secretName) -}}
{{- end -}}
{{- range concat (list .Values.secretName) .Values.formerSecretNames -}}
{{- if has . $.Values.credentialSecretNames -}}
{{- fail (printf "credentialSecretNames: %s is a pull secret" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Flags that the operator and `cleanup` share. */ -}}
{{- define "ecr-pull-secrets.commonFlags" -}}
- --secret-name={{ .Values.secretName }}
- --former-secret-names={{ join "," .Values.formerSecretNames }}
- --service-accounts={{ .Values.serviceAccounts.enabled }}
- --log-level={{ .Values.logLevel }}
{{- end -}}

{{- /* The Pod Security Standard "restricted". No runAsUser: the image has one, and a site may give its own. */ -}}
{{- define "ecr-pull-secrets.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ecr-pull-secrets.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Where pods may run, for the operator and for `cleanup`. */ -}}
{{- define "ecr-pull-secrets.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
