// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const example = "../../deploy/config.yaml"

// commented matches a line of the example that can be uncommented.
var commented = regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z0-9_]+:(?: .*)?)$`)

func TestDistributionTakesTheExampleUncommented(t *testing.T) {
	content, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	whole := commented.ReplaceAllString(string(content), "$1$2")
	for _, key := range []string{"\n  otlp_grpc:\n", "\n  otlp_http:\n", "\n  prometheus:\n", "\n    root_path: /host\n"} {
		if !strings.Contains(whole, key) {
			t.Errorf("the example has no %q to uncomment", key)
		}
	}
	whole = strings.ReplaceAll(whole, "exporters: [nop]", "exporters: [debug, otlp_grpc, otlp_http]")
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(binary, "validate", "--config", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// TestDistributionTakesTheServicesConfiguration also requires that the service has no view, because
// every local user could read it.
func TestDistributionTakesTheServicesConfiguration(t *testing.T) {
	const path = "../../deploy/service.yaml"
	for _, configs := range [][]string{{"--config", path}, {"--config", path, "--config", "../../deploy/counts.yaml"}} {
		if output, err := exec.Command(binary, append([]string{"validate"}, configs...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", configs, err, output)
		}
	}
	for _, path := range []string{path, "../../deploy/daemonset.yaml"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^ *view:`).Match(content) {
			t.Errorf("%s has a view", path)
		}
	}
}

// TestDistributionPrintsTheExample checks what make run promises: a table that a
// person can read, at most ten seconds after traffic.
func TestDistributionPrintsTheExample(t *testing.T) {
	c := &Collector{t: t, directory: t.TempDir()}
	port := freePort(t)
	overlay := fmt.Sprintf("{extensions: {health_check: {endpoint: 127.0.0.1:%d}}, service: {telemetry: {metrics: {level: none}}}, "+
		"receivers: {nettap: {view: {endpoint: 127.0.0.1:%d}}}}", freePort(t), port)
	c.launch(binary, "--config", example, "--config", "yaml:"+overlay)
	c.awaitReady()

	await := func(line string) {
		c.Wait("it prints "+line, func() bool { return regexp.MustCompile(line).MatchString(c.Log()) })
	}
	await(`(?m)^nettap runs: traffic, drops, accepts, calls\.$`) // a table shows what came since this was printed
	begin := time.Now()
	address := listen(t)
	pid := talker(t, address)
	for _, line := range []string{
		fmt.Sprintf(`(?m)^Look at http://127\.0\.0\.1:%d in a browser, or with curl '127\.0\.0\.1:%[1]d/nettop\?follow'\.$`, port),
		`(?m)^Not seen here: .`,
		`(?m)^  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND`,
		fmt.Sprintf(`(?m)^%5d     0 lo  +\d+ +\d+ +\d+ +\d+ bash`, pid),
		`(?m)^dropped: \d+ lost, \d+ benign, \d+ unknown, at \d+ places; accepted: [1-9]\d*; calls: \d+ failed, \d+ slow$`,
	} {
		await(line)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v until all was printed, want 10s at most", took)
	}
	c.Stop()
}

// TestExamplesGiveTheCapabilitiesNeeded requires that the examples for systemd and Kubernetes have
// the capabilities with which TestDistributionRunsAsNobody runs.
func TestExamplesGiveTheCapabilitiesNeeded(t *testing.T) {
	var service, pod []string
	for _, name := range capabilities {
		pod = append(pod, strings.ToUpper(name))
		service = append(service, "CAP_"+strings.ToUpper(name))
	}
	unit, err := os.ReadFile("../../deploy/otelcol-nettap.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if line := "\n" + key + "=" + strings.Join(service, " ") + "\n"; !strings.Contains(string(unit), line) {
			t.Errorf("the unit of systemd has no line %q", line)
		}
	}
	manifest, err := os.ReadFile("../../deploy/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type container struct {
		SecurityContext struct {
			Capabilities struct{ Drop, Add []string }
		} `yaml:"securityContext"`
	}
	var daemonSet struct {
		Spec struct {
			Template struct {
				Spec struct {
					HostPID    bool `yaml:"hostPID"`
					Containers []container
				}
			}
		}
	}
	if err := yaml.Unmarshal(manifest, &daemonSet); err != nil {
		t.Fatal(err)
	}
	var want container
	want.SecurityContext.Capabilities.Drop, want.SecurityContext.Capabilities.Add = []string{"ALL"}, pod
	got := daemonSet.Spec.Template.Spec
	if diff := cmp.Diff([]container{want}, got.Containers); diff != "" || !got.HostPID {
		t.Errorf("the DaemonSet differs, hostPID is %v (-want +got):\n%s", got.HostPID, diff)
	}
}
