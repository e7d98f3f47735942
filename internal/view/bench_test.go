package view

import (
	"runtime"
	"testing"
	"time"
)

const crowd = 5000

func crowded() *feed {
	f := newFeed()
	for pid := range int64(crowd) {
		f.processes = append(f.processes, fed{pid: pid + 1, comm: "process", dev: "eth0", amounts: amounts{1, 1, 1, 1}})
	}
	f.books = []booked{{"eth0", "process", "transmit", 1, 1}}
	return f
}

func (f *feed) everyoneMoves() {
	for i := range f.processes {
		f.processes[i].amounts.add(amounts{1000, 2000, 1, 2})
	}
}

// BenchmarkUnwatched is what the view takes from the pipelines' batch of 5,000 processes:
// one of these every collection_interval.
func BenchmarkUnwatched(b *testing.B) {
	f := crowded()
	for b.Loop() {
		b.StopTimer()
		f.everyoneMoves()
		f.now = f.now.Add(10 * time.Second)
		batch := f.traffic()
		b.StartTimer()
		f.Traffic(batch)
	}
}

// BenchmarkWatched is a second in which 5,000 processes have moved something and 1,000
// connections were accepted, and one reader is told of all.
func BenchmarkWatched(b *testing.B) {
	f := crowded()
	defer f.watch()()
	for b.Loop() {
		b.StopTimer()
		f.everyoneMoves()
		f.now = f.now.Add(time.Second)
		batch := f.traffic()
		for range 1000 {
			f.accept(f.processes[0], "127.0.0.1:80", "127.0.0.1:4000")
		}
		b.StartTimer()
		f.Traffic(batch)
		f.Tick(0)
		f.mu.Lock()
		event := eventOf("increment", f.increment(filter{}))
		f.mu.Unlock()
		b.ReportMetric(float64(len(event)), "B/increment")
	}
}

// BenchmarkMemory is what the view holds of 5,000 processes after 15 minutes.
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
