// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/cgroups"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/otlptest"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

const patience = kerneltest.Patience

// lab is the instrument, running on this machine's kernel.
type lab struct {
	mu       sync.Mutex // for Collect, which must not be called concurrently
	traffic  *Traffic
	recorder *stats.Recorder
	cgroups  *cgroups.Cgroups
	ended    publication     // all points so far that ended their series
	sent     map[int64]int64 // how many sent bytes were last published of each process, by pid
	reader   *consumer       // it reads everything that is published; nil unless a test wants it
}

// publication is what one collection published.
type publication []point

// point is one data point.
type point struct {
	metric     string
	attributes map[string]any // of its resource and its own
	value      int64
	start      time.Time
	ended      bool // NoRecordedValue
}

// place is an interface, by the inode of its network namespace.
type place struct {
	netns int64
	name  string
}

// observe starts a lab, which ends with the test.
func observe(t *testing.T, options owner.Options) *lab {
	t.Helper()
	l, owners := newLab(options)
	kerneltest.Start(t, l.cgroups)
	kerneltest.Start(t, owners)
	kerneltest.Start(t, l.traffic.interfaces)
	kerneltest.Start(t, l.traffic)
	return l
}

// shared are the labs of all tests that do not need their own, by the hooks that they avoid.
var shared = map[string]*lab{}

// share returns a lab that other tests also use, one after another, because starting one takes time. It avoids those of
// the hooks that this kernel has.
func share(t *testing.T, avoid ...string) *lab {
	t.Helper()
	avoid = slices.DeleteFunc(avoid, func(hook string) bool { return kernel.Probe(hook) != nil })
	avoided := strings.Join(avoid, " ")
	if shared[avoided] == nil {
		l, owners := newLab(owner.Options{MaxProcesses: 4096, AvoidHooks: avoid})
		kerneltest.Run(t, l.cgroups)
		kerneltest.Run(t, owners)
		kerneltest.Run(t, l.traffic.interfaces)
		kerneltest.Run(t, l.traffic)
		if err := l.traffic.claimForwarded(); err != nil { // as on a host that has forwarding switched on
			t.Fatal(err)
		}
		shared[avoided] = l
	}
	return shared[avoided]
}

func newLab(options owner.Options) (*lab, *owner.Owners) {
	owners := owner.New(options)
	l := &lab{recorder: new(stats.Recorder), cgroups: cgroups.New(nil, new(stats.Recorder)), sent: map[int64]int64{}}
	c := clock.New()
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.ResourceAttributes.ProcessCommandLine.Enabled = true
	config.ResourceAttributes.ProcessExecutablePath.Enabled = true
	config.ResourceAttributes.ProcessLinuxCgroup.Enabled = true
	config.ResourceAttributes.ProcessParentPid.Enabled = true
	config.ResourceAttributes.ProcessVpid.Enabled = true
	processes := process.NewDirectory("", c)
	processes.ReadCommandLines = true
	processes.WatchCgroups(l.cgroups)
	builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
	l.traffic = New(builder, owners, interfaces.New().NewReader(), processes, c, l.recorder, Options{AllNamespaces: true})
	return l, owners
}

// collect makes a collection, and returns what it publishes.
func (l *lab) collect(t *testing.T) publication {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	metrics, err := l.traffic.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.traffic.Delivered()
	if l.reader != nil {
		l.reader.read(metrics, time.Now())
	}
	points := pointsOf(metrics)
	for _, point := range points {
		if point.ended {
			l.ended = append(l.ended, point)
		} else if pid, ok := point.attributes["process.pid"].(int64); ok && point.metric == "process.network.io" && point.direction() == "transmit" {
			l.sent[pid] = point.value
		}
	}
	return points
}

func pointsOf(metrics pmetric.Metrics) publication {
	var points publication
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, p := range metric.Sum().DataPoints().All() {
					points = append(points, point{
						metric:     metric.Name(),
						attributes: otlptest.Join(resource.Resource().Attributes(), p.Attributes()),
						value:      p.IntValue(),
						start:      p.StartTimestamp().AsTime(),
						ended:      p.Flags().NoRecordedValue(),
					})
				}
			}
		}
	}
	return points
}

func (p point) place() place {
	netns, _ := p.attributes["nettap.netns.inode"].(int64)
	name, _ := p.attributes["network.interface.name"].(string)
	return place{netns: netns, name: name}
}

func (p point) direction() string { return p.attributes["network.io.direction"].(string) }

// accounts returns the accounts of an interface, by direction and account, such as "receive process".
func (p publication) accounts(at place) map[string]quantity {
	accounts := map[string]quantity{}
	for _, point := range p {
		if point.ended || point.place() != at {
			continue
		}
		account, _ := point.attributes["nettap.account"].(string)
		key := point.direction() + " " + account
		q := accounts[key]
		switch point.metric {
		case "nettap.interface.io":
			q.bytes = uint64(point.value)
		case "nettap.interface.packet.count":
			q.packets = uint64(point.value)
		default:
			continue
		}
		accounts[key] = q
	}
	return accounts
}

// unobserved returns what the interface has counted and no account has, in the order packets transmitted
// and received, bytes transmitted and received. It is nil if that is not known.
func (p publication) unobserved(at place) []int64 {
	index := map[string]int{
		"nettap.interface.unobserved.packet.count transmit": 0,
		"nettap.interface.unobserved.packet.count receive":  1,
		"nettap.interface.unobserved.io transmit":           2,
		"nettap.interface.unobserved.io receive":            3,
	}
	var all []int64
	for _, point := range p {
		i, ok := index[point.metric+" "+point.direction()]
		if !ok || point.ended || point.place() != at {
			continue
		}
		if all == nil {
			all = make([]int64, len(index))
		}
		all[i] = point.value
	}
	return all
}

// processesOn returns the pids that have series of an interface of this name.
func (p publication) processesOn(device string) map[int]bool {
	pids := map[int]bool{}
	for _, point := range p {
		if pid, ok := point.attributes["process.pid"].(int64); ok && point.place().name == device {
			pids[int(pid)] = true
		}
	}
	return pids
}

// usage returns what a process moved through the interfaces with a name, by direction. "" means any name.
func (p publication) usage(pid int, device string) map[string]quantity {
	usage := map[string]quantity{}
	for _, point := range p {
		if point.ended || point.attributes["process.pid"] != int64(pid) || device != "" && point.place().name != device {
			continue
		}
		q := usage[point.direction()]
		switch point.metric {
		case "process.network.io":
			q.bytes += uint64(point.value)
		case "nettap.process.network.packet.count":
			q.packets += uint64(point.value)
		}
		usage[point.direction()] = q
	}
	return usage
}

// counterOf reads the own counter of an interface.
func counterOf(t *testing.T, namespace, device string) counter {
	t.Helper()
	var c counter
	kerneltest.InNamespace(t, namespace, func() {
		link, err := netlink.LinkByName(device)
		if err != nil {
			t.Fatalf("find %s: %v", device, err)
		}
		s := link.Attrs().Statistics
		c = counter{
			bpfDirectionTRANSMIT: {packets: s.TxPackets, bytes: s.TxBytes},
			bpfDirectionRECEIVE:  {packets: s.RxPackets, bytes: s.RxBytes},
		}
	})
	return c
}

// in returns the key of the interface in the instrument.
func in(t *testing.T, namespace, device string) place {
	t.Helper()
	info, err := os.Stat(filepath.Join("/run/netns", namespace))
	if err != nil {
		t.Fatal(err)
	}
	return place{netns: int64(info.Sys().(*syscall.Stat_t).Ino), name: device}
}

// total returns the sum of accounts.
func total(accounts map[string]quantity) counter {
	var sums counter
	for key, q := range accounts {
		direction := bpfDirectionRECEIVE
		if key[0] == 't' {
			direction = bpfDirectionTRANSMIT
		}
		sums[direction].add(q)
	}
	return sums
}

// balanced waits until the sums of the accounts of all ends equal their counters. The interfaces must be
// younger than the instrument, and their namespaces must have a process.
func (l *lab) balanced(t *testing.T, ends ...kerneltest.Namespace) publication {
	t.Helper()
	var published publication
	eventually(t, "the accounts are the counters", func() string {
		before := countersOf(t, ends)
		published = l.collect(t)
		if !slices.Equal(countersOf(t, ends), before) {
			return "the interfaces are not at rest"
		}
		for i, end := range ends {
			at := in(t, end.Name, end.Device)
			if diff := differences(before[i], published.accounts(at)); diff != "" {
				return fmt.Sprintf("%s: %s\nlost on the machine: %v\nin the kernel: %v", end.Device, diff, l.recorder.Read().Lost, l.rawCounts(end.Device))
			}
			want := []int64{0, 0, 0, 0}
			if before[i] == (counter{}) {
				want = nil // an interface that has moved nothing has no series
			}
			if diff := cmp.Diff(want, published.unobserved(at)); diff != "" {
				return end.Device + ": something is unobserved: " + diff
			}
		}
		return ""
	})
	return published
}

// rawCounts returns what the kernel's maps have of an interface, by direction and account.
func (l *lab) rawCounts(device string) map[bpfDirection]map[bpfAccount]bpfCount {
	raw := map[bpfDirection]map[bpfAccount]bpfCount{bpfDirectionTRANSMIT: {}, bpfDirectionRECEIVE: {}}
	l.mu.Lock()
	defer l.mu.Unlock()
	counts, err := l.traffic.readAccounts()
	if err != nil {
		return nil
	}
	for key, c := range counts {
		if l.traffic.ledger.entryOf(key.iface()).name() == device {
			raw[key.Direction][key.Account] = c
		}
	}
	return raw
}

func countersOf(t *testing.T, ends []kerneltest.Namespace) []counter {
	t.Helper()
	counters := make([]counter, len(ends))
	for i, end := range ends {
		counters[i] = counterOf(t, end.Name, end.Device)
	}
	return counters
}

func differences(want counter, accounts map[string]quantity) string {
	diff := cmp.Diff(want, total(accounts), cmp.AllowUnexported(quantity{}))
	if diff == "" {
		return ""
	}
	return fmt.Sprintf("counter and accounts differ (-counter +accounts):\n%s\naccounts: %+v", diff, accounts)
}

// eventually calls differ until it returns "", and fails the test if that takes longer than patience.
func eventually(t *testing.T, what string, differ func() string) {
	t.Helper()
	var diff string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if diff = differ(); diff == "" {
			return
		}
	}
	t.Errorf("waited %v in vain until %s: %s", patience, what, diff)
}
