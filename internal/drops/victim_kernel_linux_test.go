// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func TestMain(m *testing.M) {
	dropstest.Main()
	os.Exit(m.Run())
}

// needOwners skips the test if owners of sockets cannot be known on this kernel.
func needOwners(t *testing.T, drops *Drops) {
	t.Helper()
	if drops.refused != nil {
		t.Skip(drops.refused)
	}
}

// overrun returns what a reader has lost whose buffer was full.
func overrun(drops *Drops, lab *dropstest.Lab, pid, packets int) dropstest.Loss {
	loss := dropstest.Loss{
		PID: pid, Reason: "socket_rcvbuff", Class: "loss", Victim: "socket", Direction: "receive",
		Interface: lab.Receiver.Device, Packets: packets,
	}
	if len(drops.words.reasons) == 0 {
		loss.Reason, loss.Class = "not_available", "unknown"
	}
	return loss
}

// lossesOf returns what processes have lost.
func lossesOf(metrics pmetric.Metrics, pids ...int) []dropstest.Loss {
	losses := dropstest.Losses(metrics)
	return slices.DeleteFunc(losses, func(loss dropstest.Loss) bool { return !slices.Contains(pids, loss.PID) })
}

// requireLosses waits until processes have lost exactly want.
func requireLosses(t *testing.T, drops *Drops, pids []int, want ...dropstest.Loss) {
	t.Helper()
	if diff := settled(func() string {
		metrics, err := drops.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cmp.Diff(want, lossesOf(metrics, pids...), cmpopts.EquateEmpty())
	}); diff != "" {
		t.Errorf("the losses differ (-want +got):\n%s", diff)
	}
}

func TestKernelFindsTheVictimOfAFullReceiveBuffer(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	reader := lab.StartReader(t)
	dropped := lab.Overrun(t, reader, 200)
	requireLosses(t, drops, []int{reader.PID, os.Getpid()}, overrun(drops, lab, reader.PID, dropped))
}

// TestKernelFindsTheVictimsOfTwoBuffers has two processes that lose packets at the same time. One of them has its socket from another process.
func TestKernelFindsTheVictimsOfTwoBuffers(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	reader, heir := lab.StartReader(t), lab.StartHeir(t)
	first, second := lab.Overrun(t, reader, 200), lab.Overrun(t, heir, 100)
	want := []dropstest.Loss{overrun(drops, lab, reader.PID, first), overrun(drops, lab, heir.PID, second)}
	slices.SortFunc(want, func(a, b dropstest.Loss) int { return a.PID - b.PID })
	requireLosses(t, drops, []int{reader.PID, heir.PID, os.Getpid()}, want...)
}

func TestKernelFindsTheVictimThatWasThereBefore(t *testing.T) {
	lab := dropstest.NewLab(t)
	reader := lab.StartReader(t)
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	dropped := lab.Overrun(t, reader, 200)
	requireLosses(t, drops, []int{reader.PID, os.Getpid()}, overrun(drops, lab, reader.PID, dropped))
}

func TestKernelFindsTheVictimOfAFullAcceptQueue(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	var packets int
	for _, provocation := range dropstest.Provocations() {
		if provocation.Name == "a connection to a listener whose accept queue is full" {
			packets = provocation.Provoke(t, lab).Packets
		}
	}
	want := dropstest.Loss{
		PID: os.Getpid(), Reason: "nettap_listen_overflow", Class: "loss", Victim: "socket", Direction: "receive",
		Interface: lab.Receiver.Device, Packets: packets,
	}
	requireLosses(t, drops, []int{os.Getpid()}, want)
}

func TestKernelFindsTheVictimWithoutANeighbour(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	lab.CallNobody(t, 3)
	want := dropstest.Loss{PID: os.Getpid(), Victim: "socket", Direction: "transmit", Interface: lab.Sender.Device, Packets: 3}
	if diff := settled(func() string {
		metrics, err := drops.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		losses := lossesOf(metrics, os.Getpid())
		for i := range losses { // kernels differ in the words
			losses[i].Reason, losses[i].Class = "", ""
		}
		return cmp.Diff([]dropstest.Loss{want}, losses)
	}); diff != "" {
		t.Errorf("the losses differ (-want +got):\n%s", diff)
	}
}

// TestKernelFindsTheVictimThatHasEnded requires that the series of a process that has ended end, whenever it ended, and that the host's continue.
func TestKernelFindsTheVictimThatHasEnded(t *testing.T) {
	b := new(stats.Recorder)
	drops := startDrops(t, b)
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	reader := lab.StartReader(t)
	dropped := lab.Overrun(t, reader, 200)
	reader.Stop()
	last := overrun(drops, lab, reader.PID, dropped)
	collect := func(want ...dropstest.Loss) {
		t.Helper()
		metrics, err := drops.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, lossesOf(metrics, reader.PID), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the losses differ (-want +got):\n%s", diff)
		}
		for _, point := range dropstest.Points(metrics) {
			if point.Interface == lab.Receiver.Device && point.Reason == last.Reason && point.Drop.Transport == "udp" && (point.Ended || point.Packets != dropped) {
				t.Errorf("the host's series says %+v, want %d", point, dropped)
			}
		}
	}
	collect(last)
	drops.Delivered()
	collect(last) // it lost nothing any more
	collect(last) // which nobody took
	drops.Delivered()
	last.Packets, last.Ended = 0, true
	collect(last)
	drops.Delivered()
	collect()
	collect()
	for _, p := range must(drops.owners.Processes()) {
		if int(p.ID.PID) == reader.PID {
			t.Errorf("it is still known: %+v", p)
		}
	}
	if drops.roster.Holds(uint32(reader.PID)) {
		t.Error("it is still held")
	}
	requireBalance(t, drops, b)
}

// TestKernelFindsNoPlaceForTheVictim requires that packets for whose process there is no room are counted only for the host, and that this is
// reported.
func TestKernelFindsNoPlaceForTheVictim(t *testing.T) {
	for name, full := range map[string]func(drops *Drops){
		"in the map of drops":     func(drops *Drops) { drops.maxKeys, drops.maxCoarse = 1, 4096 },
		"in the map of processes": func(drops *Drops) { drops.owners = owner.New(owner.Options{MaxProcesses: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := new(stats.Recorder)
			drops := newDrops(b)
			full(drops)
			begin(t, drops)
			needOwners(t, drops)
			lab := dropstest.NewLab(t)
			provokeThree(t, lab) // one of them takes the place, or some other drop or process on this machine
			lab.Overrun(t, lab.StartHeir(t), 10)
			collect := func() pmetric.Metrics {
				metrics, err := drops.Collect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return metrics
			}
			collect()
			before := b.Read().WithoutProcess
			reader := lab.StartReader(t)
			dropped := lab.Overrun(t, reader, 200)
			if diff := settled(func() string { // others may lose something too
				losses := lossesOf(collect(), reader.PID)
				return cmp.Diff("true []", fmt.Sprint(b.Read().WithoutProcess-before >= uint64(dropped), losses))
			}); diff != "" {
				t.Errorf("of %d packets %d are said to be without a process:\n%s", dropped, b.Read().WithoutProcess-before, diff)
			}
			requireBalance(t, drops, b)
		})
	}
}

// TestKernelFindsTheVictimThatWasTheLastListener has a process that has ended. No other process has the port, so packets for it still count as its losses.
func TestKernelFindsTheVictimThatWasTheLastListener(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	reader := lab.StartReader(t)
	listener := lab.CloseListener(t)
	reader.Stop()
	for range 4 { // until nothing but the port tells of it
		requireLosses(t, drops, []int{reader.PID, os.Getpid()})
		drops.Delivered()
	}
	lab.Send(t, reader.Address, 20)
	lab.Knock(t, listener, 3)
	loss := dropstest.Loss{PID: reader.PID, Reason: "no_socket", Class: "loss", Victim: "last_listener", Direction: "receive", Interface: lab.Receiver.Device, Packets: 20}
	own := loss
	own.PID, own.Packets = os.Getpid(), 3
	want := []dropstest.Loss{loss, own}
	slices.SortFunc(want, func(a, b dropstest.Loss) int { return a.PID - b.PID })
	requireLosses(t, drops, []int{reader.PID, os.Getpid()}, want...)
	drops.Delivered()
	requireLosses(t, drops, []int{reader.PID, os.Getpid()}, want...)
}

func must(processes map[uint64]owner.Process, err error) map[uint64]owner.Process {
	if err != nil {
		panic(err)
	}
	return processes
}
