// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// loaded has the objects of this process whose programs are timed.
var loaded = struct {
	sync.Mutex
	objects map[*Object]bool
}{objects: map[*Object]bool{}}

// note adds the object to those whose programs are timed, until it is closed.
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

// RunTime lets the kernel time BPF programs while wait runs. ran is how long those programs ran
// that [Load] loaded in this process and that are attached to hooks, on all processors together;
// during is how long they were observed. Programs that user space runs are not included, as they
// are part of its own time.
//
// The kernel times programs only during this call, because it then reads the clock twice for each
// run. This needs CAP_SYS_ADMIN, unless the operator has set kernel.bpf_stats_enabled. Otherwise
// the error matches [os.ErrPermission].
//
// Source: bpf_enable_stats in kernel/bpf/syscall.c, since Linux 5.8.
func RunTime(wait func()) (ran, during time.Duration, err error) {
	timing, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil && !timesAnyway() {
		return 0, 0, fmt.Errorf("let the kernel time programs: %w", errors.Join(err, host.RequireHeld(host.CapSysAdmin)))
	}
	if timing != nil {
		defer func() { err = errors.Join(err, timing.Close()) }()
	}
	begun := time.Now()
	before, err := runTimes()
	if err != nil {
		return 0, 0, err
	}
	wait()
	// the same for each program, as reading them takes equally long before and after
	during = time.Since(begun)
	after, err := runTimes()
	for program, at := range after {
		if was, ok := before[program]; ok {
			ran += at - was
		}
	}
	return ran, during, err
}

// timesAnyway reports whether the operator lets the kernel time programs all the time.
func timesAnyway() bool {
	enabled, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled")
	return err == nil && strings.TrimSpace(string(enabled)) == "1"
}

func runTimes() (map[*ebpf.Program]time.Duration, error) {
	loaded.Lock()
	defer loaded.Unlock()
	times := map[*ebpf.Program]time.Duration{}
	for object := range loaded.objects {
		for name, program := range object.Programs {
			if isRunByUs(object.sections[name]) {
				continue
			}
			stats, err := program.Stats()
			if err != nil {
				return nil, fmt.Errorf("see how long %s ran: %w", name, err)
			}
			times[program] = stats.Runtime
		}
	}
	return times, nil
}

// ThreadTime returns the CPU time that the running thread has used, in user mode and in the
// kernel.
func ThreadTime() time.Duration {
	var taken unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &taken); err != nil {
		return 0
	}
	return time.Duration(taken.Nano())
}
