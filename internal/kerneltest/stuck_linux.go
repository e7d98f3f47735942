// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stuckEnv tells a test's program to become the process with the stuck page.
const stuckEnv = "NETTAP_TEST_STUCK_PAGE"

// StartStuck starts a process with a page of memory on which every reader waits while the process
// exists. The page belongs to a file that the process serves itself by FUSE, but does not. It
// contains code and the command line of the process. The process runs the test's own program,
// whose TestMain calls [BeStuck].
func StartStuck(t *testing.T) (pid int) {
	t.Helper()
	directory := t.TempDir()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), stuckEnv+"="+directory)
	output := OutputOf(t, command)
	t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_DETACH) })
	StartProgram(t, command)
	// it is busy; readers that wait for an answer get an error
	t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_FORCE) })
	if line := output.Line(); line != "ready" {
		t.Fatalf("a process with a stuck page: %s", line)
	}
	return command.Process.Pid
}

// BeStuck makes this process that of [StartStuck], if it was started as such.
func BeStuck() {
	directory := os.Getenv(stuckEnv)
	if directory == "" {
		return
	}
	if err := makeStuckPage(directory); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// If the test is killed, one of its threads waits for the page and keeps the other end of
	// our input open, so this process has to end first.
	time.AfterFunc(30*time.Second, func() { os.Exit(0) })
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func makeStuckPage(directory string) error {
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	if err := unix.Mount("nettap", directory, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server)); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	var silent atomic.Bool
	go serve(server, &silent)
	file, err := unix.Open(filepath.Join(directory, "page"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the page: %w", err)
	}
	page, err := unix.Mmap(file, 0, pageBytes, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	if err := unix.Close(file); err != nil { // which waits for an answer as well
		return fmt.Errorf("close the page: %w", err)
	}
	silent.Store(true)
	start := uint64(uintptr(unsafe.Pointer(&page[0])))
	return moveCommandLine(start, start+64)
}

const pageBytes = 4096

// The requests of FUSE that are answered.
//
// Source: include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseOpen    = 14
	fuseInit    = 26
)

// serve answers all requests until it is to be silent.
func serve(server int, silent *atomic.Bool) {
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(server, request)
		if err != nil || n < 40 {
			return
		}
		if silent.Load() {
			continue
		}
		kind, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[16:])
		answer := make([]byte, 16, 256) // size, error, id of the request
		copy(answer[8:], request[8:16])
		answer = append(answer, answerTo(kind, node)...)
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		_, _ = unix.Write(server, answer) // some requests want no answer
	}
}

// answerTo returns the answer of a directory with number 1, which has one file.
func answerTo(kind uint32, node uint64) []byte {
	var answer []byte
	word := func(values ...uint64) {
		for _, value := range values {
			answer = binary.NativeEndian.AppendUint64(answer, value)
		}
	}
	const forever = 1 << 30 // seconds
	switch kind {
	case fuseInit:
		answer = binary.NativeEndian.AppendUint32(answer, 7) // version 7.31
		answer = binary.NativeEndian.AppendUint32(answer, 31)
		return append(answer, make([]byte, 56)...)
	case fuseLookup:
		word(2, 0, forever, forever, 0)
		return append(answer, attributes(2)...)
	case fuseGetattr:
		word(forever, 0)
		return append(answer, attributes(node)...)
	case fuseOpen:
		word(0, 0)
	}
	return answer
}

// attributes is struct fuse_attr.
func attributes(node uint64) []byte {
	const directory, file = unix.S_IFDIR | 0o755, unix.S_IFREG | 0o755
	attributes := make([]byte, 88)
	binary.NativeEndian.PutUint64(attributes, node)
	binary.NativeEndian.PutUint64(attributes[8:], pageBytes)
	mode := uint32(file)
	if node == 1 {
		mode = directory
	}
	binary.NativeEndian.PutUint32(attributes[60:], mode)
	binary.NativeEndian.PutUint32(attributes[64:], 1)
	return attributes
}

// memoryMap is struct prctl_mm_map.
type memoryMap struct {
	startCode, endCode, startData, endData, startBreak, breaks, startStack uint64
	argStart, argEnd, envStart, envEnd                                     uint64
	_                                                                      uint64
	_, executable                                                          uint32
}

// moveCommandLine tells the kernel that the arguments are at another address, which needs no
// capability if everything else stays the same.
func moveCommandLine(start, end uint64) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	field := func(number int) uint64 { // numbered as in proc_pid_stat(5)
		n, _ := strconv.ParseUint(words[number-3], 10, 64)
		return n
	}
	breaks, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	m := memoryMap{
		startCode: field(26), endCode: field(27), startStack: field(28), startData: field(45), endData: field(46),
		startBreak: field(47), breaks: uint64(breaks), argStart: start, argEnd: end, envStart: field(50), envEnd: field(51),
		executable: ^uint32(0),
	}
	_, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(&m)), unsafe.Sizeof(m), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("PR_SET_MM_MAP", errno)
	}
	return nil
}
