// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernelProbesReach uses a function that is called by its address, so that no compiler puts it into another one.
func TestKernelProbesReach(t *testing.T) {
	open := func(name string, kind int) Operation {
		return Operation{Name: name, Run: func() error {
			fd, err := unix.Socket(unix.AF_INET, kind, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}}
	}
	udp, tcp := open("UDP", unix.SOCK_DGRAM), open("TCP", unix.SOCK_STREAM)
	t.Run("fentry", func(t *testing.T) {
		const hook = "fexit/udp_init_sock"
		if err := Probe(hook); err != nil {
			t.Skip(err)
		}
		if err := ProbeReach(hook, udp, udp); err != nil {
			t.Errorf("ProbeReach() = %v of what goes through the function", err)
		}
		if err := ProbeReach(hook, udp, tcp); !errors.Is(err, ErrUnsupported) {
			t.Errorf("ProbeReach() = %v of what does not go through the function", err)
		}
	})
}
