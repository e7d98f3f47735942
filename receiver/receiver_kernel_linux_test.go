package nettapreceiver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/goleak"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

func TestKernelShutdownAndRestartLeaveNothing(t *testing.T) {
	kerneltest.Require(t)
	startAndShutDown(t) // what a process keeps for good: the poller's descriptors, the kernel's BTF
	before := openFiles(t)

	for range 3 {
		seen := startAndShutDown(t)
		if len(seen["map"]) < 5 || len(seen["prog"]) < 5 || len(seen["link"]) < 5 {
			t.Errorf("while it ran there were %v, want several of each kind", seen)
		}
		for kind, ids := range seen {
			for _, id := range ids {
				awaitGone(t, kind, id)
			}
		}
	}

	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, and were %d before", after, before)
	}
	goleak.VerifyNone(t)
}

// startAndShutDown runs a receiver of both signals, and returns the BPF objects
// that it had, by kind.
func startAndShutDown(t *testing.T) map[string][]uint32 {
	t.Helper()
	factory, config := NewFactory(), createDefaultConfig()
	settings := receivertest.NewNopSettings(metadata.Type)
	metrics, err := factory.CreateMetrics(t.Context(), settings, config, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	logs, err := factory.CreateLogs(t.Context(), settings, config, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []component.Component{metrics, logs} {
		if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
	}
	seen := kernelObjects(t)
	for _, signal := range []component.Component{metrics, logs} {
		if err := signal.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return seen
}

var objectID = regexp.MustCompile(`(?m)^(map|prog|link)_id:\s*(\d+)$`)

// kernelObjects returns the ids of the BPF objects this process has open.
func kernelObjects(t *testing.T) map[string][]uint32 {
	t.Helper()
	objects := map[string][]uint32{}
	for _, descriptor := range descriptors(t) {
		target, err := os.Readlink("/proc/self/fd/" + descriptor)
		if err != nil || !strings.HasPrefix(target, "anon_inode:bpf") {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + descriptor)
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.Trim(strings.TrimPrefix(target, "anon_inode:bpf"), "-_")
		for _, found := range objectID.FindAllStringSubmatch(string(info), -1) {
			if found[1] != kind {
				continue // of a link: the program it links
			}
			var id uint32
			if _, err := fmt.Sscan(found[2], &id); err != nil {
				t.Fatal(err)
			}
			objects[kind] = append(objects[kind], id)
		}
	}
	return objects
}

// awaitGone waits until the kernel has freed an object, which it does a little
// after its last user has gone. cilium/ebpf maps the memory of .bss and .data into
// this process, and Go's garbage collector undoes that.
func awaitGone(t *testing.T, kind string, id uint32) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		err := find(kind, id)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatalf("look for %s %d: %v", kind, id, err)
		}
		if time.Now().After(deadline) {
			t.Errorf("%s %d is still there", kind, id)
			return
		}
	}
}

func find(kind string, id uint32) error {
	switch kind {
	case "map":
		found, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			return err
		}
		return found.Close()
	case "prog":
		found, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			return err
		}
		return found.Close()
	default:
		found, err := link.NewFromID(link.ID(id))
		if err != nil {
			return err
		}
		return found.Close()
	}
}

func openFiles(t *testing.T) int { return len(descriptors(t)) }

func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
