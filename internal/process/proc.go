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

	// patience is how long to wait for a process that does not supply its command line.
	patience   = 100 * time.Millisecond
	maxReading = 8 // how many of these are waited for at a time

	deleted = " (deleted)" // suffix of the path of a file or cgroup that was removed
)

// proc reads /proc. A container that shares the host's pid namespace sees all processes of the
// machine in its own /proc.
type proc struct {
	path     string
	reading  chan struct{} // has one element for each command line that is being read
	relative func() bool   // paths of cgroups there are relative to a container's cgroup

	open  sync.Once
	files procfs.FS
	err   error // why /proc cannot be read
}

// living is what /proc tells about a process while it lives, and empty afterwards.
type living struct {
	executable  string // path; empty unless it is the executable that the kernel side has seen
	commandLine string
	parentPID   int
	vpid        int
	cgroup      string   // v2 path, empty if it is not known
	cgroups     []string // paths in other hierarchies, and relative ones
}

// find returns the process if it still lives. A later process with the same pid has another start
// time.
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

// read returns what /proc tells about id, and nothing if that may be about another process.
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
			continue // systemd delegates parts of this hierarchy to users
		}
		l.cgroups = append(l.cgroups, path)
	}
}

// readExecutable reads what an exec changes. If there was one since the kernel side met the
// process, this belongs to the next identity and is left out.
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

// commandLine returns the arguments of a process, or none if they are not known. They are in the
// process's memory, and if the process serves that page itself, reading takes as long as it
// wishes. So this waits for a short time only, and not at all if it already waits for many.
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

// isExecutable reports whether the kernel side may have seen name, which it cuts, as seen.
func isExecutable(seen, name string) bool {
	return name == seen || seen == "" || len(seen) == maxExecutable && strings.HasPrefix(name, seen)
}

func cut(s string, limit int) string {
	return s[:min(len(s), limit)]
}
