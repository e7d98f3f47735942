// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// collector and victoriaMetrics are the paths of the programs that make test-dashboards has built.
var collector, victoriaMetrics = os.Getenv("NETTAP_COLLECTOR"), os.Getenv("NETTAP_VICTORIAMETRICS")

// client fails where a server does not answer.
var client = http.Client{Timeout: time.Minute}

// backend is a VictoriaMetrics that scrapes a Collector's own metrics.
type backend struct {
	t       *testing.T
	address string
}

func startBackend(t *testing.T, scraped int) backend {
	t.Helper()
	if victoriaMetrics == "" {
		t.Skip("make test-dashboards says where VictoriaMetrics is")
	}
	scrape := filepath.Join(t.TempDir(), "scrape.yaml")
	config := fmt.Sprintf("scrape_configs: [{job_name: nettap, scrape_interval: 1s, static_configs: [{targets: ['127.0.0.1:%d']}]}]", scraped)
	if err := os.WriteFile(scrape, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	b := backend{t: t, address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	start(t, victoriaMetrics, "-storageDataPath="+t.TempDir(), "-httpListenAddr="+b.address, "-opentelemetry.usePrometheusNaming",
		"-promscrape.config="+scrape, "-search.latencyOffset=0s", "-memory.allowedBytes=256MiB", "-loggerLevel=WARN")
	await(t, "VictoriaMetrics answers", func() bool { return answers(b.address + "/health") })
	return b
}

// answers says whether the URL, without its scheme, has a page.
func answers(url string) bool {
	response, err := client.Get("http://" + url) //nolint:noctx // the client has a timeout
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// start starts a program, which is asked to end when the test ends, and is killed if the test is.
func start(t *testing.T, program string, arguments ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = log, log
	// The kernel does it when the thread ends that has started the program. Only threads to which a goroutine is locked end before the test.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
		err := command.Wait()
		kill.Stop()
		if written, _ := os.ReadFile(log.Name()); err != nil || t.Failed() {
			t.Logf("%s ends with %v:\n%s", filepath.Base(program), err, written)
		}
		log.Close()
	})
}

// await waits until the condition holds, and fails the test if that takes too long.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not become true that %s", what)
		}
	}
}

// flush makes all samples that were received visible to queries.
func (b backend) flush() { b.get("/internal/force_flush", nil) }

func (b backend) get(path string, query url.Values) []byte {
	b.t.Helper()
	response, err := client.Get("http://" + b.address + path + "?" + query.Encode()) //nolint:noctx // the client has a timeout
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusBadRequest {
		b.t.Fatalf("%s %s: %s, %v: %s", path, query, response.Status, err, content)
	}
	return content
}

// query returns the labels of the series that are the result of the expression at a time.
func (b backend) query(expression string, at time.Time) []map[string]string {
	b.t.Helper()
	content := b.get("/api/v1/query", url.Values{
		"query": {expression}, "time": {strconv.FormatInt(at.Unix(), 10)}, "nocache": {"1"},
	})
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		b.t.Fatalf("%v: %s", err, content)
	}
	var found []map[string]string
	for _, series := range answer.Data.Result {
		found = append(found, series.Metric)
	}
	return found
}

// put adds samples, in the text format of Prometheus.
func (b backend) put(samples string) {
	b.t.Helper()
	response, err := client.Post("http://"+b.address+"/api/v1/import/prometheus", "text/plain", strings.NewReader(samples)) //nolint:noctx // the client has a timeout
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		b.t.Fatalf("import: %s", response.Status)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
