// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-7756021b/nettap/internal/child"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// scale is what a Collector takes depending on how much there is to observe.
type scale struct {
	Kernel string  `json:"kernel"` // as uname -r prints it
	Cores  int     `json:"cores"`
	Commit string  `json:"commit"`
	Points []point `json:"points"`
}

// point is what a Collector takes with one load.
type point struct {
	Of     string   `json:"of"` // one of the dimensions, or nothing
	Number int      `json:"number"`
	CPU    float64  `json:"cpu_percent"` // of one core, in user space and in the kernel on its behalf
	Memory float64  `json:"resident_mb"` // resident memory of the process
	Maps   float64  `json:"bpf_maps_mb"` // in the kernel
	words  []string // the load's arguments
}

// The dimensions of the picture.
const (
	ofNothing    = "nothing"
	ofProcesses  = "processes"
	ofSockets    = "sockets"
	ofInterfaces = "interfaces"
	ofCores      = "cores"
)

// pauseMs is how long a process, a socket or an interface waits between two datagrams.
const pauseMs = "1000"

// points are what is measured. No more cores are used than there are.
func points(cores int) []point {
	all := []point{{Of: ofNothing}}
	many := func(of, load string, numbers ...int) {
		for _, n := range numbers {
			all = append(all, point{Of: of, Number: n, words: []string{load, strconv.Itoa(n), pauseMs}})
		}
	}
	many(ofProcesses, "crowd", 100, 1000, 8000)
	many(ofSockets, "sockets", 100, 1000, 10000)
	many(ofInterfaces, "interfaces", 10, 100, 1000)
	for n := 1; n <= cores; n *= 2 {
		all = append(all, point{Of: ofCores, Number: n, words: []string{"crowd", "1000", pauseMs}})
	}
	return all
}

// The intervals of the measurement. What existed before is known after the first collections. Then
// the minimum of some turns counts, since the machine may have other work.
const (
	collectionInterval = 5 * time.Second
	firstExports       = 3
	measuringTurns     = 2
	measuring          = 2 * collectionInterval
	startTimeout       = 2 * time.Minute
)

// configuration is the Collector's configuration: the defaults without a limit, at a given
// interval and with room for all processes, with every signal exported, compressed as for a Collector.
const configuration = `
receivers:
  nettap:
    max_cpu: 0
    traffic: {collection_interval: %[1]v, max_processes: 16384, namespaces: all}
    drops: {collection_interval: %[1]v}
exporters:
  otlp_http: {endpoint: "%[2]s", compression: zstd}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics: {receivers: [nettap], exporters: [otlp_http]}
    logs: {receivers: [nettap], exporters: [otlp_http]}
    traces: {receivers: [nettap], exporters: [otlp_http]}
`

// measureScale runs a Collector with each load in turn, and returns what it takes.
func (b *bench) measureScale(ctx context.Context) (scale, error) {
	commit, err := cleanCommit(ctx)
	if err != nil && b.record {
		return scale{}, err
	}
	release, err := vm.Output(exec.CommandContext(ctx, "uname", "-r"))
	if err != nil {
		return scale{}, err
	}
	load, err := b.buildLoad(ctx)
	if err != nil {
		return scale{}, err
	}
	wanted, err := regexp.Compile("^(?:" + b.only + ")$")
	if err != nil {
		return scale{}, err
	}
	s := scale{Kernel: strings.TrimSpace(string(release)), Cores: runtime.NumCPU(), Commit: commit}
	for _, p := range points(s.Cores) {
		if !wanted.MatchString(fmt.Sprintf("%s-%d", p.Of, p.Number)) {
			continue
		}
		if err := b.measurePoint(ctx, load, &p); err != nil {
			return scale{}, fmt.Errorf("%d %s: %w", p.Number, p.Of, err)
		}
		log.Printf("%-10s %6d: %5.2f %% of a core, %4.0f MB resident, %4.0f MB of BPF maps", p.Of, p.Number, p.CPU, p.Memory, p.Maps)
		s.Points = append(s.Points, p)
	}
	return s, nil
}

// measurePoint starts the load and then the Collector, and fills in what the latter takes.
func (b *bench) measurePoint(ctx context.Context, load string, p *point) error {
	var exports atomic.Int64
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the Collector logs what went wrong
		w.Header().Set("Content-Type", "application/x-protobuf")
		if r.URL.Path == "/v1/metrics" {
			exports.Add(1)
		}
	}))
	defer sink.Close()
	file := filepath.Join(b.build, "scale.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, configuration, collectionInterval, sink.URL), 0o644); err != nil {
		return err
	}
	on := fmt.Sprintf("0-%d", runtime.NumCPU()-1)
	if p.Of == ofCores {
		on = fmt.Sprintf("0-%d", p.Number-1)
	}
	if p.words != nil {
		end, err := startLoad(exec.CommandContext(ctx, "taskset", append([]string{"--cpu-list", on, load}, p.words...)...))
		if err != nil {
			return fmt.Errorf("start load: %w", err)
		}
		defer end()
	}
	c, err := startCollector(exec.CommandContext(ctx, "taskset", "--cpu-list", on, distribution, "--config", file))
	if err != nil {
		return err
	}
	return errors.Join(p.measure(c, &exports), c.stop())
}

// measure fills in what the Collector takes, once it has exported.
func (p *point) measure(c *collector, exports *atomic.Int64) error {
	late := time.Now().Add(startTimeout)
	for exports.Load() < firstExports {
		if err := c.watch(collectionInterval / 10); err != nil {
			return err
		}
		if time.Now().After(late) {
			return fmt.Errorf("the Collector exports nothing: %s", c.said)
		}
	}
	for turn := range measuringTurns {
		before, err := processorTime(c.Process.Pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := c.watch(measuring); err != nil {
			return err
		}
		after, err := processorTime(c.Process.Pid)
		if err != nil {
			return err
		}
		percent := round(100*(after-before).Seconds()/time.Since(began).Seconds(), 100)
		if turn == 0 || percent < p.CPU {
			p.CPU = percent
		}
	}
	return p.readMemory(c.Process.Pid)
}

// distribution is the Collector that is measured.
const distribution = "build/otelcol-nettap"

// collector is a Collector that was started.
type collector struct {
	*exec.Cmd
	said  *bytes.Buffer // what it has printed, once it has ended
	ended chan struct{}
	exit  error
}

// startCollector starts a command that runs the distribution. It is asked to shut down when the context of
// the command ends.
func startCollector(command *exec.Cmd) (*collector, error) {
	c := &collector{Cmd: command, said: &bytes.Buffer{}, ended: make(chan struct{})}
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.Stderr = c.said
	if err := child.Start(command); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ended)
		c.exit = command.Wait()
	}()
	return c, nil
}

// died returns an error about a Collector that has ended by itself.
func (c *collector) died() error { return fmt.Errorf("the Collector ended: %w: %s", c.exit, c.said) }

// watch returns after a time, or with an error when the Collector ends before that.
func (c *collector) watch(lasts time.Duration) error {
	select {
	case <-c.ended:
		return c.died()
	case <-time.After(lasts):
		return nil
	}
}

// stop asks the Collector to shut down, and returns the error that it ends with.
func (c *collector) stop() error {
	c.Process.Signal(os.Interrupt) //nolint:errcheck // an error means that it has ended
	<-c.ended
	return c.exit
}

func round(x float64, parts float64) float64 { return float64(int64(x*parts+0.5)) / parts }

// buildLoad builds the program that is the load, and returns its path.
func (b *bench) buildLoad(ctx context.Context) (string, error) {
	load, err := filepath.Abs(filepath.Join(b.build, "load"))
	if err != nil {
		return "", err
	}
	_, err = vm.Output(exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", load, "testdata/e2e/testdata/load/load.c"))
	return load, err
}

// startLoad returns when the load is running, with a function that ends it.
func startLoad(command *exec.Cmd) (end func(), err error) {
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	end = func() {
		input.Close()
		command.Wait() //nolint:errcheck // it may have been killed together with its processes
	}
	if _, err := output.Read(make([]byte, 1)); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// processorTime returns the CPU time that a process has used, in user space and in the kernel.
func processorTime(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, behindName, _ := strings.Cut(string(text), ") ")
	words := strings.Fields(behindName)
	if len(words) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	user, err := strconv.Atoi(words[11])
	system, systemErr := strconv.Atoi(words[12])
	return time.Duration(user+system) * tick, errors.Join(err, systemErr)
}

// readMemory fills in the resident memory of a process, and the memory of its BPF maps.
func (p *point) readMemory(pid int) error {
	const megabyte = 1e6
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	p.Memory = round(1024*numberBehind(string(status), "VmRSS:")/megabyte, 10)
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return err
	}
	maps := map[float64]float64{} // bytes by id, since a map may have several descriptors
	for _, file := range infos {
		info, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was closed meanwhile
		}
		if err != nil {
			return err
		}
		if id := numberBehind(string(info), "map_id:"); id != 0 {
			maps[id] = numberBehind(string(info), "memlock:")
		}
	}
	sum := 0.0
	for _, bytes := range maps {
		sum += bytes
	}
	p.Maps = round(sum/megabyte, 10)
	return nil
}

// numberBehind returns the number after a word at the beginning of a line, or 0.
func numberBehind(text, word string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				number, _ := strconv.ParseFloat(words[0], 64)
				return number
			}
		}
	}
	return 0
}

func readScale(file string) (scale, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return scale{}, err
	}
	var s scale
	if err := json.Unmarshal(text, &s); err != nil {
		return scale{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// runScale measures and, if this is to be recorded, writes the record and the pictures.
func (b *bench) runScale(ctx context.Context) error {
	if b.record && b.only != everything {
		return errors.New("a record has all points")
	}
	s, err := b.measureScale(ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	file := filepath.Join(b.build, "scale.json")
	if b.record {
		file = scaleFile
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return err
	}
	if b.only != everything {
		return nil // a picture has all points
	}
	if !b.record {
		return s.draw(b.build)
	}
	return s.draw(pictureDirectory)
}
