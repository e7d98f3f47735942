// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/policy"
)

// ended has what a test compares of the record of a connection's end.
type ended struct {
	Role, ClosedBy, Error string
	Sent, Received        int64
	PID                   int64
	HasPackets            bool
	HasRoundTrip          bool
	HasDuration           bool // of less than a minute
}

// observeEnds is observe with the ends of connections, without some hooks.
func observeEnds(t *testing.T, avoid ...string) *fixture {
	return observe(t, func(a *Accepts) {
		a.options.AvoidHooks = avoid
		config := metadata.DefaultLogsBuilderConfig()
		config.Events.NettapConnectionClosed.Enabled = true
		a.builder = metadata.NewLogsBuilder(config, settings())
		a.options.Closed = true
	})
}

// endsOn awaits n ends of connections to a port. The client's end comes before the server's.
func (o *fixture) endsOn(t *testing.T, port uint16, n int) (found []ended, ids []string) {
	t.Helper()
	type one struct {
		ended
		id string
	}
	var all []one
	for deadline := time.Now().Add(patience); len(all) < n && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		o.collect(t)
		all = nil
		for _, record := range o.others {
			a := record.Attributes().AsRaw()
			if record.EventName() != "nettap.connection.closed" || a["network.local.port"] != int64(port) && a["network.peer.port"] != int64(port) {
				continue
			}
			e := ended{PID: record.pid, Role: a["nettap.connection.role"].(string), Sent: a["nettap.connection.sent.bytes"].(int64), Received: a["nettap.connection.received.bytes"].(int64)}
			e.ClosedBy, _ = a["nettap.connection.closed_by"].(string)
			e.Error, _ = a["error.type"].(string)
			e.HasPackets = a["nettap.connection.sent.packets"].(int64) > 0 && a["nettap.connection.received.packets"].(int64) > 0
			_, e.HasRoundTrip = a["nettap.connection.rtt.smoothed"]
			duration := a["nettap.connection.duration"].(float64)
			e.HasDuration = duration > 0 && duration < time.Minute.Seconds()
			all = append(all, one{e, a["nettap.connection.id"].(string)})
		}
	}
	slices.SortFunc(all, func(a, b one) int { return strings.Compare(a.Role, b.Role) })
	for _, e := range all {
		found, ids = append(found, e.ended), append(ids, e.id)
	}
	return found, ids
}

// ofProcess sets the process that had both ends of a connection.
func ofProcess(pid int, ends []ended) []ended {
	for i := range ends {
		ends[i].PID = int64(pid)
	}
	return ends
}

// abort closes a connection by a reset.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0) // if this fails there is no reset, and the test fails
	c.Close()
}

// pass sends n bytes, and waits until they have arrived.
func pass(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	if _, err := from.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func TestKernelReportsHowConnectionsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		avoid []string // hooks
		end   func(client, server *net.TCPConn)
		want  []ended
	}{
		"the client closes": {
			end: func(client, server *net.TCPConn) {
				client.Close()
				io.Copy(io.Discard, server)
				server.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "local", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
				{Role: "server", ClosedBy: "peer", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
			},
		},
		"the server closes": {
			end: func(client, server *net.TCPConn) {
				server.Close()
				io.Copy(io.Discard, client)
				client.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "peer", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
				{Role: "server", ClosedBy: "local", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
			},
		},
		"the server closes, and functions are not traced": {
			avoid: []string{"fentry"},
			end: func(client, server *net.TCPConn) {
				server.Close()
				io.Copy(io.Discard, client)
				client.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "peer", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
				{Role: "server", ClosedBy: "local", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
			},
		},
		"the client resets": {
			end: func(client, server *net.TCPConn) {
				abort(client)
				io.Copy(io.Discard, server)
				server.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "local", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
				{Role: "server", ClosedBy: "peer", Error: "ECONNRESET", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := observeEnds(t, test.avoid...)
			listener := kerneltest.Listen(t, "127.0.0.1:0")
			port := uint16(listener.Addr().(*net.TCPAddr).Port)
			client := kerneltest.Dial(t, listener.Addr())
			server := kerneltest.Accept(t, listener)
			pass(t, client, server, 1000)
			pass(t, server, client, 300)
			test.end(client, server)

			got, ids := o.endsOn(t, port, 2)
			if diff := gocmp.Diff(ofProcess(os.Getpid(), test.want), got); diff != "" {
				t.Errorf("ends differ (-want +got):\n%s", diff)
			}
			accepted := o.on(t, port)
			if len(ids) != 2 || len(accepted) != 1 || accepted[0].id != ids[1] || ids[0] == ids[1] || accepted[0].PID != int64(os.Getpid()) {
				t.Errorf("the ids are %v, that of the accepts %+v", ids, accepted)
			}
		})
	}
}

// A peer that does not answer any more is given up after TCP_USER_TIMEOUT. Then neither side has
// closed the connection first.
func TestKernelReportsConnectionsThatTimeOut(t *testing.T) {
	o := observeEnds(t)
	near, far := kerneltest.Namespaces(t)
	var listener *net.TCPListener
	kerneltest.InNamespace(t, far.Name, func() { listener = kerneltest.Listen(t, net.JoinHostPort(far.IPv4.String(), "0")) })
	var client *net.TCPConn
	kerneltest.InNamespace(t, near.Name, func() { client = kerneltest.Dial(t, listener.Addr()) })
	server := kerneltest.Accept(t, listener)
	pass(t, client, server, 1000)
	pass(t, server, client, 300)
	limitPatience(t, client, time.Second)
	restore := kerneltest.Lose(t, near, far)
	if _, err := client.Write(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("the client reads %v, want a timeout", err)
	}
	client.Close()
	restore()
	abort(server)

	want := []ended{
		{Role: "client", Error: "ETIMEDOUT", Sent: 1007, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
		{Role: "server", ClosedBy: "local", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
	}
	got, _ := o.endsOn(t, uint16(listener.Addr().(*net.TCPAddr).Port), 2)
	if diff := gocmp.Diff(ofProcess(os.Getpid(), want), got); diff != "" {
		t.Errorf("ends differ (-want +got):\n%s", diff)
	}
	o.balancedWithEnds(t)
}

// limitPatience sets how long a connection waits for an acknowledgement.
func limitPatience(t *testing.T, c *net.TCPConn, patience time.Duration) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
	})
	if err := errors.Join(err, setErr); err != nil {
		t.Fatal(err)
	}
}

// The process that has both ends is killed, and its network namespace is removed with it.
func TestKernelReportsConnectionsOfARemovedNamespace(t *testing.T) {
	o := observeEnds(t)
	name := fmt.Sprintf("nettap-%d-removed", os.Getpid())
	h := startHermit(t, name)
	port := h.connected(t)
	if err := netns.DeleteNamed(name); err != nil { // from now on only the process holds it
		t.Fatal(err)
	}
	h.kill()

	got, ids := o.endsOn(t, port, 2)
	if len(got) != 2 {
		t.Fatalf("the ends are %+v, want two", got)
	}
	sides := []string{got[0].ClosedBy, got[1].ClosedBy} // the kernel chooses which end it closes first
	if slices.Sort(sides); !slices.Equal(sides, []string{"local", "peer"}) {
		t.Errorf("the ends were closed by %v first", sides)
	}
	got[0].ClosedBy, got[1].ClosedBy = "", ""
	want := []ended{
		{Role: "client", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true, HasDuration: true},
		{Role: "server", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true, HasDuration: true},
	}
	if diff := gocmp.Diff(ofProcess(h.Process.Pid, want), got); diff != "" {
		t.Errorf("ends differ (-want +got):\n%s", diff)
	}
	accepted := o.on(t, port)
	if len(accepted) != 1 || accepted[0].id != ids[1] || accepted[0].PID != int64(h.Process.Pid) {
		t.Errorf("the accepts are %+v, want one with the id %s, of process %d", accepted, ids[1], h.Process.Pid)
	}
	o.balancedWithEnds(t)
}

// hermit is a process in a network namespace of its own that has both ends of a connection.
type hermit struct {
	*exec.Cmd
	said *kerneltest.Output
}

func startHermit(t *testing.T, namespace string) hermit {
	t.Helper()
	listener, _ := listen(t, "127.0.0.1:0") // each server inherits one
	h := hermit{Cmd: newServer(t, "hermit", listener, 0, 0)}
	h.Env = append(h.Env, hermitVariable+"="+namespace)
	h.said = kerneltest.OutputOf(t, h.Cmd)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	return h
}

// connected waits until it has its connection, and returns the port of the server.
func (h hermit) connected(t *testing.T) uint16 {
	t.Helper()
	line := h.said.Line()
	port, err := strconv.ParseUint(line, 10, 16)
	if err != nil {
		t.Fatalf("the process says %q: %v", line, err)
	}
	return uint16(port)
}

func (h hermit) kill() {
	h.Process.Kill() //nolint:errcheck // it may have been killed
	h.Wait()         //nolint:errcheck // it was killed
}

// A connection that no process accepted ends without a record, and is counted.
func TestKernelReportsNoEndOfWhatNobodyAccepted(t *testing.T) {
	o := observeEnds(t)
	listener, address := listen(t, "127.0.0.1:0")
	client := kerneltest.Dial(t, net.TCPAddrFromAddrPort(address))
	listener.Close()
	io.Copy(io.Discard, client) // until the reset
	client.Close()
	got, _ := o.endsOn(t, address.Port(), 1)
	if len(got) != 1 || got[0].Role != "client" || got[0].ClosedBy != "peer" {
		t.Errorf("ends are %+v, want the client's, reset by the peer", got)
	}
	o.balancedWithEnds(t)
}

// balancedWithEnds requires that the counts add up, apart from ends that wait for their accept.
func (o *fixture) balancedWithEnds(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		o.collect(t)
		totals := o.recorder.Read()
		accounted := uint64(len(o.records)+len(o.others)+len(o.accepts.ends.waiting)) + totals.SampledOut
		for _, lost := range totals.Lost {
			accounted += lost
		}
		if totals.Seen == accounted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("seen %d, of which %d are accounted for: %+v", totals.Seen, accounted, totals)
		}
	}
}

// A flood of short connections, made as fast as the machine can, loses no accept and no end, and
// each accept has its verdict. It pauses if this process does not get to read, as on a busy machine:
// the rings have room for a third of a second of it.
func TestKernelReportsTheEndOfEachOfManyConnections(t *testing.T) {
	made := 20_000
	if testing.Short() { // an emulated machine makes only a hundred per second
		made = 400
	}
	o := observeEnds(t)
	listener, address := listen(t, "127.0.0.1:0")
	o.accepts.policy = policy.New([]policy.Rule{{Ports: []uint16{address.Port()}, Users: []uint32{1000}}})
	startServer(t, "blocking", listener, 0)
	began := time.Now()
	unread := make(chan struct{}, 1000) // a fraction of what the rings have room for
	stop := make(chan struct{})
	done := make(chan error, 4)
	for range 4 {
		go func() {
			for range made / 4 {
				unread <- struct{}{}
				c, err := net.DialTimeout("tcp", address.String(), patience)
				if err != nil {
					done <- err
					return
				}
				c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is open
				io.Copy(io.Discard, c)                  // the greeting, until the server has closed
				abort(c.(*net.TCPConn))
			}
			done <- nil
		}()
	}
	go func() {
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		close(stop)
	}()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		case <-time.After(10 * time.Millisecond):
			before := len(unread)
			o.collect(t)
			for range before {
				<-unread
			}
		}
	}
	t.Logf("%.0f connections a second", float64(made)/time.Since(began).Seconds())
	o.collect(t)
	ends, _ := o.endsOn(t, address.Port(), 2*made-int(o.recorder.Read().MissedRuns))
	totals := o.recorder.Read()
	lacking := 2*made - len(ends) // at most as many as the kernel counted as lost
	if accepts := len(o.on(t, address.Port())); lacking < 0 || lacking > int(totals.MissedRuns) || accepts != made {
		t.Errorf("%d ends and %d accepts of %d connections, and the statistics have %+v", len(ends), accepts, made, totals)
	}
	for _, s := range o.on(t, address.Port()) {
		if s.verdict != "unexpected" {
			t.Fatalf("an accept has the verdict %q: %+v", s.verdict, s)
		}
	}
	if totals.Lost["ring_full"] != 0 || totals.Lost["map_full"] != 0 {
		t.Errorf("some are lost: %+v", totals)
	}
}
