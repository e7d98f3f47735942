// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func runProgram(t *testing.T, image []byte, change func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	command := exec.Command(kerneltest.WriteProgram(t, image))
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

func TestKernelReportsAcceptsOf32BitCalls(t *testing.T) {
	kerneltest.Require32Bit(t)
	const accept4, socketcall = 364, 102
	const acceptCall, accept4Call = 5, 18
	listening := binary.LittleEndian.AppendUint32(nil, listenerFD)
	listening = append(listening, make([]byte, 12)...)
	once := func(bits int, number uint32, arguments ...uint32) []byte {
		return kerneltest.Program32(bits, slices.Concat(kerneltest.Call32(number, arguments...), kerneltest.Exit32))
	}
	bySocketcall := func(number uint32) []byte {
		call := kerneltest.Call32(socketcall, number, kerneltest.DataAddress32)
		return kerneltest.Program32(32, kerneltest.WithData(listening, slices.Concat(call, kerneltest.Exit32)))
	}
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		for name, image := range map[string][]byte{
			"accept4 by a 32-bit program":          once(32, accept4, listenerFD, 0, 0, 0),
			"accept by way of socketcall":          bySocketcall(acceptCall),
			"accept4 by way of socketcall":         bySocketcall(accept4Call),
			"a 32-bit accept4 by a 64-bit program": once(64, accept4, listenerFD, 0, 0, 0),
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
	kerneltest.Require32Bit(t)
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
		caller := runProgram(t, kerneltest.Program32(32, slices.Concat(kerneltest.Call32(keyctl, capabilities, 0, 0), kerneltest.Exit32)), func(c *exec.Cmd) {
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
