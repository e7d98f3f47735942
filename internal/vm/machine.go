// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/seed-7756021b/nettap/internal/child"
)

// machine is a kind of virtual machine. It is emulated in software, so no /dev/kvm is needed.
type machine struct {
	qemu    string
	options []string
	console string
}

// machines are the kinds of machines, by architecture as Debian and Go name it.
var machines = map[string]machine{
	"amd64": {
		qemu: "qemu-system-x86_64", console: "ttyS0",
		// otherwise Go would use AVX, which is slow to emulate
		options: []string{"-machine", "q35", "-cpu", "Nehalem,+rdrand"},
	},
	"arm64": {
		qemu: "qemu-system-aarch64", console: "ttyAMA0",
		// The processor of many servers. To emulate what newer ones have, above all pointer
		// authentication, takes a fifth more time.
		options: []string{"-machine", "virt", "-cpu", "neoverse-n1"},
	},
}

// Counting are the options of qemu for a guest whose clock counts instructions: each takes a
// nanosecond, and nothing else takes any time. The guest has one processor.
var Counting = []string{"-icount", "shift=0,sleep=off", "-smp", "1"}

// Testing are the options of qemu for a guest that runs tests: two processors.
var Testing = []string{"-smp", "2"}

// kernelParameters make a guest start fast, print little, and stop at the first bug. The time
// stamp counter is the host's, since reading another clock would take a seventh of the time.
// Warnings of the kernel reach the console. Without fb_tunnels=none the modules of tunnels put a
// device of each kind into every network namespace.
const kernelParameters = "quiet loglevel=5 mitigations=off nokaslr no_timer_check clocksource=tsc tsc=reliable " +
	"random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1 fb_tunnels=none oops=panic panic=-1"

// boot boots a kernel with an initramfs, and calls line with each line of the console until the
// guest has switched itself off or ctx ends.
func (m machine) boot(ctx context.Context, kernel, initramfs string, options, parameters []string, line func(string)) error {
	command := exec.CommandContext(ctx, m.qemu, append(append([]string{
		// One thread emulates the processors in turn. With a thread for each, guests that
		// patch code have panicked.
		"-accel", "tcg,thread=single,tb-size=256", "-m", "2G",
		"-kernel", kernel, "-initrd", initramfs, "-append", strings.Join(append([]string{"console=" + m.console, kernelParameters}, parameters...), " "),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
	}, m.options...), options...)...)
	var complaints strings.Builder
	command.Stderr = &complaints
	console, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(command); err != nil {
		return err
	}
	readErr := readLines(console, line)
	if err := command.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", m.qemu, err, complaints.String())
	}
	return readErr
}

func readLines(from io.Reader, line func(string)) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line(strings.TrimRight(lines.Text(), "\r"))
	}
	return lines.Err()
}
