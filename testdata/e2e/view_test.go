// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// startWithView starts a Collector in which no pipeline has calls, and returns the address of its view.
func startWithView(t *testing.T, more string) (*Collector, string) {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	return Start(t, fmt.Sprintf(`
		nettap:
		  traffic: {collection_interval: 2s, initial_delay: 0s}
		  drops: {collection_interval: 2s, initial_delay: 0s}
		  accepts: {initial_delay: 0s}
		  calls: {initial_delay: 0s, filter: {commands: [bash]}}
		  connections: {enabled: true, collection_interval: 2s, initial_delay: 0s}
		  listeners: {enabled: true, collection_interval: 2s, initial_delay: 0s}
		  view: {endpoint: "%s"%s}
	`, address, more)), address
}

// curl runs curl and returns its output when the answer has ended. It is a process of its own, so
// that its traffic is not counted for the test's process.
func curl(t *testing.T, arguments ...string) string {
	t.Helper()
	output, err := exec.Command("curl", append([]string{"-sS", "--max-time", "60"}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

// following is an answer to curl that is read while it arrives.
type following struct {
	*bufio.Reader
	command  *exec.Cmd
	messages strings.Builder
}

func follow(t *testing.T, url string) *following {
	t.Helper()
	f := &following{command: exec.CommandContext(t.Context(), "curl", "-sSN", "--max-time", "60", url)}
	f.command.Stderr = &f.messages
	output, err := f.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.Reader = bufio.NewReader(output)
	if err := f.command.Start(); err != nil {
		t.Fatal(err)
	}
	return f
}

// line returns the next line.
func (f *following) line(t *testing.T) string {
	t.Helper()
	line, err := f.ReadString('\n')
	if err != nil {
		t.Fatalf("%v after %q: %v %s", f.command, line, err, f.messages.String())
	}
	return line
}

// rest returns the rest of the answer, once it has ended.
func (f *following) rest(t *testing.T) string {
	t.Helper()
	rest, err := io.ReadAll(f)
	if err := errors.Join(err, f.command.Wait()); err != nil {
		t.Fatalf("%v: %v\n%s%s", f.command, err, rest, f.messages.String())
	}
	return string(rest)
}

// during returns the table at the URL. It calls meanwhile once the table's interval has begun.
func during(t *testing.T, url string, meanwhile func()) string {
	t.Helper()
	table := follow(t, url)
	head := table.line(t) // it is sent when the interval begins, so what follows is in the table
	meanwhile()
	return head + table.rest(t)
}

// TestDistributionShowsTables makes known traffic and requires that the tables show it as the scripts
// would print it, and nothing else of the process that makes it.
func TestDistributionShowsTables(t *testing.T) {
	_, address := startWithView(t, "")
	// The first table has all that this process moves, so the others are asked for after it, at once.
	own, comm := os.Getpid(), filepath.Base(os.Args[0])
	if len(comm) > 15 {
		comm = comm[:15]
	}

	t.Run("nettop", func(t *testing.T) {
		to, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if err := to.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		table := during(t, "http://"+address+"/nettop?interval=3s", func() {
			for range 7 {
				if _, err := to.WriteTo(make([]byte, 1000), to.LocalAddr()); err != nil {
					t.Error(err)
				}
				if _, _, err := to.ReadFrom(make([]byte, 1000)); err != nil {
					t.Error(err)
				}
			}
		})
		lines := strings.Split(table, "\n")
		if want := "  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND        "; lines[0] != want {
			t.Errorf("it begins with %q, want %q", lines[0], want)
		}
		// A datagram has 1,000 bytes, and 28 of headers.
		want := fmt.Sprintf("%5d %5d %-12s %7d %7d %7d %7d %-15s", own, os.Getuid(), "lo", 7, 7, 7*1028/1024, 7*1028/1024, comm)
		if !strings.Contains(table, "\n"+want+"\n") {
			t.Errorf("it lacks\n%s\nand is\n%s", want, table)
		}
		for _, line := range lines[1:] {
			if line != "" && !regexp.MustCompile(`^ *\d+ +\d+ \S+ +\d+ +\d+ +\d+ +\d+ \S.*$`).MatchString(line) {
				t.Errorf("a line is %q", line)
			}
		}
	})

	t.Run("dropwatch", func(t *testing.T) {
		t.Parallel()
		closed := freePort(t)
		table := during(t, "http://"+address+"/dropwatch?interval=3s", func() {
			run(t, "bash", "-c", fmt.Sprintf("for i in 1 2 3 4 5 6; do echo x 2>/dev/null >/dev/udp/127.0.0.1/%d; done; true", closed))
		})
		layout := regexp.MustCompile(`^Monitoring for dropped packets\n\n\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n(\d+ packets dropped at \S+\n)+Stopping dropped packet monitor\n$`)
		if !layout.MatchString(table) {
			t.Errorf("it is\n%s", table)
		}
		var packets int
		for _, line := range strings.Split(table, "\n") {
			var n int
			if _, err := fmt.Sscanf(line, "%d packets dropped at __udp4_lib_rcv", &n); err == nil {
				packets += n
			}
		}
		if packets < 6 { // other programs may send to closed ports, too
			t.Errorf("it has %d datagrams to a closed port, want 6 at least:\n%s", packets, table)
		}
	})

	t.Run("tcp_connections", func(t *testing.T) {
		t.Parallel()
		at := listen(t)
		talker(t, at)
		want := fmt.Sprintf("%6d %16s %6d %6d %16s\n", os.Getuid(), comm, own, at.Port, "127.0.0.1")
		head := "   UID              CMD    PID   PORT        IP_SOURCE\n"
		until(t, "the connection is in the table", func() bool {
			return curl(t, fmt.Sprintf("http://%s/tcp_connections?filter=port:%d", address, at.Port)) == head+want
		})
	})

	t.Run("socket-trace", func(t *testing.T) {
		t.Parallel()
		command := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d", freePort(t)))
		_ = command.Run() // it fails, because the connection is refused
		pid := command.Process.Pid
		tree := regexp.MustCompile(fmt.Sprintf(`(?m)^     0 bash\(%d\): -> (\S*connect\S*)\n(?:[ \d]{6} bash\(%[1]d\): +(?:->|<-) \S+\n)*[ \d]{6} bash\(%[1]d\): <- \S*connect\S*$`, pid))
		until(t, "the call is in the table", func() bool {
			return tree.MatchString(curl(t, fmt.Sprintf("http://%s/socket-trace?filter=process:%d", address, pid)))
		})
	})

	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		to := fmt.Sprintf("/dev/tcp/127.0.0.1/%d", freePort(t))
		refused := exec.Command("bash", "-c", fmt.Sprintf("for i in 1 2 3; do { : <>%s; } 2>/dev/null; done; read -r", to))
		hold, err := refused.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := refused.Start(); err != nil {
			t.Fatal(err)
		}
		pid := refused.Process.Pid
		head := "  PID   UID CONNECTS   FAILED  RETRANS ERRORS                   COMMAND        \n"
		want := fmt.Sprintf("%5d %5d %8d %8d %8d %-24s %-15s\n", pid, os.Getuid(), 0, 3, 0, "ECONNREFUSED=3", "bash")
		until(t, "the refused connects are in the table", func() bool {
			return curl(t, fmt.Sprintf("http://%s/tcp?filter=process:%d", address, pid)) == head+want
		})
		hold.Close()
		_ = refused.Wait()
	})

	t.Run("queues", func(t *testing.T) {
		t.Parallel()
		at := listenWith(t, tcpSocket(t, 0), 5).Port
		head := "  PID   UID   PORT WAITING   LIMIT ADDRESS                  COMMAND        \n"
		row := func(waiting int) string {
			return fmt.Sprintf("%5d %5d %6d %7d %7d %-24s %-15s\n", own, os.Getuid(), at, waiting, 5, "127.0.0.1", comm)
		}
		until(t, "the listener's queue is in the table", func() bool {
			return curl(t, fmt.Sprintf("http://%s/queues?filter=port:%d", address, at)) == head+row(0)
		})
		waiting, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", at))
		if err != nil {
			t.Fatal(err)
		}
		defer waiting.Close()
		until(t, "the connection waits in the table", func() bool {
			return curl(t, fmt.Sprintf("http://%s/queues?filter=port:%d", address, at)) == head+row(1)
		})
	})

	t.Run("health", func(t *testing.T) {
		t.Parallel()
		var state struct {
			Health struct {
				Instruments []struct {
					Name, State, For string
					Hooks            []struct{ Job, Name string }
				}
			}
		}
		if err := json.Unmarshal([]byte(curl(t, "http://"+address+"/api/v1/state")), &state); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"traffic running pipeline", "drops running pipeline", "accepts running pipeline", "calls running view"} {
			of := state.Health.Instruments[i]
			if got := of.Name + " " + of.State + " " + of.For; got != want || len(of.Hooks) == 0 {
				t.Errorf("instrument %d is %q with hooks %v, want %q", i, got, of.Hooks, want)
			}
		}
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Errorf("not after 30 s: %s", what)
}

// TestDistributionFollowsATable follows a table for longer than the server's time limit for an
// answer. The table must end when the Collector does.
func TestDistributionFollowsATable(t *testing.T) {
	c, address := startWithView(t, ", write_timeout: 1s")
	tables := follow(t, "http://"+address+"/nettop?follow&interval=1s")
	isHead := func() bool { return strings.HasPrefix(tables.line(t), "  PID   UID DEV ") }
	if !isHead() {
		t.Error("the first line is not the head of a table")
	}
	began := time.Now()
	for heads := 1; heads < 4; { // it takes longer than write_timeout
		if isHead() {
			heads++
		}
	}
	if took := time.Since(began); took < 2*time.Second || took > 4500*time.Millisecond {
		t.Errorf("three tables of a second each took %v", took)
	}
	c.Stop()
	tables.rest(t)
}

func TestDistributionRefusesAForeignHost(t *testing.T) {
	_, address := startWithView(t, ", allowed_hosts: [nettap.example]")
	for host, want := range map[string]int{
		"evil.example": 403, "evil.example:8777": 403, "192.0.2.1": 403, "localhost:1": 200, "[::1]:8777": 200, "nettap.example": 200,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want || want == 403 && len(body) > 200 {
			t.Errorf("Host %s: answered %d %s, want %d", host, answer.StatusCode, body, want)
		}
		if csp := answer.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("Host %s: the policy is %q", host, csp)
		}
	}
}

// TestDistributionShowsAHostileName has a process whose name is an escape sequence, which must be
// shown with replacement characters.
func TestDistributionShowsAHostileName(t *testing.T) {
	t.Parallel()
	_, address := startWithView(t, "")
	at := listen(t)
	name := filepath.Join(t.TempDir(), "\x1b[2J<b>\x07")
	content, err := os.ReadFile("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o700); err != nil {
		t.Fatal(err)
	}
	table := during(t, "http://"+address+"/nettop?interval=5s", func() {
		run(t, name, "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; echo x >&3", at.Port))
	})
	if !strings.Contains(table, " \uFFFD[2J<b>\uFFFD") || strings.ContainsAny(table, "\x1b\x07") {
		t.Errorf("the table is %q", table)
	}
	state := curl(t, "http://"+address+"/api/v1/state")
	if !strings.Contains(state, `"comm":"`+"\uFFFD"+`[2J\u003cb\u003e`+"\uFFFD"+`"`) || strings.ContainsAny(state, "\x1b\x07<>") {
		t.Error("the state does not have its name as text")
	}
}

// TestDistributionDeliversTheSameWhileWatched requires that pipelines get the same points while the
// view has a client: one at each collection, all with the same start, and one end.
func TestDistributionDeliversTheSameWhileWatched(t *testing.T) {
	t.Parallel()
	c, address := startWithView(t, "")
	follower := exec.CommandContext(t.Context(), "curl", "-sN", "http://"+address+"/api/v1/events")
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	at := listen(t)
	command := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; for i in 1 2 3 4 5; do echo hello >&3; sleep 1; done", at.Port))
	began := time.Now()
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	want := Attributes{"process.pid": command.Process.Pid, "network.io.direction": "transmit"}
	c.Wait("the process's series has ended", func() bool {
		points := c.Points("process.network.io", want)
		return len(points) == 1 && points[0].Ended
	})
	collections := int(time.Since(began)/(2*time.Second)) + 1

	var points, ends int
	starts := map[time.Time]bool{}
	batches, _ := read(c, "metrics.json", 0, (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics)
	for _, batch := range batches {
		var s series
		s.add(batch)
		for _, point := range s.points["process.network.io"] {
			if point.Attributes.Has(want) {
				points++
				starts[point.Start] = true
				if point.Ended {
					ends++
				}
			}
		}
	}
	if points > collections || points < 2 || ends != 1 || len(starts) != 1 {
		t.Errorf("there were %d points in %d collections, %d ends and starts at %v; want one each, one end, and one start", points, collections, ends, starts)
	}
}
