// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Programs that make 32-bit system calls are loaded here. The numbers of these calls mean other
// calls in 64 bits: accept4 is 364, socketcall 102, and keyctl 288, which is accept4 in 64 bits.
const loadAddress = 0x08048000

var (
	callKernel = []byte{0xcd, 0x80}                               // int $0x80
	exitWithIt = []byte{0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80} // mov %eax, %ebx; mov $1, %eax; int $0x80
)

// call32 makes a system call and exits with what it returns.
func call32(number, first, second, third, fourth uint32) []byte {
	var code []byte
	for opcode, value := range map[byte]uint32{0xb8: number, 0xbb: first, 0xb9: second, 0xba: third, 0xbe: fourth} {
		code = binary.LittleEndian.AppendUint32(append(code, opcode), value) // mov $value, %eax, %ebx, %ecx, %edx, %esi
	}
	return slices.Concat(code, callKernel, exitWithIt)
}

// program returns an executable whose code is at the address after its headers.
func program(bits int, code []byte) []byte {
	le := binary.LittleEndian
	class, machine, header, segment := byte(1), uint16(3), 52, 32
	if bits == 64 {
		class, machine, header, segment = 2, 62, 64, 56
	}
	word := func(b []byte, value uint64) []byte {
		if bits == 64 {
			return le.AppendUint64(b, value)
		}
		return le.AppendUint32(b, uint32(value))
	}
	start, size := uint64(header+segment), uint64(header+segment+len(code))

	b := append([]byte{0x7f, 'E', 'L', 'F', class, 1, 1}, make([]byte, 9)...)
	b = le.AppendUint16(le.AppendUint16(b, 2), machine)
	b = le.AppendUint32(b, 1)
	b = word(word(word(b, loadAddress+start), uint64(header)), 0)
	b = le.AppendUint32(b, 0)
	for _, half := range []uint16{uint16(header), uint16(segment), 1, 0, 0, 0} {
		b = le.AppendUint16(b, half)
	}
	const load, readWriteExecute = 1, 7
	b = le.AppendUint32(b, load)
	if bits == 64 {
		b = le.AppendUint32(b, readWriteExecute)
	}
	b = word(word(word(word(word(b, 0), loadAddress), loadAddress), size), size)
	if bits == 32 {
		b = le.AppendUint32(b, readWriteExecute)
	}
	return append(word(b, 0x1000), code...)
}

func writeProgram(t *testing.T, image []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "calls32")
	if err := os.WriteFile(path, image, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func runProgram(t *testing.T, image []byte, change func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	command := exec.Command(writeProgram(t, image))
	change(command)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	return command
}

// require32Bit skips the test if the kernel has no 32-bit system calls.
func require32Bit(t *testing.T) {
	t.Helper()
	const exit = 1
	path := writeProgram(t, program(32, call32(exit, 0, 0, 0, 0)))
	if err := exec.Command(path).Run(); err != nil {
		t.Skipf("this kernel runs no 32-bit programs: %v", err)
	}
}

func TestKernelReportsAcceptsOf32BitCalls(t *testing.T) {
	require32Bit(t)
	const accept4, socketcall = 364, 102
	const acceptCall, accept4Call = 5, 18
	const arguments = loadAddress + 52 + 32 // where a 32-bit program's code starts
	listening := binary.LittleEndian.AppendUint32(nil, listenerFD)
	listening = append(listening, make([]byte, 12)...)
	withArguments := func(code []byte) []byte {
		jump := []byte{0xeb, byte(len(listening))} // past the arguments
		return slices.Concat(jump, listening, code)
	}
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		for name, image := range map[string][]byte{
			"accept4 by a 32-bit program":          program(32, call32(accept4, listenerFD, 0, 0, 0)),
			"accept by way of socketcall":          program(32, withArguments(call32(socketcall, acceptCall, arguments+2, 0, 0))),
			"accept4 by way of socketcall":         program(32, withArguments(call32(socketcall, accept4Call, arguments+2, 0, 0))),
			"a 32-bit accept4 by a 64-bit program": program(64, call32(accept4, listenerFD, 0, 0, 0)),
		} {
			t.Run(name, func(t *testing.T) {
				o := observe(t)
				listener, address := listen(t, "127.0.0.1:0")
				server := runProgram(t, image, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{listener} })
				client, err := net.DialTimeout("tcp", address.String(), patience)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(client); err != nil {
					t.Fatal(err)
				}
				o.expect(t, []connection{{
					client: unmapped(client.LocalAddr()), server: address,
					by: greeting{PID: server.Process.Pid, TID: server.Process.Pid, Comm: "calls32"},
				}}, address.Port())
			})
		}
	})
}

func TestKernelDoesNotTakeOther32BitCallsForAccept(t *testing.T) {
	require32Bit(t)
	const keyctl, capabilities = 288, 31 // returns 2, the number of bytes of its answer
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		_, address := listen(t, "127.0.0.1:0")
		client, err := net.DialTimeout("tcp", address.String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		connection, err := client.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()

		o := observe(t)
		caller := runProgram(t, program(32, call32(keyctl, capabilities, 0, 0, 0)), func(c *exec.Cmd) {
			c.Stdin, c.Stdout, c.Stderr = connection, connection, connection // fd 2 is TCP
		})
		caller.Wait()
		if result := caller.ProcessState.ExitCode(); result < 0 || result > 2 {
			t.Skipf("keyctl returned %d, and no fd of the program's", result)
		}
		o.collect(t)
		for _, s := range o.records {
			if s.PID == int64(caller.Process.Pid) {
				t.Errorf("reported %q for keyctl", s.Body)
			}
		}
	})
}
