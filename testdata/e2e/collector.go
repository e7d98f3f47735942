// SPDX-License-Identifier: Apache-2.0

// Package e2e tests build/otelcol-nettap the way an operator uses it: with a configuration, real
// traffic and signals. It looks only at the output.
package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/child"
)

// binary is the path of the distribution. Tests run in the directory of this package.
const binary = "../../build/otelcol-nettap"

// inherited is the same file as a descriptor that the process has inherited: a process that runs
// as nobody may not have access to the directories above the repository.
const inherited = "/proc/self/fd/3"

// patience is how long [Collector.Wait] waits for a condition before the test fails.
const patience = 3 * time.Minute

// A server that does not answer fails the test that asks it, and does not hold up all others.
func init() { http.DefaultClient.Timeout = patience }

// Collector is a running otelcol-nettap. It ends with the test, even if that is killed.
type Collector struct {
	t         testing.TB
	options   Options
	directory string // of the configuration and the output
	command   *exec.Cmd
	exited    chan struct{}

	// The Collector logs that it is ready before it handles signals, which would kill it until
	// then, and nothing tells when it does.
	takesSignals time.Time

	ownPort        int // of the Collector's own metrics
	prometheusPort int // of the prometheus exporter
	otlpPort       int // of the otlp receiver

	series series
}

// Options are how a Collector is run.
type Options struct {
	// Receivers is the YAML block below "receivers:".
	Receivers string

	// Traces adds a pipeline of traces with the receiver "nettap".
	Traces bool

	// Applications adds a receiver of spans and points for applications, at [Collector.Endpoint].
	Applications bool

	// Overlay is YAML that is merged over the whole configuration. It may be empty.
	Overlay string

	// Wrap is the command that runs the Collector, such as "unshare", "--cgroup".
	Wrap []string

	// Capabilities are the only capabilities of the Collector, such as "bpf". With them it runs as
	// nobody; if they are nil it runs as root.
	Capabilities []string
}

// nobody is the id of a user without privileges.
const nobody = 65534

// Start starts a Collector with one or more receivers of type nettap, given as
// the YAML block below "receivers:", each in a metrics and a logs pipeline:
//
//	c := Start(t, `
//	  nettap:
//	    traffic: {collection_interval: 200ms, initial_delay: 0s}
//	`)
//
// It returns when the Collector is ready.
func Start(t testing.TB, receivers string) *Collector {
	t.Helper()
	return StartWith(t, Options{Receivers: receivers})
}

// StartWith is [Start] with options.
func StartWith(t testing.TB, options Options) *Collector {
	t.Helper()
	c := prepare(t, options)
	c.launch(c.words()...)
	c.awaitReady()
	return c
}

// Refuse runs a Collector that is expected to end by itself with an error, and
// returns its log.
func Refuse(t testing.TB, options Options) string {
	t.Helper()
	c := prepare(t, options)
	c.launch(c.words()...)
	select {
	case <-c.exited:
	case <-time.After(patience):
		t.Fatal("the Collector runs, and should have refused to start")
	}
	if c.command.ProcessState.Success() {
		t.Fatal("the Collector ended without an error")
	}
	return c.Log()
}

// prepare writes the configuration. Apart from the receivers it is that of frame.
func prepare(t testing.TB, options Options) *Collector {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no distribution to test, please run make build: %v", err)
	}
	c := &Collector{t: t, options: options, directory: t.TempDir(), ownPort: freePort(t), prometheusPort: freePort(t), otlpPort: freePort(t)}
	config := configuration(t, options.Receivers, c.directory, c.ownPort, c.prometheusPort)
	for name, content := range map[string]string{
		"config.yaml": config, "traces.yaml": fmt.Sprintf(traces, c.directory), "overlay.yaml": indent(options.Overlay, ""),
		"applications.yaml": fmt.Sprintf(applications, c.directory, c.otlpPort),
	} {
		if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if options.Capabilities == nil {
			continue
		}
		for _, path := range []string{filepath.Dir(c.directory), c.directory, c.path(name)} {
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func (c *Collector) path(name string) string { return filepath.Join(c.directory, name) }

// words returns the command that runs the Collector.
func (c *Collector) words() []string {
	words, executable := append([]string{}, c.options.Wrap...), binary
	if c.options.Capabilities != nil {
		executable = inherited
		held := "-all"
		for _, name := range c.options.Capabilities {
			held += ",+" + name
		}
		user := strconv.Itoa(nobody)
		words = append(words, "setpriv", "--pdeathsig", "keep", "--reuid", user, "--regid", user, "--clear-groups",
			"--inh-caps", held, "--ambient-caps", held, "--bounding-set", held)
	}
	words = append(words, executable, "--config", c.path("config.yaml"))
	if c.options.Traces {
		words = append(words, "--config", c.path("traces.yaml"))
	}
	if c.options.Applications {
		words = append(words, "--config", c.path("applications.yaml"))
	}
	if c.options.Overlay != "" {
		words = append(words, "--config", c.path("overlay.yaml"))
	}
	return words
}

func (c *Collector) awaitReady() {
	c.t.Helper()
	c.Wait("the Collector is ready", func() bool {
		select {
		case <-c.exited:
			c.t.Fatal("the Collector ended")
		default:
		}
		return strings.Contains(c.Log(), "Everything is ready")
	})
	c.takesSignals = time.Now().Add(100 * time.Millisecond)
}

func (c *Collector) launch(words ...string) {
	c.t.Helper()
	log, err := os.Create(c.path("log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	distribution, err := os.Open(binary)
	if err != nil {
		c.t.Fatal(err)
	}
	defer distribution.Close()
	c.command = exec.Command(words[0], words[1:]...)
	c.command.ExtraFiles = []*os.File{distribution}
	c.command.Stdout, c.command.Stderr = log, log
	c.series = series{} // the exporter begins its file anew
	if err := child.Start(c.command); err != nil {
		c.t.Fatal(err)
	}
	c.exited = make(chan struct{})
	go func() {
		defer close(c.exited)
		c.command.Wait() //nolint:errcheck // ProcessState has the result
	}()
	c.t.Cleanup(func() {
		c.end(syscall.SIGKILL)
		if c.t.Failed() {
			c.t.Logf("the Collector's log:\n%s", tail(c.Log(), 60))
		}
	})
}

// Endpoint returns the URL to which applications send, in the form of OTEL_EXPORTER_OTLP_ENDPOINT.
func (c *Collector) Endpoint() string { return fmt.Sprintf("http://127.0.0.1:%d", c.otlpPort) }

// PID returns the process id of the Collector.
func (c *Collector) PID() int { return c.command.Process.Pid }

// Stop asks the Collector to shut down, waits until it has ended, and requires success.
func (c *Collector) Stop() {
	c.t.Helper()
	c.end(syscall.SIGTERM)
	if !c.command.ProcessState.Success() {
		c.t.Errorf("the Collector did not shut down cleanly: %v", c.command.ProcessState)
	}
}

// Kill ends the Collector with SIGKILL, so that it cannot clean up.
func (c *Collector) Kill() {
	c.t.Helper()
	c.end(syscall.SIGKILL)
}

// Halted stops the Collector's process while work runs, as if it got no CPU time.
func (c *Collector) Halted(work func()) {
	c.t.Helper()
	if err := c.command.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	defer c.command.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it may have ended
	work()
}

func (c *Collector) signal(signal syscall.Signal) error {
	if signal != syscall.SIGKILL {
		time.Sleep(time.Until(c.takesSignals))
	}
	return c.command.Process.Signal(signal)
}

func (c *Collector) end(signal syscall.Signal) {
	c.t.Helper()
	c.signal(signal) //nolint:errcheck // it may have ended
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.command.Process.Kill() //nolint:errcheck // it may have ended
		<-c.exited
		c.t.Errorf("the Collector did not end on %v", signal)
	}
}

// Log returns what the Collector has logged so far.
func (c *Collector) Log() string {
	log, err := os.ReadFile(c.path("log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(log)
}

// Wait waits until the condition holds, and fails the test if that takes longer than patience. what
// completes the message "waited in vain until ...".
func (c *Collector) Wait(what string, condition func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// freePort returns a port of 127.0.0.1 that is free, and that the kernel chooses for no other
// socket until the test ends: it stays bound here with SO_REUSEADDR, so that a listener can still
// bind it by its number. While none listens, connections to it are refused.
func freePort(t testing.TB) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) }) //nolint:errcheck // the socket has no data that could be lost
	err = errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	if err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return address.(*syscall.SockaddrInet4).Port
}

// constants matches what every line of the log repeats.
var constants = regexp.MustCompile(`"resource": {[^}]*}(, )?`)

func tail(log string, lines int) string {
	all := strings.Split(constants.ReplaceAllString(log, ""), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
