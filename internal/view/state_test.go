// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *feed) state(t *testing.T, query string) State {
	t.Helper()
	var s State
	if err := json.Unmarshal([]byte(f.during(t, "/api/v1/state"+query)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (n *number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = unknown
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

func TestAccountsBalance(t *testing.T) {
	f := newFeed()
	release := f.watch()
	defer release()
	f.accounts = []accountPoint{
		{"eth0", "process", "transmit", 1000, 10}, {"eth0", "kernel", "transmit", 50, 1}, {"eth0", unobservedAccount, "transmit", -5, 0},
		{"eth0", "process", "receive", 10, 1},
	}
	f.second()
	f.accounts[0].bytes += 500
	f.accounts[2].bytes = 7
	f.second()
	s := f.state(t, "?range=1m")
	minus := int64(7)
	want := AccountTotals{Accounts: map[string]int64{"process": 1500, "kernel": 50}, Unobserved: &minus, Total: 1557}
	got := s.Interfaces[0].Tx.Bytes
	series := got.Series
	got.Series = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the accounts differ (-want +got):\n%s", diff)
	}
	if got := series[unobservedAccount][57:]; !cmp.Equal(got, []number{-5, 12, 0}) {
		t.Errorf("the last of unobserved is %v, want -5, 12 and 0", got)
	}
	if got := series["process"][:57]; got[0] != unknown || got[56] != unknown {
		t.Errorf("before anybody looked there is %v, want nothing", got)
	}
	if s.Interfaces[0].Rx.Bytes.Unobserved != nil {
		t.Error("there is something unobserved where the counter cannot be read")
	}
}

// A snapshot with the increments added to it equals a later snapshot.
func TestIncrementsAddUp(t *testing.T) {
	f := newFeed()
	p := fed{pid: 5, comm: "p", dev: "lo"}
	f.processes = []fed{p}
	step := func() {
		f.processes[0].amounts.add(amounts{100, 200, 1, 2})
		f.accounts = []accountPoint{{"lo", "process", "transmit", int64(f.processes[0].amounts[0]), int64(f.processes[0].amounts[2])}}
		f.losses = []loss{{symbol: "f", reason: "no_socket", class: "loss", packets: int64(f.processes[0].amounts[2])}}
		f.accept(p, "127.0.0.1:80", "127.0.0.1:4000")
		f.call(p, "failed", "ECONNREFUSED", span{-1, "connect", 0, 10})
	}
	step()
	// unwatched pipelines deliver in between
	body := f.during(t, "/api/v1/events?range=1m", step, step, func() {
		step()
		f.read()
		step()
	}, func() { f.Close() })

	events := strings.Split(strings.TrimPrefix(body, "retry: 1000\n\n"), "\n\n")
	var totals amounts
	var dropped, booked, accepted, accepts, calls, increments int
	for i, event := range events[:len(events)-2] {
		name, data, _ := strings.Cut(strings.TrimPrefix(event, "event: "), "\ndata: ")
		switch {
		case i == 0 && name == "snapshot":
			var s State
			if err := json.Unmarshal([]byte(data), &s); err != nil {
				t.Fatal(err)
			}
			r := s.Processes[0].Interfaces[0]
			totals = amounts{r.TxBytes, r.RxBytes, r.TxPackets, r.RxPackets}
			dropped, booked, accepted = int(s.Drops[0].Packets), int(s.Interfaces[0].Tx.Bytes.Total), int(s.Listeners[0].Connections)
			accepts, calls = len(s.Accepts), len(s.Calls)
		case i > 0 && name == "increment":
			increments++
			var one Increment
			if err := json.Unmarshal([]byte(data), &one); err != nil {
				t.Fatal(err)
			}
			for _, m := range one.Moved {
				for j := range totals {
					totals[j] += uint64(m[2+j].(float64))
				}
			}
			for _, d := range one.Dropped {
				dropped += int(d[1].(float64))
			}
			for _, b := range one.Booked {
				booked += int(b[3].(float64))
			}
			for _, a := range one.Accepted {
				accepted += int(a[1].(float64))
			}
			accepts, calls = accepts+len(one.Accepts), calls+len(one.Calls)
		default:
			t.Fatalf("event %d is %s", i, name)
		}
	}
	if want := (amounts{500, 1000, 5, 10}); totals != want || dropped != 5 || booked != 500 || accepted != 5 || accepts != 5 || calls != 5 {
		t.Errorf("they add up to %v, %d dropped, %d booked, %d accepted (%d told), %d calls; want %v, 5, 500, 5 (5), 5",
			totals, dropped, booked, accepted, accepts, calls, want)
	}
	if increments != 3 {
		t.Errorf("there were %d increments, want 3", increments)
	}
	if !strings.HasPrefix(events[len(events)-2], "event: bye") {
		t.Errorf("the last event is %q", events[len(events)-2])
	}
}

func TestProcessEndsAndIsForgotten(t *testing.T) {
	f := newFeed()
	f.processes = []fed{{pid: 5, comm: "p", dev: "lo", amounts: amounts{1, 1, 1, 1}}}
	f.second()
	f.processes[0].gone = true
	f.second()
	if s := f.state(t, ""); len(s.Processes) != 1 || s.Processes[0].EndedMS != begun.Add(2*time.Second).UnixMilli() || s.Processes[0].Interfaces[0].TxBytes != 1 {
		t.Errorf("a process that has ended is %+v", s.Processes)
	}
	f.processes = nil
	f.now = f.now.Add(16 * time.Minute)
	f.second()
	if s := f.state(t, ""); len(s.Processes) != 0 {
		t.Errorf("16 minutes later there is %+v", s.Processes)
	}
}

// A pipeline's reading and a peek describe a process by clocks that were read at different
// times: it is one all the same. A process that has its pid later is another.
func TestProcessIsOne(t *testing.T) {
	f := newFeed()
	p := fed{pid: 5, comm: "p", dev: "lo", amounts: amounts{10, 0, 1, 0}}
	f.processes = []fed{p}
	f.second()
	f.processes[0].more = map[string]string{"process.creation.time": "2026-11-22T21:00:00.001Z"}
	f.second()
	f.accept(fed{pid: 5, comm: "p", more: map[string]string{"process.creation.time": "2026-11-22T21:00:09.000Z"}}, "127.0.0.1:80", "127.0.0.1:4000")
	s := f.state(t, "")
	if len(s.Processes) != 2 || s.Processes[0].Interfaces[0].TxBytes != 10 {
		t.Errorf("there are %+v, want one process with 10 bytes, and another", s.Processes)
	}
}

// What was moved in ten seconds in which no one looked is spread over them.
func TestHistorySpreads(t *testing.T) {
	var h history
	at := begun.UnixMilli() / coarseStep * coarseStep
	h.add(period{at + 5000, at + 15_000}, 100)
	h.add(period{at + 15_000, at + 16_000}, 7)
	now := at + 20_000
	if got := h.read(coarse, now, 0, 1, nil)[88:]; !cmp.Equal(got, []number{50, 57}) {
		t.Errorf("the slots have %v, want 50 and 57", got)
	}
	if got := h.read(fine, now, 0, 1, nil); got[55] != 7 || got[54] != 0 {
		t.Errorf("the seconds have %v, want 7 in one", got)
	}
	if got := h.read(coarse, now+keep+coarseStep, 0, 1, nil); got != nil {
		t.Errorf("15 minutes later there is %v", got)
	}
}

func TestBounds(t *testing.T) {
	f := newFeed()
	release := f.watch()
	defer release()
	for pid := range int64(maxProcesses + 100) {
		f.processes = append(f.processes, fed{pid: pid + 1, comm: "p", dev: "lo", amounts: amounts{1, 1, 1, 1}})
	}
	for range 3 {
		for i := range f.processes {
			f.processes[i].amounts.add(amounts{1, 1, 1, 1})
		}
		f.second()
	}
	for range maxAccepts + 10 {
		f.accept(f.processes[0], "127.0.0.1:80", "127.0.0.1:4000")
	}
	for range maxCalls + 10 {
		f.call(f.processes[0], "slow", "", span{-1, "connect", 0, 10}, span{0, "a", 1, 2})
	}
	s := f.state(t, "?n=10")
	if len(s.Processes) != 10 || s.ProcessesLeftOut != maxProcesses-10 || len(s.Accepts) != 10 || s.AcceptsLeftOut != maxAccepts-10 || len(s.Calls) != 10 {
		t.Errorf("it has %d processes and %d more, %d accepts, %d calls", len(s.Processes), s.ProcessesLeftOut, len(s.Accepts), len(s.Calls))
	}
	dropped := s.Health.View.Dropped
	if dropped["processes"] < 100 || dropped["accepts"] != 10 || dropped["calls"] != 10 {
		t.Errorf("it says that it dropped %v", dropped)
	}
	if s.Health.View.MemoryBytes > 30<<20 {
		t.Errorf("it holds %d bytes", s.Health.View.MemoryBytes)
	}
}
