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

// nettop is what nettop.stp does, as a one-liner of bpftrace: bytes by process and
// device. Its process is whatever task runs when a packet comes.
const nettop = `tracepoint:net:net_dev_start_xmit { @sent[pid, comm, str(args->name)] = sum(args->len); }
tracepoint:net:netif_receive_skb { @received[pid, comm, str(args->name)] = sum(args->len); }`

// bpftrace measures what the one-liner takes, where bpftrace is installed and runs.
func (m *meter) bpftrace(ctx context.Context) error {
	path, err := exec.LookPath("bpftrace")
	if err != nil {
		return nil // it is not
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
