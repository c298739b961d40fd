{{/* Labels of an object: (list . "gateway"). */}}
{{- define "isthmus.labels" -}}
{{- $root := index . 0 -}}
{{ include "isthmus.selector" . }}
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* The labels by which a component's pods are found. They never change. */}}
{{- define "isthmus.selector" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "isthmus.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The gateways as this cluster's processes dial them. */}}
{{- define "isthmus.gateways" -}}
{{- $names := list -}}
{{- range $i := until (int .Values.gateway.replicas) -}}
{{- $names = append $names (printf "isthmus-gateway-%d.isthmus-gateway.%s.svc" $i $.Release.Namespace) -}}
{{- end -}}
{{ toJson $names }}
{{- end }}

{{- define "isthmus.ca" -}}
{{ toJson (list (printf "isthmus-ca.%s.svc" .Release.Namespace)) }}
{{- end }}

{{/* What every pod has: (list . "gateway" .Values.gateway). */}}
{{- define "isthmus.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
serviceAccountName: isthmus-{{ index . 1 }}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Pods of one component go to different nodes, and zones, where there are some. */}}
{{- define "isthmus.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "isthmus.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "isthmus.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "isthmus.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes at listen.metrics. */}}
{{- define "isthmus.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* Has pods made anew when their configuration changes. */}}
{{- define "isthmus.checksum" -}}
checksum/config: {{ . | sha256sum }}
{{- end }}

{{/* The token by which a process gets its certificate from the CA. */}}
{{- define "isthmus.token" -}}
- name: token
  projected:
    sources:
      - serviceAccountToken: {audience: isthmus, path: token, expirationSeconds: 3600}
{{- end }}

{{/* The mesh's roots, without the key beside them. */}}
{{- define "isthmus.roots" -}}
- name: roots
  secret:
    secretName: {{ .Values.ca.secret }}
    items: [{key: roots.pem, path: roots.pem}]
{{- end }}

{{/* terminationGracePeriodSeconds for a drain such as 10s: five before it and ten behind. */}}
{{- define "isthmus.grace" -}}
{{ add 15 (trimSuffix "s" . | int) }}
{{- end }}
