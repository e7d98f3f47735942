// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// prelude is the beginning of the Python programs below. Each process prints what it does: it
// "sends" or "receives" 100 kB, or "does neither".
const prelude = `
import os, socket, subprocess, sys, time

MUCH = 100_000

def says(role):
    os.write(1, b"%d %s\n" % (os.getpid(), role.encode()))

def child(f, *arguments):
    if os.fork() == 0:
        f(*arguments)
        os._exit(0)

def listener(kind=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s

def dial(to, kind=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, kind)
    s.connect(to.getsockname())
    return s

def send(s):
    says("sends")
    s.sendall(bytes(MUCH))

def receive(s):
    says("receives")
    n = MUCH
    while n > 0:
        got = len(s.recv(65536))
        if got == 0:
            sys.exit("the peer has gone")
        n -= got

def serve(s):
    receive(s.accept()[0])

def finish():
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
`

// TestDistributionChargesWhoeverUsesTheSocket runs programs in which one process makes a socket
// and another one uses it.
func TestDistributionChargesWhoeverUsesTheSocket(t *testing.T) {
	c := Start(t, everywhere)
	a, _ := kerneltest.Namespaces(t)
	for name, program := range map[string]string{
		"a child that sends on its parent's connection": `
l = listener()
child(serve, l)
c = dial(l)
child(send, c)
says("does neither")
`,
		"a worker, of what came before it accepted": `
l = listener()
r, w = os.pipe()
def work():
    os.read(r, 1)
    serve(l)
def client():
    send(dial(l))
    os.write(w, b"x")
child(work)
child(client)
says("does neither")
`,
		"a worker that is executed with the listener": `
l = listener()
child(lambda: send(dial(l)))
time.sleep(0.5)
worker = "import os, socket\nos.write(1, b'%%d receives\\n' %% os.getpid())\ns = socket.socket(fileno=%d).accept()[0]\nn = 100_000\nwhile n > 0: n -= len(s.recv(65536))" % l.fileno()
subprocess.run([sys.executable, "-c", worker], pass_fds=[l.fileno()], check=True)
says("does neither")
`,
		"a stranger to whom the connection was sent": `
l = listener()
child(serve, l)
a, b = socket.socketpair()
def stranger():
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    send(socket.socket(fileno=fds[0]))
child(stranger)
c = dial(l)
socket.send_fds(a, [b"x"], [c.fileno()])
c.close()
says("does neither")
`,
		"a server of MPTCP": `
l = listener(262)
child(serve, l)
child(lambda: send(dial(l, 262)))
`,
		"a server of MPTCP whose client has plain TCP": `
l = listener(262)
child(serve, l)
child(lambda: send(dial(l)))
`,
	} {
		t.Run(name, func(t *testing.T) {
			for pid, want := range rolesOf(t, a.Name, program) {
				c.Wait(fmt.Sprintf("process %d %s", pid, want), func() bool {
					return role(usage(c, pid, "lo")) == want
				})
			}
		})
	}
}

// TestDistributionKnowsSocketsOlderThanItself starts the Collector when two processes are already
// connected.
func TestDistributionKnowsSocketsOlderThanItself(t *testing.T) {
	a, _ := kerneltest.Namespaces(t)
	program := exec.Command("python3", "-c", prelude+`
l = listener()
def wait_and_serve():
    s = l.accept()[0]
    receive(s)
child(wait_and_serve)
c = dial(l)
os.write(1, b"connected\n")
sys.stdin.readline()
send(c)
finish()
`)
	program.Stderr = os.Stderr
	input, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	kerneltest.InNamespace(t, a.Name, func() { err = program.Start() })
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	roles := map[int]string{}
	for len(roles) < 1 && lines.Scan() && lines.Text() != "connected" {
		addRole(t, roles, lines.Text())
	}
	c := Start(t, everywhere)
	fmt.Fprintln(input)
	for lines.Scan() {
		if lines.Text() != "connected" {
			addRole(t, roles, lines.Text())
		}
	}
	if err := program.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(roles) != 2 {
		t.Fatalf("the program has %d processes: %v", len(roles), roles)
	}
	for pid, want := range roles {
		c.Wait(fmt.Sprintf("process %d %s", pid, want), func() bool { return role(usage(c, pid, "lo")) == want })
	}
}

// rolesOf runs a Python program in a namespace, and returns what each of its processes has printed
// that it does, by pid.
func rolesOf(t *testing.T, namespace, program string) map[int]string {
	t.Helper()
	command := exec.Command("python3", "-c", prelude+program+"\nfinish()\n")
	command.Stderr = os.Stderr
	var output []byte
	var err error
	kerneltest.InNamespace(t, namespace, func() { output, err = command.Output() })
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	roles := map[int]string{}
	for line := range strings.Lines(string(output)) {
		addRole(t, roles, line)
	}
	if len(roles) < 2 {
		t.Fatalf("the program has only the processes %v", roles)
	}
	return roles
}

func addRole(t *testing.T, roles map[int]string, line string) {
	t.Helper()
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	_, role, _ := strings.Cut(strings.TrimSpace(line), " ")
	roles[pid] = role
}

// role returns what a process did that received and sent so many bytes, as the programs print it.
func role(received, sent int64) string {
	const much, little = 100_000, 5_000 // little are handshakes and acknowledgements
	switch {
	case sent >= much && received <= little:
		return "sends"
	case received >= much && sent <= little:
		return "receives"
	case sent <= little && received <= little:
		return "does neither"
	}
	return "does something else"
}
