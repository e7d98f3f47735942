// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func init() {
	testsOfArchitecture = []callTest{{"that fail in 32 bits", failuresOf32Bits}}
}

// The descriptors of the sockets in the program of failuresOf32Bits.
const tcp32, udp32, udp32v6, stream32 = 3, 4, 5, 6

// failuresOf32Bits has a program make 32-bit calls that fail. Each must say where to, and the filters
// must see that.
func failuresOf32Bits(t testing.TB, o *fixture) {
	kerneltest.Require32Bit(t)
	for name, filter := range map[string]Filter{"all": {}, "a port": {Ports: []uint16{9}}} {
		var want []reported
		var caller int
		onThread(func() {
			s := newSocketsThatFail(t)
			image, calls := o.failingProgram(s)
			filter.PIDs, filter.Commands = []uint32{}, []string{"calls32"}
			o.want(t, Options{MinDuration: time.Hour, Errors: Errnos{All: true}, Filter: filter})
			command := exec.Command(kerneltest.WriteProgram(t, image))
			for _, fd := range []int{s.tcp, s.udp, s.udp6, s.stream} {
				command.ExtraFiles = append(command.ExtraFiles, os.NewFile(uintptr(must(unix.Dup(fd))), "socket"))
			}
			if err := command.Run(); err != nil {
				t.Error(err)
			}
			for _, file := range command.ExtraFiles {
				file.Close()
			}
			caller = command.Process.Pid
			for _, r := range calls {
				if o.functions() && (filter.Ports == nil || strings.HasSuffix(r.Where, ":9")) {
					want = append(want, r)
				}
			}
		})
		if diff := gocmp.Diff(want, o.reported(t, caller)); diff != "" {
			t.Errorf("calls that fail, filtered by %s, differ (-want +got):\n%s", name, diff)
		}
	}
}

// failingProgram returns a program that makes calls that fail, and what must be reported of these.
func (o *fixture) failingProgram(s socketsThatFail) (image []byte, want []reported) {
	const socketcall = 102
	var data, code bytes.Buffer
	put := func(value any) (address, length uint32) {
		address = kerneltest.DataAddress32 + uint32(data.Len())
		if err := binary.Write(&data, binary.LittleEndian, value); err != nil {
			panic(err)
		}
		return address, kerneltest.DataAddress32 + uint32(data.Len()) - address
	}
	in4, in4Length := put(rawNowhere)
	in6, in6Length := put(rawNowhere6)
	raw, pathLength := rawPath(s.path)
	path, _ := put(raw)
	vector, _ := put([]uint32{in4, 1})
	message, _ := put([]uint32{in4, in4Length, vector, 1, 0, 0, 0, 0}) // with the length that sendmmsg writes
	for _, f := range []struct {
		number, socketcall uint32
		arguments          []uint32
		error, where       string
		few                bool // it is seen where only few functions are
	}{
		{362, 3, []uint32{tcp32, in4, in4Length}, "ENETUNREACH", "192.0.2.1:9", true},
		{362, 3, []uint32{udp32v6, in6, in6Length}, "ENETUNREACH", "[2001:db8::1]:9", true},
		{362, 3, []uint32{stream32, path, uint32(pathLength)}, "ENOENT", s.path, true},
		{369, 11, []uint32{udp32, in4, 1, 0, in4, in4Length}, "ENETUNREACH", "192.0.2.1:9", true},
		{370, 16, []uint32{udp32, message, 0}, "ENETUNREACH", "192.0.2.1:9", true},
		{345, 20, []uint32{udp32, message, 1, 0}, "ENETUNREACH", "192.0.2.1:9", true},
		{361, 2, []uint32{tcp32, in4, in4Length}, "EADDRNOTAVAIL", "192.0.2.1:9", false},
	} {
		if o.functions() && o.few && !f.few {
			continue
		}
		code.Write(kerneltest.Call32(f.number, f.arguments...))
		arguments, _ := put(f.arguments)
		code.Write(kerneltest.Call32(socketcall, f.socketcall, arguments))
		r := reported{Kept: "failed", Error: f.error, Failed: true, Where: f.where}
		want = append(want, r, r)
	}
	code.Write(kerneltest.Call32(1, 0)) // exit
	return kerneltest.Program32(32, kerneltest.WithData(data.Bytes(), slices.Clone(code.Bytes()))), want
}
