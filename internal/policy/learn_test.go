// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// read returns the rules of a file.
func read(t *testing.T, file string) []Rule {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var is struct{ Expect []Rule }
	if err := yaml.Unmarshal(content, &is); err != nil {
		t.Fatalf("%v in\n%s", err, content)
	}
	return is.Expect
}

func open(t *testing.T, file string) *Learner {
	t.Helper()
	l, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t *testing.T, l *Learner) {
	t.Helper()
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
}

func TestLearnerWritesWhatItSaw(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.yaml")
	l := open(t, file)
	write(t, l)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file though nothing was seen: %v", err)
	}

	contained, gone := sshd(), sshd()
	contained.ContainerID = "4f5a"
	gone.ExecutablePath, gone.Comm, gone.RealUserID = "", "nc", 33
	l.See(sshd(), 22, netip.MustParseAddr("10.0.0.9"))
	l.See(sshd(), 22, netip.MustParseAddr("10.0.0.2"))
	l.See(sshd(), 22, netip.MustParseAddr("10.0.0.9"))
	l.See(sshd(), 2222, netip.MustParseAddr("2001:db8::7"))
	l.See(contained, 22, netip.MustParseAddr("10.0.0.2"))
	l.See(gone, 4000, netip.MustParseAddr("127.0.0.1"))
	write(t, l)

	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = head + `expect:
    - ports: [4000]
      commands: [nc]
      users: [33]
      containers: [""]
      peers: [127.0.0.1/32]
    - ports: [22]
      executables: [/usr/sbin/sshd]
      commands: [sshd]
      users: [0]
      containers: [""]
      peers: [10.0.0.2/32, 10.0.0.9/32]
    - ports: [2222]
      executables: [/usr/sbin/sshd]
      commands: [sshd]
      users: [0]
      containers: [""]
      peers: ['2001:db8::7/128']
    - ports: [22]
      executables: [/usr/sbin/sshd]
      commands: [sshd]
      users: [0]
      containers: [4f5a]
      peers: [10.0.0.2/32]
`
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("the file differs (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestLearnerKeepsWhatIsThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.yaml")
	const before = "expect:\n- {ports: [22], peers: [10.0.0.0/8]}\n- {executables: [/usr/sbin/nginx]}\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, file)
	nginx := sshd()
	nginx.Comm, nginx.ExecutablePath = "nginx", "/usr/sbin/nginx"
	l.See(sshd(), 22, netip.MustParseAddr("10.9.9.9"))
	l.See(nginx, 443, netip.MustParseAddr("192.0.2.1"))
	write(t, l)
	if content, err := os.ReadFile(file); err != nil || string(content) != before {
		t.Errorf("the file became\n%s(%v), though its rules expect what was seen", content, err)
	}

	l.See(sshd(), 22, netip.MustParseAddr("192.0.2.1"))
	write(t, l)
	want := []Rule{
		{Ports: []uint16{22}, Peers: prefixes("10.0.0.0/8")},
		{Executables: []string{"/usr/sbin/nginx"}},
		{
			Ports: []uint16{22}, Executables: []string{"/usr/sbin/sshd"}, Commands: []string{"sshd"},
			Users: []uint32{0}, Containers: []string{""}, Peers: prefixes("192.0.2.1/32"),
		},
	}
	equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, read(t, file), equal); diff != "" {
		t.Errorf("the rules differ (-want +got):\n%s", diff)
	}
	again := open(t, file)
	again.See(sshd(), 22, netip.MustParseAddr("192.0.2.1"))
	if again.fresh {
		t.Error("what was learned is learned again")
	}
}

func TestLearnerRefusesAFileOfAnotherKind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	const is = "root:x:0:0:root:/root:/bin/bash\n"
	if err := os.WriteFile(file, []byte(is), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open() = %v, want an error that names the file", err)
	}
}

func TestLearnerIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learned.yaml")
	l := open(t, file)
	peer := netip.MustParseAddr("10.0.0.1")
	for range 2 * maxValues {
		l.See(sshd(), 22, peer)
		peer = peer.Next()
	}
	for port := range uint16(2 * maxValues) {
		l.See(sshd(), 30000+port, netip.MustParseAddr("10.0.0.1"))
	}
	if len(l.rules) != maxValues+1 || len(l.rules[0].Peers) != 0 || len(l.rules[maxValues].Ports) != 0 {
		t.Errorf("there are %d rules, the first of %d peers, the last of %d ports", len(l.rules), len(l.rules[0].Peers), len(l.rules[maxValues].Ports))
	}
	write(t, l)
	for i := range 2 * maxLearned {
		who := sshd()
		who.Comm = fmt.Sprint("worker", i)
		l.See(who, 22, peer)
	}
	if err := l.Write(); len(l.rules) != maxLearned || !errors.Is(err, ErrFull) {
		t.Errorf("there are %d rules, and the error is %v", len(l.rules), err)
	}
	if n := len(read(t, file)); n != maxLearned {
		t.Errorf("the file has %d rules, want %d", n, maxLearned)
	}
}

func TestLearnerKeepsTheFileWhenItCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "learned.yaml")
	l := open(t, file)
	l.See(sshd(), 22, netip.MustParseAddr("10.0.0.1"))
	if err := l.Write(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write() = %v", err)
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, l)
	if n := len(read(t, file)); n != 1 {
		t.Errorf("the file has %d rules, want 1", n)
	}
}
