// SPDX-License-Identifier: Apache-2.0

// Command labels labels its goroutine with its current span, as receiver/pproflabels does, and sends
// on a connection to a port. Until it reads a line it sends with labels that differ each time. Then
// it sends ten times, with labels and without them in turn. It ends when its input ends.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

func main() {
	port, err := strconv.Atoi(os.Args[1])
	check(err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	check(err)
	check(syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	lines := make(chan string)
	go func() {
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			lines <- input.Text()
		}
		close(lines)
	}()
	for waiting := true; waiting; {
		work(fd, 0xff)
		select {
		case <-lines:
			waiting = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	for number := 1; number <= 10; number++ {
		work(fd, number)
		send(fd, "y")
	}
	for range lines {
	}
}

func work(fd, number int) {
	labels := pprof.Labels("path", "/", "span_id", fmt.Sprintf("d0d0d0d0d0d0d0%02x", number),
		"trace_id", fmt.Sprintf("c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0%02x", number))
	pprof.Do(context.Background(), labels, func(context.Context) { send(fd, "x") })
}

func send(fd int, text string) {
	_, err := syscall.Write(fd, []byte(text))
	check(err)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
