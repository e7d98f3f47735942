{{- define "configuration" -}}
{{- $processors := list "memory_limiter" }}
{{- if .Values.kubernetesAttributes }}{{ $processors = append $processors "k8s_attributes" }}{{ end }}
{{- $processors = append $processors "resource" -}}
receivers:
  nettap:
    root_path: /host
    trace_context: {obi: {map: /host/sys/fs/bpf/otel/traces_ctx_v1}}
processors:
  memory_limiter:
    check_interval: 1s
    limit_percentage: 80
    spike_limit_percentage: 15
{{- if .Values.kubernetesAttributes }}
  k8s_attributes:
    filter: {node_from_env_var: K8S_NODE_NAME}
    pod_association:
      - sources: [{from: resource_attribute, name: k8s.pod.uid}]
      - sources: [{from: resource_attribute, name: container.id}]
    extract:
      metadata:
        - k8s.namespace.name
        - k8s.pod.name
        - k8s.deployment.name
        - k8s.statefulset.name
        - k8s.daemonset.name
        - k8s.cronjob.name
        - k8s.job.name
        - k8s.container.name
{{- end }}
  resource:
    attributes:
      - {action: upsert, key: k8s.node.name, value: "${env:K8S_NODE_NAME}"}
      - {action: upsert, key: host.name, value: "${env:K8S_NODE_NAME}"}
exporters:
  otlp_grpc:
    endpoint: {{ .Values.otlp.endpoint | quote }}
    tls: {insecure: {{ .Values.otlp.insecure }}}
    compression: {{ .Values.otlp.compression | quote }}
{{- if .Values.otlp.tokenSecret }}
    headers: {authorization: "Bearer ${env:OTLP_TOKEN}"}
{{- end }}
    sending_queue:
      storage: file_storage
      sizer: bytes
      queue_size: {{ int64 .Values.queue.bytes }}
      batch: {sizer: bytes, min_size: 1000000, max_size: 3000000}
    retry_on_failure: {max_elapsed_time: 0}
extensions:
  health_check: {endpoint: ":13133"}
  file_storage: {directory: /var/lib/otelcol-nettap/queue, create_directory: true}
service:
  extensions: [health_check, file_storage]
  telemetry:
    logs: {disable_stacktrace: true}
    metrics:
      readers:
        - pull: {exporter: {prometheus: {host: "", port: 8888}}}
  pipelines:
{{- range list "metrics" "logs" "traces" }}
    {{ . }}:
      receivers: [nettap]
      processors: {{ toJson $processors }}
      exporters: [otlp_grpc]
{{- end }}
{{- end }}

{{- define "merged" -}}
{{- $nettap := dict "receivers" (dict "nettap" .Values.nettap) }}
{{- $counts := ternary (.Files.Get "counts.yaml" | fromYaml) dict .Values.counts }}
{{- mergeOverwrite (include "configuration" . | fromYaml) $nettap $counts .Values.config | toYaml }}
{{- end }}
