package kernel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// loaded are the objects of this process, whose programs are timed.
var loaded = struct {
	sync.Mutex
	objects map[*Object]bool
}{objects: map[*Object]bool{}}

// note lets the object's programs be timed until it is closed.
func (o *Object) note() {
	loaded.Lock()
	defer loaded.Unlock()
	loaded.objects[o] = true
	o.open = append(o.open, CloseFunc(func() {
		loaded.Lock()
		defer loaded.Unlock()
		delete(loaded.objects, o)
	}))
}

// RunTime lets the kernel time BPF programs while wait runs, and returns how long those
// ran meanwhile that [Load] loaded in this process, on all processors together. The
// kernel times them only so long: it costs each run two readings of the clock. It needs
// CAP_SYS_ADMIN.
//
// Source: bpf_enable_stats in kernel/bpf/syscall.c, since Linux 5.8.
func RunTime(wait func()) (time.Duration, error) {
	timing, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return 0, fmt.Errorf("let the kernel time programs: %w", err)
	}
	before, err := runTimes()
	wait()
	after, errAfter := runTimes()
	var took time.Duration
	for program, at := range after { // one that was loaded meanwhile has no time before
		took += at - before[program]
	}
	return took, errors.Join(err, errAfter, timing.Close())
}

func runTimes() (map[*ebpf.Program]time.Duration, error) {
	loaded.Lock()
	defer loaded.Unlock()
	times := map[*ebpf.Program]time.Duration{}
	var errs error
	for object := range loaded.objects {
		for name, program := range object.Programs {
			stats, err := program.Stats()
			if err != nil {
				errs = errors.Join(errs, fmt.Errorf("see how long %s ran: %w", name, err))
				continue
			}
			times[program] = stats.Runtime
		}
	}
	return times, errs
}
