// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// ended has what a test compares of the record of a connection's end.
type ended struct {
	Role, ClosedBy, Error string
	Sent, Received        int64
	HasPackets            bool
	HasRoundTrip          bool
}

// observeEnds is observe with the ends of connections.
func observeEnds(t *testing.T) *fixture {
	return observe(t, func(a *Accepts) {
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
			e := ended{Role: a["nettap.connection.role"].(string), Sent: a["nettap.connection.sent.bytes"].(int64), Received: a["nettap.connection.received.bytes"].(int64)}
			e.ClosedBy, _ = a["nettap.connection.closed_by"].(string)
			e.Error, _ = a["error.type"].(string)
			e.HasPackets = a["nettap.connection.sent.packets"].(int64) > 0 && a["nettap.connection.received.packets"].(int64) > 0
			_, e.HasRoundTrip = a["nettap.connection.rtt.smoothed"]
			all = append(all, one{e, a["nettap.connection.id"].(string)})
		}
	}
	slices.SortFunc(all, func(a, b one) int { return strings.Compare(a.Role, b.Role) })
	for _, e := range all {
		found, ids = append(found, e.ended), append(ids, e.id)
	}
	return found, ids
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
		end  func(client, server *net.TCPConn)
		want []ended
	}{
		"the client closes": {
			end: func(client, server *net.TCPConn) {
				client.Close()
				io.Copy(io.Discard, server)
				server.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "local", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true},
				{Role: "server", ClosedBy: "peer", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true},
			},
		},
		"the server closes": {
			end: func(client, server *net.TCPConn) {
				server.Close()
				io.Copy(io.Discard, client)
				client.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "peer", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true},
				{Role: "server", ClosedBy: "local", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true},
			},
		},
		"the client resets": {
			end: func(client, server *net.TCPConn) {
				abort(client)
				io.Copy(io.Discard, server)
				server.Close()
			},
			want: []ended{
				{Role: "client", ClosedBy: "local", Sent: 1000, Received: 300, HasPackets: true, HasRoundTrip: true},
				{Role: "server", ClosedBy: "peer", Error: "ECONNRESET", Sent: 300, Received: 1000, HasPackets: true, HasRoundTrip: true},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := observeEnds(t)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			port := uint16(listener.Addr().(*net.TCPAddr).Port)
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			pass(t, client, server, 1000)
			pass(t, server, client, 300)
			test.end(client.(*net.TCPConn), server.(*net.TCPConn))

			got, ids := o.endsOn(t, port, 2)
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("ends differ (-want +got):\n%s", diff)
			}
			accepted := o.on(t, port)
			if len(ids) != 2 || len(accepted) != 1 || accepted[0].id != ids[1] || ids[0] == ids[1] || accepted[0].PID != int64(os.Getpid()) {
				t.Errorf("the ids are %v, that of the accepts %+v", ids, accepted)
			}
		})
	}
}

// A connection that no process accepted ends without a record, and is counted.
func TestKernelReportsNoEndOfWhatNobodyAccepted(t *testing.T) {
	o := observeEnds(t)
	listener, address := listen(t, "127.0.0.1:0")
	client, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
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

// A flood of short connections loses no accept and no end.
func TestKernelReportsTheEndOfEachOfManyConnections(t *testing.T) {
	made := 4_000
	if testing.Short() { // an emulated machine makes only a hundred per second
		made = 400
	}
	o := observeEnds(t)
	listener, address := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", listener, 0)
	began := time.Now()
	stop := make(chan struct{})
	done := make(chan error, 4)
	for range 4 {
		go func() {
			for range made / 4 {
				c, err := net.DialTimeout("tcp", address.String(), patience)
				if err != nil {
					done <- err
					return
				}
				io.Copy(io.Discard, c) // the greeting, until the server has closed
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
		case <-time.After(100 * time.Millisecond):
			o.collect(t)
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
	if totals.Lost["ring_full"] != 0 || totals.Lost["map_full"] != 0 {
		t.Errorf("some are lost: %+v", totals)
	}
}
