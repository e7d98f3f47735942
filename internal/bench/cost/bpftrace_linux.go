// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log"
	"os"
	"os/exec"
	"time"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// nettop does what nettop.stp does as a one-liner of bpftrace: it counts bytes by process and
// device. The process is whatever task was running when a packet came.
const nettop = `tracepoint:net:net_dev_start_xmit { @sent[pid, comm, str(args->name)] = sum(args->len); }
tracepoint:net:netif_receive_skb { @received[pid, comm, str(args->name)] = sum(args->len); }`

// bpftrace measures the cost of the one-liner, if bpftrace is installed and runs.
func (m *meter) bpftrace(ctx context.Context) error {
	path, err := exec.LookPath("bpftrace")
	if err != nil {
		return nil // it is not installed
	}
	command := exec.CommandContext(ctx, path, "-e", nettop)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return err
	}
	var exit error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = command.Wait()
	}()
	select {
	case <-ended:
		log.Printf("%s does not run here: %v", path, exit)
		return nil
	case <-time.After(2 * settling):
	}
	err = m.measure(ctx, measure.Measure{Case: measure.Bpftrace})
	if err := command.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	<-ended
	return err
}
