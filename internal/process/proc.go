// SPDX-License-Identifier: Apache-2.0

package process

import (
	"path"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
)

const (
	nanosPerTick = 10_000_000 // USER_HZ is 100 wherever Linux runs BPF

	maxExecutable  = 63   // bytes of Seen.Executable
	maxCommandLine = 4096 // bytes

	patience   = 100 * time.Millisecond // with who does not hand out its command line
	maxReading = 8                      // that are waited for at a time

	deleted = " (deleted)" // behind the path of a file or cgroup that is gone
)

// proc reads /proc. It is the machine's own even in a container, which sees all
// processes there as soon as it shares the host's pid namespace.
type proc struct {
	path     string
	reading  chan struct{} // as many as command lines are being read
	relative func() bool   // paths of cgroups there are relative to a container's

	open  sync.Once
	files procfs.FS
	err   error // there is none
}

// living is what /proc says of a process while it lives, and empty afterwards.
type living struct {
	executable  string // path; empty unless it is the one the kernel side has seen
	commandLine string
	parentPID   int
	vpid        int
	cgroup      string   // v2 path, empty when it is unknown
	cgroups     []string // paths in other hierarchies, and relative ones
}

// find returns the process while it lives. A process that later got its pid is
// another one: it does not have the same start time.
func (p *proc) find(id ID) (process procfs.Proc, stat procfs.ProcStat, ok bool) {
	p.open.Do(func() { p.files, p.err = procfs.NewFS(p.path) })
	if p.err != nil || id.PID == 0 {
		return process, stat, false
	}
	process, err := p.files.Proc(int(id.PID))
	if err != nil {
		return process, stat, false
	}
	stat, err = process.Stat()
	return process, stat, err == nil && stat.Starttime == id.StartNanos/nanosPerTick
}

// read returns what /proc says of id, and nothing when that may be about another process.
func (p *proc) read(id ID, seen Seen, withCommandLine bool) living {
	process, stat, ok := p.find(id)
	if !ok {
		return living{}
	}
	l := living{parentPID: stat.PPID}
	if status, err := process.NewStatus(); err == nil && len(status.NSpids) > 0 {
		l.vpid = int(status.NSpids[len(status.NSpids)-1])
	}
	l.readCgroups(process, p.relative())
	p.readExecutable(&l, process, seen, withCommandLine)
	if _, _, ok := p.find(id); !ok {
		return living{}
	}
	return l
}

func (l *living) readCgroups(process procfs.Proc, relative bool) {
	cgroups, err := process.Cgroups()
	if err != nil {
		return
	}
	for _, cgroup := range cgroups {
		path := strings.TrimSuffix(cgroup.Path, deleted)
		if cgroup.HierarchyID == 0 && !relative {
			l.cgroup = path
			continue
		}
		if strings.HasPrefix(strings.Join(cgroup.Controllers, ","), "name=") {
			continue // systemd hands out parts of this hierarchy to users
		}
		l.cgroups = append(l.cgroups, path)
	}
}

// readExecutable reads what an exec changes. If there has been one since the
// kernel side met the process, it belongs to the identity that came after.
func (p *proc) readExecutable(l *living, process procfs.Proc, seen Seen, withCommandLine bool) {
	link, err := process.Executable()
	executable := strings.TrimSuffix(link, deleted)
	if err != nil || !isExecutable(seen.Executable, path.Base(executable)) {
		return
	}
	var arguments []string
	if withCommandLine {
		arguments = p.commandLine(process)
	}
	if again, err := process.Executable(); err != nil || again != link {
		return
	}
	l.executable = executable
	l.commandLine = cut(strings.Join(arguments, " "), maxCommandLine)
}

// commandLine returns the arguments of a process, none where they are unknown. They are in
// its memory, and reading that lasts as long as the process wants if it serves the page
// itself: it is waited for a little, and not at all where many are being waited for.
func (p *proc) commandLine(process procfs.Proc) []string {
	select {
	case p.reading <- struct{}{}:
	default:
		return nil
	}
	read := make(chan []string, 1)
	go func() {
		arguments, _ := process.CmdLine()
		read <- arguments
		<-p.reading
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case arguments := <-read:
		return arguments
	case <-timer.C:
		return nil
	}
}

// isExecutable reports whether name may be what the kernel side has seen cut.
func isExecutable(seen, name string) bool {
	return name == seen || seen == "" || len(seen) == maxExecutable && strings.HasPrefix(name, seen)
}

func cut(s string, limit int) string {
	return s[:min(len(s), limit)]
}
