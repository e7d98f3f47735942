// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExchangeByteDespiteSignals sends a signal to the thread that waits for the byte.
func TestExchangeByteDespiteSignals(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.SetsockoptTimeval(pair[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	thread, done := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		done <- exchangeByte(int(nowhere.Fd()), pair[1])
	}()
	reader := <-thread
	for range 3 {
		awaitSleep(t, reader)
		if err := unix.Tgkill(os.Getpid(), reader, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // or the last one could come after the byte
	}
	if _, err := unix.Write(pair[0], []byte("!")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// awaitSleep waits until a thread of this process sleeps.
func awaitSleep(t *testing.T, thread int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')'):]), ") S") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("thread %d does not wait: %s", thread, stat)
		}
	}
}
