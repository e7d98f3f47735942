// SPDX-License-Identifier: Apache-2.0

package view

import (
	"runtime"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"
)

const crowd = 5000

// cpu returns the CPU time that the process has used. On a machine with other work the elapsed
// time of something says little.
func cpu() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func reportCPU(b *testing.B, used time.Duration, every time.Duration) {
	b.ReportMetric(100*float64(used)/float64(b.N)/float64(every), "%core")
}

func crowded() *feed {
	f := newFeed()
	for pid := range int64(crowd) {
		f.processes = append(f.processes, fed{pid: pid + 1, comm: "process", dev: "eth0", amounts: amounts{1, 1, 1, 1}})
	}
	f.accounts = []accountPoint{{"eth0", "process", "transmit", 1, 1}}
	return f
}

func (f *feed) everyoneMoves() {
	for i := range f.processes {
		f.processes[i].amounts.add(amounts{1000, 2000, 1, 2})
	}
}

// BenchmarkUnwatched measures what the view takes to process a pipeline's batch of 5,000
// processes, of which there is one every collection_interval.
func BenchmarkUnwatched(b *testing.B) {
	f := crowded()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		f.everyoneMoves()
		f.now = f.now.Add(10 * time.Second)
		batch := f.traffic()
		b.StartTimer()
		began := cpu()
		f.Traffic(batch)
		used += cpu() - began
	}
	reportCPU(b, used, 10*time.Second)
}

// BenchmarkWatched measures a second in which 5,000 processes have moved something and 1,000
// connections were accepted, while one reader is sent everything.
func BenchmarkWatched(b *testing.B) {
	f := crowded()
	defer f.watch()()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		f.everyoneMoves()
		f.now = f.now.Add(time.Second)
		batch := f.traffic()
		accepted := f.accepted(1000)
		b.StartTimer()
		began := cpu()
		f.Accepts(accepted)
		f.Traffic(batch)
		f.Tick(0)
		f.mu.Lock()
		event := eventOf("increment", f.increment(filter{}))
		f.mu.Unlock()
		used += cpu() - began
		b.ReportMetric(float64(len(event)), "B/increment")
	}
	reportCPU(b, used, time.Second)
}

// BenchmarkMemory measures how much memory the view takes for 5,000 processes after 15 minutes.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		f := crowded()
		release := f.watch()
		var before, after runtime.MemStats
		for second := range 100 {
			f.everyoneMoves()
			f.now = f.now.Add(9 * time.Second)
			f.Traffic(f.traffic())
			if second == 0 {
				continue
			}
			f.now = f.now.Add(time.Second)
			f.everyoneMoves()
			f.Traffic(f.traffic())
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		counted := f.memory()
		release()
		processes := f.processes
		*f = feed{}
		_ = processes
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
		b.ReportMetric(float64(counted)/(1<<20), "MB-counted")
		runtime.KeepAlive(processes)
	}
}

// accepted returns a batch of n connections, each of another process.
func (f *feed) accepted(n int) plog.Logs {
	logs := plog.NewLogs()
	for i := range n {
		f.connection(logs, f.processes[i%len(f.processes)], "127.0.0.1:80", "127.0.0.1:4000")
	}
	return logs
}
