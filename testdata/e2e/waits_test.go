// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waitPorts are the port of a server that answers late, one on which nothing listens, and one from
// which no answer comes.
type waitPorts struct{ late, refused, silent int }

const answersAfter = 300 * time.Millisecond

func listenForWaits(t *testing.T) waitPorts {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(answersAfter)
		io.WriteString(w, "late") //nolint:errcheck // the client prints what it has received
	})}
	go server.Serve(listener) //nolint:errcheck // it always ends with an error, when the listener is closed
	t.Cleanup(func() { server.Close() })
	return waitPorts{late: listener.Addr().(*net.TCPAddr).Port, refused: freePort(t), silent: silentPort(t)}
}

// silentPort returns the port of a listener whose accept queue is full.
func silentPort(t *testing.T) int {
	t.Helper()
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	listener := socket()
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		unix.Connect(socket(), address) //nolint:errcheck // the socket does not block, so this is EINPROGRESS
	}
	return address.(*unix.SockaddrInet4).Port
}

// These clients are programs that connect to a port of 127.0.0.1, send a request, and print what they
// have received. They give up a connect after half a second.
const (
	nodeClient = `
const http = require("http")
const request = http.get({host: "127.0.0.1", port: process.argv[1], agent: false}, answer => { answer.resume(); answer.on("end", () => process.exit(0)) })
request.on("error", error => console.log(error.code))
request.on("socket", socket => { const t = setTimeout(() => request.destroy(new Error("late")), 500); socket.on("connect", () => clearTimeout(t)) })`
	pythonClient = `
import socket, sys
client = socket.socket()
client.settimeout(0.5 if sys.argv[2] == "timeout" else None)
try:
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    client.recv(1000)
except OSError as e:
    print(e)
client.close()`
)

// runClient starts a client, waits until it has ended and returns its pid.
func runClient(t *testing.T, name string, arguments ...string) int64 {
	t.Helper()
	command := exec.Command(name, arguments...)
	output, err := command.CombinedOutput()
	t.Logf("%s: %v %s", name, err, output)
	return int64(command.Process.Pid)
}

// goClient is a client in this process, whose pid it returns.
func goClient(port int) int64 {
	dialer := net.Dialer{Timeout: 500 * time.Millisecond}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}}
	if answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d", port)); err == nil {
		io.Copy(io.Discard, answer.Body) //nolint:errcheck // only its end matters
		answer.Body.Close()
	}
	client.CloseIdleConnections()
	return int64(os.Getpid())
}

// TestDistributionReportsWaits runs clients of four kinds, with a server that answers late, a port
// that refuses, and one that never answers.
func TestDistributionReportsWaits(t *testing.T) {
	ports := listenForWaits(t)
	c := StartWith(t, Options{Traces: true, Receivers: fmt.Sprintf(`
	nettap:
	  max_cpu: 0
	  traffic: {enabled: false}
	  drops: {enabled: false}
	  accepts: {enabled: false}
	  calls: {collection_interval: 100ms, initial_delay: 0s, sample_ratio: 0, filter: {ports: [%d, %d, %d]}}
`, ports.late, ports.refused, ports.silent)})

	clients := map[string]func(port int) int64{
		"curl": func(port int) int64 {
			return runClient(t, "curl", "--silent", "--output", "/dev/null", "--connect-timeout", "0.5", fmt.Sprintf("http://127.0.0.1:%d/", port))
		},
		"Go": goClient,
		"python": func(port int) int64 {
			return runClient(t, "/usr/bin/python3", "-c", pythonClient, fmt.Sprint(port), "block")
		},
		"python with a timeout": func(port int) int64 {
			return runClient(t, "/usr/bin/python3", "-c", pythonClient, fmt.Sprint(port), "timeout")
		},
	}
	if _, err := exec.LookPath("node"); err == nil {
		clients["node"] = func(port int) int64 { return runClient(t, "node", "-e", nodeClient, fmt.Sprint(port)) }
	}
	for name, ask := range clients {
		t.Run(name, func(t *testing.T) {
			blocks := name == "python"
			late, refused := ask(ports.late), ask(ports.refused)
			c.requireOne(t, late, ports.late, lateAnswer(blocks))
			c.requireOne(t, refused, ports.refused, failedConnect(blocks, "ECONNREFUSED"))
			if !blocks { // a connect that blocks would wait for two minutes
				c.requireOne(t, ask(ports.silent), ports.silent, failedConnect(blocks, "given_up"))
			}
		})
	}
}

// lateAnswer returns the attributes of the span of a client that waits for an answer: the span of a
// wait, or of a call that blocks.
func lateAnswer(blocks bool) Attributes {
	if blocks {
		return Attributes{"nettap.call.kept": "slow", "nettap.call.syscall": "recvfrom", "nettap.wait.kind": nil}
	}
	return Attributes{"nettap.call.kept": "slow", "nettap.wait.kind": "receive"}
}

func failedConnect(blocks bool, with string) Attributes {
	if blocks {
		return Attributes{"nettap.call.kept": "failed", "nettap.call.syscall": "connect", "error.type": with, "nettap.wait.kind": nil}
	}
	return Attributes{"nettap.call.kept": "failed", "nettap.wait.kind": "connect", "error.type": with}
}

// requireOne requires that there is one span of a process and a port that failed or took as long as
// the server took to answer, and that it has the wanted attributes.
func (c *Collector) requireOne(t *testing.T, pid int64, port int, want Attributes) {
	t.Helper()
	about := Attributes{"process.pid": pid, "network.peer.port": int64(port)}
	var got []Span
	c.Wait(fmt.Sprintf("process %d has a span of port %d", pid, port), func() bool {
		got = nil
		for _, span := range c.Spans(about) {
			if span.Attributes["error.type"] != nil || seconds(span) >= answersAfter.Seconds()/2 {
				got = append(got, span)
			}
		}
		return len(got) > 0
	})
	if len(got) != 1 {
		t.Fatalf("there are %v", got)
	}
	for name, value := range want {
		if got[0].Attributes[name] != value {
			t.Errorf("%s is %v, want %v, in %v", name, got[0].Attributes[name], value, got[0].Attributes)
		}
	}
	if want["nettap.wait.kind"] != "receive" {
		return
	}
	peer, _ := got[0].Attributes["nettap.wait.peer.duration"].(float64)
	local, _ := got[0].Attributes["nettap.wait.local.duration"].(float64)
	if peer < answersAfter.Seconds() || math.Abs(peer+local-seconds(got[0])) > 0.001 || local > peer {
		t.Errorf("the peer took %v s and the program %v s of %v s", peer, local, seconds(got[0]))
	}
}

func seconds(s Span) float64 {
	return s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()).Seconds()
}
