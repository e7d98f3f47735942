// SPDX-License-Identifier: Apache-2.0

package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts the command, as its own Start does. The kernel kills the process when this one has ended.
// It would also do so when the thread ends that has started it, so a thread is kept for that as long as the
// process runs. It is in the network namespace of the caller's thread.
//
// Source: PR_SET_PDEATHSIG in prctl(2). The kernel forgets it if the process changes its user.
func Start(command *exec.Cmd) error {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	here, err := os.Open(networkNamespace)
	if err != nil {
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // until the goroutine ends, and the thread with it: no other one may get its namespace
		err := enter(here)
		if err == nil {
			err = command.Start()
		}
		started <- err
		if err == nil {
			awaitEnd(command.Process.Pid)
		}
	}()
	return errors.Join(<-started, here.Close())
}

const networkNamespace = "/proc/thread-self/ns/net"

// enter lets the thread enter a network namespace, if it is in another one.
func enter(namespace *os.File) error {
	wanted, err := namespace.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(networkNamespace)
	if err != nil || os.SameFile(wanted, now) {
		return err
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	return nil
}

// awaitEnd returns when a process has ended, for which somebody else waits, too.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
