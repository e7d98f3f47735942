// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a world with a server.
type served struct {
	make    func(instance string) *world
	address string

	mu     sync.Mutex
	world  *world
	server *http.Server
	stop   context.CancelFunc
	ended  sync.WaitGroup
	starts int
}

func (s *served) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	s.starts++
	s.world = s.make(fmt.Sprint("i", s.starts))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.server = &http.Server{Handler: s.world.Handler(listener.Addr(), nil)}
	server, w := s.server, s.world
	s.ended.Go(func() { _ = server.Serve(listener) })
	s.ended.Go(func() { w.run(ctx) })
	return nil
}

func (s *served) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.world.View.Close()
	// Requests that are under way end, and with the view all answers that would continue.
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(short)
	_ = s.server.Close()
	s.ended.Wait()
}

// crowdOf returns a world of 5,000 processes that move something each second, while 1,000
// connections come in.
func crowdOf(instance string) *world {
	w := newWorld(instance, "crowd")
	for i := range crowd {
		w.add(1000+int64(i), int64(i%40), fmt.Sprintf("process-%d", i), "eth0", 1000+float64(i%977)*300, 500+float64(i%311)*200,
			"service.name", fmt.Sprintf("service-%d", i%60), "container.id", fmt.Sprintf("%040x", i%250))
	}
	w.live(900, 10)
	for i := range 20 {
		w.ports = append(w.ports, visited{i, "10.0.0.5:443", "198.51.100.23", 50, 0.1, ""})
	}
	return w
}

// TestBrowser examines the page in Chromium. Its data are the worlds above, and its checks are in
// page/test/page.mjs.
func TestBrowser(t *testing.T) {
	for _, need := range []string{"node", "chromium"} {
		if _, err := exec.LookPath(need); err != nil {
			lack(t, "there is no %s: .ci/setup installs it", need)
		}
	}
	if _, err := os.Stat("page/node_modules/playwright-core"); err != nil {
		lack(t, "what drives the browser is not there: make page-tools installs it")
	}
	worlds := map[string]*served{
		"live":  {make: madeUp, address: "127.0.0.1:0"},
		"crowd": {make: crowdOf, address: "127.0.0.1:0"},
		"empty": {make: func(instance string) *world { return newWorld(instance, "empty") }, address: "127.0.0.1:0"},
	}
	addresses := map[string]string{}
	for name, s := range worlds {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.end)
		addresses[name] = "http://" + s.address
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addresses["control"] = "http://" + control.Addr().String()
	go func() {
		_ = http.Serve(control, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/stop":
				worlds["live"].end()
			case "/start":
				if err := worlds["live"].start(); err != nil {
					t.Error(err)
				}
			}
		}))
	}()
	t.Cleanup(func() { control.Close() })

	screenshots, err := filepath.Abs("../../build/page")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(addresses)
	if err != nil {
		t.Fatal(err)
	}
	tests := exec.CommandContext(t.Context(), "node", "test/page.mjs")
	tests.Dir = "page"
	tests.Env = append(os.Environ(), "NETTAP_PAGE="+string(told), "NETTAP_SCREENSHOTS="+screenshots, "NETTAP_PROFILE="+t.TempDir())
	tests.Stderr = os.Stderr
	output, err := tests.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tests.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(output); lines.Scan(); n++ {
		var result struct {
			Test, Error string
			Log         []string
			Seconds     float64
		}
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Errorf("the browser's tests say %q", lines.Text())
			continue
		}
		t.Run(result.Test, func(t *testing.T) {
			t.Logf("%.1f s %s", result.Seconds, strings.Join(result.Log, "; "))
			if result.Error != "" {
				t.Error(result.Error)
			}
		})
	}
	if err := tests.Wait(); err != nil || n == 0 {
		t.Errorf("the browser's tests ended with %v after %d", err, n)
	}
}

// lack skips a test that this machine cannot run. In CI it fails the test instead.
func lack(t *testing.T, format string, arguments ...any) {
	t.Helper()
	if os.Getenv("NETTAP_KERNEL_TESTS") == "require" {
		t.Fatalf(format, arguments...)
	}
	t.Skipf(format, arguments...)
}
