// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The names of what the test makes on the machine. One end of a veth pair is in a network namespace of the test.
const (
	elsewhere    = "nettap-alerts"
	near, far    = "nettap-near", "nettap-far"
	nearAddress  = "198.51.100.1"
	farAddress   = "198.51.100.2"
	resentPort   = 5555
	datagramPort = 5556
)

// These programs are processes of their own, as the alerts concern processes.
const (
	// resender sends itself segments. Each is small and needs an answer, so that none waits for others.
	resender = `
import socket, threading, time
l = socket.create_server(("127.0.0.1", 5555))
c = socket.create_connection(("127.0.0.1", 5555))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s, _ = l.accept()
def read():
    while s.recv(65536): pass
threading.Thread(target=read, daemon=True).start()
while True:
    c.sendall(bytes(1000))
    time.sleep(0.005)
`
	// sink takes datagrams.
	sink = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("198.51.100.2", 5556))
while True: s.recv(2000)
`
	// crowd is many processes that each send a datagram again and again, until the first one ends.
	crowd = `
import os, select, socket, sys
closed, kept = os.pipe()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(kept)
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while not select.select([closed], [], [], 0.5)[0]:
            c.sendto(b"x", s.getsockname())
        os._exit(0)
while True: s.recv(100)
`
	// busy sends itself as many datagrams as it can.
	busy = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
while True:
    s.sendto(bytes(64), s.getsockname())
    s.recv(100)
`
)

// act runs a program in Python until the test ends, and returns the process's id. before is a command that runs it.
func act(t *testing.T, before []string, program string, arguments ...string) int {
	t.Helper()
	words := append(append(before, "python3", "-c", program), arguments...)
	command := exec.Command(words[0], words[1:]...)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // see start
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()         // it was killed
	})
	return command.Process.Pid
}

// prepare makes the network and the processes, between which all is well, and returns how to make it otherwise, by alert.
func prepare(t *testing.T) map[string]provocation {
	t.Helper()
	network(t)
	inside := []string{"ip", "netns", "exec", elsewhere}
	resending := act(t, inside, resender)
	act(t, inside, sink)
	send(t)
	stopReading := slowly(t)
	queue := listener(t)
	server, closed := serve(t), occupy(t)
	repeat(t, func() { ask(t, server) })
	lose := time.NewTicker(2 * time.Second)
	t.Cleanup(lose.Stop)
	repeat(t, func() {
		select {
		case <-lose.C: // a packet is lost now and then
			if connection, err := net.DialTCP("tcp4", nil, closed); err == nil {
				connection.Close()
			}
		default:
		}
	})
	own := strconv.Itoa(os.Getpid())
	return map[string]provocation{
		"PacketsAreLost": {labels{"nettap_drop_reason": "netfilter_drop"}, func() {}}, // see the rule below
		"SegmentsAreSentAgain": {labels{"process_pid": strconv.Itoa(resending)}, func() {
			run(t, append(inside, "nft", "add table ip t; add chain ip t c { type filter hook input priority 0; }; "+
				fmt.Sprintf("add rule ip t c tcp dport %d meta length > 500 numgen inc mod 4 == 0 drop", resentPort))...)
		}},
		"ProcessLosesPackets": {labels{"process_pid": own, "nettap_drop_reason": "socket_rcvbuff"}, stopReading},
		"ConnectionsAreUnexpected": {labels{"network_local_port": strconv.Itoa(server.Port)}, func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 64, 0, 1)}}
			connection, err := dialer.Dial("tcp4", server.String()) //nolint:noctx // it is on this machine
			if err != nil {
				t.Error(err)
				return
			}
			connection.Close()
		}},
		"AcceptQueueNearLimit": {labels{"process_pid": own, "network_local_port": strconv.Itoa(queue.port)}, func() {
			for range queue.limit - 1 {
				queue.connect(t)
			}
		}},
		"TrafficIsUnobserved":   {labels{"network_interface_name": near, "network_io_direction": "transmit"}, func() { bypass(t) }},
		"NettapMapIsNearlyFull": {labels{"instrument": "traffic", "map": "processes"}, func() { act(t, nil, crowd, strconv.Itoa(room)) }},
		"NettapLosesEvents":     {labels{"instrument": "traffic", "cause": "processes_full"}, func() {}}, // by the crowd
		"NettapIsOverBudget": {labels{}, func() {
			act(t, []string{"nice"}, busy)
			act(t, []string{"nice"}, busy)
		}},
	}
}

func run(t *testing.T, words ...string) {
	t.Helper()
	if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", words, err, output)
	}
}

// network makes a network namespace and a pair of interfaces that leads to it.
func network(t *testing.T) {
	t.Helper()
	run(t, "ip", "netns", "add", elsewhere)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", elsewhere) }) // with both interfaces
	run(t, "ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", elsewhere)
	run(t, "ip", "address", "add", nearAddress+"/30", "dev", near)
	run(t, "ip", "link", "set", near, "up")
	run(t, "ip", "-n", elsewhere, "address", "add", farAddress+"/30", "dev", far)
	run(t, "ip", "-n", elsewhere, "link", "set", far, "up")
	run(t, "ip", "-n", elsewhere, "link", "set", "lo", "up")
}

// send sends datagrams over the pair of interfaces, 250 kB a second.
func send(t *testing.T) {
	t.Helper()
	connection, err := net.Dial("udp4", net.JoinHostPort(farAddress, strconv.Itoa(datagramPort))) //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	repeat(t, func() {
		for range 5 {
			_, _ = connection.Write(make([]byte, 1000)) // before the sink is there it is refused
		}
	})
}

// slowly sends itself datagrams, which it reads until stop is called. Some are lost at the beginning.
func slowly(t *testing.T) (stop func()) {
	t.Helper()
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Close() })
	sender, err := net.DialUDP("udp4", nil, receiver.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	few := func() { _ = receiver.SetReadBuffer(1) } // the kernel raises it to the minimum
	few()
	for range 4 {
		_, _ = sender.Write(make([]byte, 1000))
	}
	_ = receiver.SetReadBuffer(1 << 18)
	var stopped atomic.Bool
	repeat(t, func() {
		_, _ = sender.Write(make([]byte, 1000))
		if !stopped.Load() {
			_, _ = receiver.Read(make([]byte, 1000))
		}
	})
	return func() {
		few()
		stopped.Store(true)
	}
}

// waiting is a listener that accepts nothing.
type waiting struct{ port, limit int }

// listener returns a listener for whose accept one connection waits.
func listener(t *testing.T) waiting {
	t.Helper()
	const limit = 10
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(socket, limit); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	w := waiting{address.(*syscall.SockaddrInet4).Port, limit}
	w.connect(t)
	return w
}

// connect makes a connection that waits until the test ends.
func (w waiting) connect(t *testing.T) {
	t.Helper()
	connection, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: w.port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
}

// bypass sends frames over the pair of interfaces that pass no hook, 50 kB a second.
func bypass(t *testing.T) {
	t.Helper()
	device, err := net.InterfaceByName(near)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	const packetQdiscBypass = 20 // PACKET_QDISC_BYPASS of linux/if_packet.h
	if err := syscall.SetsockoptInt(socket, syscall.SOL_PACKET, packetQdiscBypass, 1); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 1000)
	copy(frame, "\xff\xff\xff\xff\xff\xff")
	frame[12], frame[13] = 0x88, 0xb5 // an ethertype for experiments
	repeat(t, func() {
		_ = syscall.Sendto(socket, frame, 0, &syscall.SockaddrLinklayer{Ifindex: device.Index, Halen: 6})
	})
}
