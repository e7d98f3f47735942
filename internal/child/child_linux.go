// SPDX-License-Identifier: Apache-2.0

package child

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts the command, as its own Start does. The kernel kills the process when this one has ended.
// It would also do so when the thread ends that has started it, so that thread is kept as long as the
// process runs.
//
// Source: PR_SET_PDEATHSIG in prctl(2). The kernel forgets it if the process changes its user.
func Start(command *exec.Cmd) error {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			awaitEnd(command.Process.Pid)
		}
	}()
	return <-started
}

// awaitEnd returns when a process has ended, for which somebody else waits, too.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
