// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	goyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write deploy/daemonset.yaml")

const (
	directory = "../../deploy/helm/otelcol-nettap"
	manifest  = "../../deploy/daemonset.yaml"
)

// cases are values with which the chart can be installed.
var cases = map[string]map[string]any{
	"the defaults": {},
	"no permissions in the cluster": {
		"kubernetesAttributes": false,
	},
	"counts of log records": {
		"counts": true,
	},
	"all that can be set": {
		"otlp":              map[string]any{"endpoint": "backend.example:443", "insecure": true, "tokenSecret": "backend"},
		"nettap":            map[string]any{"max_cpu": "2%", "traffic": map[string]any{"namespaces": "all"}},
		"counts":            true,
		"config":            map[string]any{"exporters": map[string]any{"debug": map[string]any{"verbosity": "basic"}}},
		"image":             map[string]any{"repository": "registry.example/nettap", "tag": "edge", "pullPolicy": "Always"},
		"imagePullSecrets":  []any{map[string]any{"name": "registry"}},
		"queue":             map[string]any{"hostPath": "/srv/queue", "bytes": 1 << 30},
		"affinity":          map[string]any{"nodeAffinity": map[string]any{}},
		"priorityClassName": "system-node-critical",
		"podAnnotations":    map[string]any{"example.com/team": "network"},
		"podLabels":         map[string]any{"team": "network"},
		"extraEnv":          []any{map[string]any{"name": "SSL_CERT_FILE", "value": "/certificates/ca.crt"}},
		"extraVolumes":      []any{map[string]any{"name": "certificates", "secret": map[string]any{"secretName": "authority"}}},
		"extraVolumeMounts": []any{map[string]any{"name": "certificates", "mountPath": "/certificates", "readOnly": true}},
	},
}

// render returns the rendered templates of the chart, by their names.
func render(t *testing.T, values map[string]any) map[string]string {
	t.Helper()
	loaded, err := loader.Load(directory)
	if err != nil {
		t.Fatal(err)
	}
	options := common.ReleaseOptions{Name: "otelcol-nettap", Namespace: "nettap", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(loaded, values, options, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := engine.Engine{Strict: true}.RenderWithContext(t.Context(), loaded, all)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// objects are the objects that the chart makes in a cluster.
type objects struct {
	daemonSet appsv1.DaemonSet
	configMap corev1.ConfigMap
	kinds     []string
}

// decode reads the objects like the Kubernetes API server with strict validation: an unknown field is an
// error.
func decode(t *testing.T, rendered map[string]string) objects {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var decoded objects
	maps.DeleteFunc(rendered, func(name, _ string) bool { return strings.HasSuffix(name, "/NOTES.txt") })
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		for _, document := range documents(t, rendered[name]) {
			object, kind, err := strict.Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			decoded.kinds = append(decoded.kinds, kind.Kind)
			switch object := object.(type) {
			case *appsv1.DaemonSet:
				decoded.daemonSet = *object
			case *corev1.ConfigMap:
				decoded.configMap = *object
			}
		}
	}
	return decoded
}

func documents(t *testing.T, content string) [][]byte {
	t.Helper()
	var all [][]byte
	for reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(content))); ; {
		document := make([]byte, len(content)+1)
		length, err := reader.Read(document)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if document = bytes.TrimSpace(document[:length]); len(document) > 0 {
			all = append(all, document)
		}
	}
}

func TestChartIsLinted(t *testing.T) {
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			for _, message := range lint.RunAll(directory, values, "nettap").Messages {
				if message.Severity > support.InfoSev {
					t.Error(message)
				}
			}
		})
	}
}

func TestChartIsWhatTheAPIKnows(t *testing.T) {
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			want := []string{"ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "ServiceAccount"}
			if values["kubernetesAttributes"] == false {
				want = want[2:]
			}
			if diff := cmp.Diff(want, decode(t, render(t, values)).kinds); diff != "" {
				t.Errorf("there are other objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPodHasWhatItNeeds requires that the pod has the privileges in docs/privileges.md, and no others.
func TestPodHasWhatItNeeds(t *testing.T) {
	pod := decode(t, render(t, nil)).daemonSet.Spec.Template.Spec
	if !pod.HostPID || pod.HostNetwork || pod.HostIPC {
		t.Errorf("hostPID is %v, hostNetwork %v, hostIPC %v, want the first only", pod.HostPID, pod.HostNetwork, pod.HostIPC)
	}
	container := pod.Containers[0]
	no, yes, root := false, true, int64(0)
	want := &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsUser: &root,
		Capabilities: &corev1.Capabilities{
			Drop: []corev1.Capability{"ALL"},
			Add:  []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE", "SYSLOG"},
		},
		AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
	}
	if diff := cmp.Diff(want, container.SecurityContext); diff != "" {
		t.Errorf("the container may do something else (-want +got):\n%s", diff)
	}
	// Without recursiveReadOnly the container could write to what is mounted below these directories.
	recursive := corev1.RecursiveReadOnlyIfPossible
	mounts := []corev1.VolumeMount{
		{Name: "config", MountPath: "/etc/otelcol-nettap", ReadOnly: true},
		{Name: "sys", MountPath: "/host/sys", ReadOnly: true, RecursiveReadOnly: &recursive},
		{Name: "etc", MountPath: "/host/etc", ReadOnly: true, RecursiveReadOnly: &recursive},
		{Name: "queue", MountPath: "/var/lib/otelcol-nettap"},
	}
	if diff := cmp.Diff(mounts, container.VolumeMounts); diff != "" {
		t.Errorf("the container has other directories (-want +got):\n%s", diff)
	}
	paths := map[string]string{}
	for _, volume := range pod.Volumes {
		if volume.HostPath != nil {
			paths[volume.Name] = volume.HostPath.Path
		}
	}
	if diff := cmp.Diff(map[string]string{"sys": "/sys", "etc": "/etc", "queue": "/var/lib/otelcol-nettap"}, paths); diff != "" {
		t.Errorf("it has other directories of the host (-want +got):\n%s", diff)
	}
	if container.Resources.Limits.Memory().IsZero() {
		t.Error("there is no limit of memory that memory_limiter could keep below")
	}
	for name, probe := range map[string]*corev1.Probe{
		"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe,
	} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "health" || probe.HTTPGet.Host != "" {
			t.Errorf("the %s probe is %v, want port health of the pod", name, probe)
		}
	}
}

// TestPodHasWhatIsAdded requires that the container has the variables and directories that its user adds.
func TestPodHasWhatIsAdded(t *testing.T) {
	pod := decode(t, render(t, cases["all that can be set"])).daemonSet.Spec.Template.Spec
	container := pod.Containers[0]
	if !slices.Contains(container.Env, corev1.EnvVar{Name: "SSL_CERT_FILE", Value: "/certificates/ca.crt"}) {
		t.Errorf("the variables are %v", container.Env)
	}
	mounts := container.VolumeMounts
	if diff := cmp.Diff(corev1.VolumeMount{Name: "certificates", MountPath: "/certificates", ReadOnly: true}, mounts[len(mounts)-1]); diff != "" {
		t.Errorf("the last directory differs (-want +got):\n%s", diff)
	}
	if last := pod.Volumes[len(pod.Volumes)-1]; last.Secret == nil || last.Secret.SecretName != "authority" {
		t.Errorf("the last volume is %v", last)
	}
}

// TestGoKeepsBelowTheLimit requires that Go's own limit is 80 % of the container's, as the Collector recommends, whatever unit that
// has, and that there is none if the container has none.
func TestGoKeepsBelowTheLimit(t *testing.T) {
	for _, limit := range []any{"512Mi", "1.5Gi", "2G", "800000k", "1Ti", "536870912", 536870912, 536870912.0, nil} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			limits := map[string]any{"memory": limit}
			container := decode(t, render(t, map[string]any{"resources": map[string]any{"limits": limits}})).daemonSet.Spec.Template.Spec.Containers[0]
			var want string
			if limit != nil {
				want = fmt.Sprint(container.Resources.Limits.Memory().Value() * 8 / 10)
			}
			var got string
			for _, variable := range container.Env {
				if variable.Name == "GOMEMLIMIT" {
					got = variable.Value
				}
			}
			if got != want {
				t.Errorf("GOMEMLIMIT is %q, want %q", got, want)
			}
		})
	}
}

// TestGoHasTheLimitThatIsGiven requires that a variable that the user adds is there once.
func TestGoHasTheLimitThatIsGiven(t *testing.T) {
	values := map[string]any{"extraEnv": []any{map[string]any{"name": "GOMEMLIMIT", "value": "300MiB"}}}
	var got []corev1.EnvVar
	for _, variable := range decode(t, render(t, values)).daemonSet.Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "GOMEMLIMIT" {
			got = append(got, variable)
		}
	}
	if diff := cmp.Diff([]corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "300MiB"}}, got); diff != "" {
		t.Errorf("Go's limit differs (-want +got):\n%s", diff)
	}
}

// configuration has the parts of the Collector's configuration that must match the pod.
type configuration struct {
	Receivers  map[string]map[string]any
	Connectors map[string]any
	Processors map[string]any
	Exporters  map[string]any
	Extensions map[string]map[string]any
	Service    struct {
		Extensions []string
		Pipelines  map[string]pipeline
	}
}

type pipeline struct{ Receivers, Processors, Exporters []string }

func configurationOf(t *testing.T, values map[string]any) (parsed configuration, text string) {
	t.Helper()
	text = decode(t, render(t, values)).configMap.Data["config.yaml"]
	if err := goyaml.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return parsed, text
}

func TestConfigurationFitsToThePod(t *testing.T) {
	got, _ := configurationOf(t, cases["all that can be set"])
	wantNettap := map[string]any{
		"root_path": "/host", "max_cpu": "2%", "traffic": map[string]any{"namespaces": "all"},
		"trace_context": map[string]any{"obi": map[string]any{"map": "/host/sys/fs/bpf/otel/traces_ctx_v1"}},
	}
	if diff := cmp.Diff(wantNettap, got.Receivers["nettap"]); diff != "" {
		t.Errorf("the receiver differs (-want +got):\n%s", diff)
	}
	// The kubelet connects to the address of the pod, not to localhost.
	if diff := cmp.Diff(map[string]any{"endpoint": ":13133"}, got.Extensions["health_check"]); diff != "" {
		t.Errorf("health_check differs (-want +got):\n%s", diff)
	}
	limiter := map[string]any{"check_interval": "1s", "limit_percentage": 80.0, "spike_limit_percentage": 15.0}
	if diff := cmp.Diff(any(limiter), got.Processors["memory_limiter"]); diff != "" {
		t.Errorf("memory_limiter differs (-want +got):\n%s", diff)
	}
	association := got.Processors["k8s_attributes"].(map[string]any)["pod_association"]
	want := []any{}
	for _, name := range []string{"k8s.pod.uid", "container.id"} {
		want = append(want, map[string]any{"sources": []any{map[string]any{"from": "resource_attribute", "name": name}}})
	}
	if diff := cmp.Diff(any(want), association); diff != "" {
		t.Errorf("pods are found by something else (-want +got):\n%s", diff)
	}
	for _, signal := range []string{"metrics", "logs", "traces"} {
		want := pipeline{[]string{"nettap"}, []string{"memory_limiter", "k8s_attributes", "resource"}, []string{"otlp_grpc"}}
		if signal == "logs" {
			want.Exporters = append(want.Exporters, "signal_to_metrics/accepts")
		}
		if diff := cmp.Diff(want, got.Service.Pipelines[signal]); diff != "" {
			t.Errorf("the pipeline of %s differs (-want +got):\n%s", signal, diff)
		}
	}
}

// TestLogRecordsAreCountedOnRequest requires that the chart adds to its configuration what
// deploy/counts.yaml adds to that of a service, and only if it is wanted.
func TestLogRecordsAreCountedOnRequest(t *testing.T) {
	text, err := os.ReadFile("../../deploy/counts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var counts configuration
	if err := goyaml.Unmarshal(text, &counts); err != nil {
		t.Fatal(err)
	}
	want, _ := configurationOf(t, nil)
	if want.Connectors != nil || len(want.Service.Pipelines) != 3 {
		t.Errorf("by default there are connectors %v and pipelines %v", want.Connectors, want.Service.Pipelines)
	}
	want.Connectors = counts.Connectors
	maps.Copy(want.Processors, counts.Processors)
	logs := want.Service.Pipelines["logs"]
	logs.Exporters = counts.Service.Pipelines["logs"].Exporters
	want.Service.Pipelines["logs"] = logs
	want.Service.Pipelines["metrics/accepts"] = counts.Service.Pipelines["metrics/accepts"]
	got, _ := configurationOf(t, cases["counts of log records"])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the configuration differs (-want +got):\n%s", diff)
	}
}

// TestDistributionTakesTheConfiguration lets the distribution, which make test-chart has built, validate
// the configuration.
func TestDistributionTakesTheConfiguration(t *testing.T) {
	collector := os.Getenv("NETTAP_COLLECTOR")
	if collector == "" {
		t.Skip("make test-chart says where the distribution is")
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			_, text := configurationOf(t, values)
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(collector, "validate", "--config", path)
			command.Env = append(os.Environ(), "K8S_NODE_NAME=node", "OTLP_TOKEN=token", "KUBERNETES_SERVICE_HOST=127.0.0.1")
			if output, err := command.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s\n%s", err, output, text)
			}
		})
	}
}

// TestChartRefusesWhatItDoesNotKnow requires that a value with a wrong name or type is an error, and not left out.
func TestChartRefusesWhatItDoesNotKnow(t *testing.T) {
	loaded, err := loader.Load(directory)
	if err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{
		"otlp.endpont=gateway.example:4317": "endpont",
		"nettapp.max_cpu=1%":                "nettapp",
		"otlp.insecure=no":                  "/otlp/insecure",
		"queue.bytes=100Mi":                 "/queue/bytes",
		"image.pullPolicy=Sometimes":        "/image/pullPolicy",
		"extraEnv[0].value=nameless":        "/extraEnv/0",
	} {
		t.Run(set, func(t *testing.T) {
			values, err := strvals.Parse(set)
			if err != nil {
				t.Fatal(err)
			}
			_, err = util.ToRenderValues(loaded, values, common.ReleaseOptions{Name: "otelcol-nettap"}, common.DefaultCapabilities)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want one that names %s", err, want)
			}
		})
	}
}

// TestChartTakesWhatIsDocumented renders the chart with the values that docs/deployment.md sets.
func TestChartTakesWhatIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, set := range regexp.MustCompile(`--set ([a-z]\S+)`).FindAllSubmatch(text, -1) {
		if err := strvals.ParseInto(string(set[1]), values); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]any{
		"image": map[string]any{"repository": "registry.example/otelcol-nettap"},
		"otlp":  map[string]any{"endpoint": "gateway.example:4317"},
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("what is documented differs (-want +got):\n%s", diff)
	}
	decoded := decode(t, render(t, values))
	if notes := render(t, values)["otelcol-nettap/templates/NOTES.txt"]; !strings.Contains(notes, "send to gateway.example:4317, with TLS.") {
		t.Errorf("the notes are\n%s", notes)
	}
	image := decoded.daemonSet.Spec.Template.Spec.Containers[0].Image
	if !strings.HasPrefix(image, "registry.example/otelcol-nettap:") {
		t.Errorf("the image is %s", image)
	}
	for name, config := range decoded.configMap.Data {
		if !strings.Contains(config, "endpoint: gateway.example:4317") {
			t.Errorf("%s does not send to the endpoint:\n%s", name, config)
		}
	}
}

// TestManifestIsTheChartsDefault requires that deploy/daemonset.yaml, which is for users without Helm, is
// what the chart makes by default.
func TestManifestIsTheChartsDefault(t *testing.T) {
	rendered := render(t, nil)
	var written strings.Builder
	written.WriteString(`# Runs the Collector on each node. See docs/deployment.md. This is what the chart in
# deploy/helm makes with its defaults; go test -C internal/chart -update writes it.
#
#   kubectl create namespace nettap
#   kubectl apply --filename daemonset.yaml
`)
	for _, name := range []string{"daemonset", "configmap", "serviceaccount", "clusterrole"} {
		content := rendered["otelcol-nettap/templates/"+name+".yaml"]
		written.WriteString("---\n" + strings.TrimSpace(content) + "\n")
	}
	want := strings.Replace(written.String(), "\n---\n", "\n", 1)
	if *update {
		if err := os.WriteFile(manifest, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("deploy/daemonset.yaml is not what the chart makes (-want +got):\n%s", diff)
	}
}
