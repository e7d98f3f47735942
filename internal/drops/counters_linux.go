// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// hostProcess is a process in the host's network namespace. Our own /proc can be used in a
// container too, because nettap only runs in the initial pid namespace.
const hostProcess = "/proc/1"

// kernelCounters reads the kernel's own counters of dropped packets in a network namespace.
type kernelCounters struct {
	process string // the directory in /proc of a process that is in the namespace
	queues  map[queue]uint64
	dropped uint64 // by queues, since the first read
}

// queue is a queue of an interface, in which packets wait to be sent.
type queue struct{ ifindex, handle int }

// read returns all counters by their names. inode is that of the network namespace.
func (c *kernelCounters) read(inode uint32) (map[string]uint64, error) {
	all := map[string]uint64{}
	for _, file := range []struct {
		name string
		read func(map[string]uint64, io.Reader) error
	}{{"snmp", readPairs}, {"netstat", readPairs}, {"snmp6", readLines}, {"softnet_stat", readSoftnet}} {
		if err := readCounters(all, filepath.Join(c.process, "net", file.name), file.read); err != nil {
			return nil, err
		}
	}
	return all, c.readQueues(all, inode)
}

func readCounters(to map[string]uint64, path string, read func(map[string]uint64, io.Reader) error) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // such as snmp6 without IPv6
	} else if err != nil {
		return err
	}
	defer file.Close()
	if err := read(to, file); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readQueues adds up what queues have dropped, if this process is in the same network namespace.
// Queues that are gone meanwhile remain in the sum.
func (c *kernelCounters) readQueues(to map[string]uint64, inode uint32) error {
	if own, err := ownNamespace(); err != nil || own != inode {
		return err
	}
	all, err := netlink.QdiscList(nil)
	if err != nil {
		return fmt.Errorf("read the queues of interfaces: %w", err)
	}
	now := map[queue]uint64{}
	for _, one := range all {
		attributes := one.Attrs()
		if attributes.Statistics == nil || attributes.Statistics.Queue == nil {
			continue
		}
		if attributes.Parent != netlink.HANDLE_ROOT && attributes.Parent != netlink.HANDLE_INGRESS {
			continue // the count of its parent includes what it drops
		}
		now[queue{attributes.LinkIndex, int(attributes.Handle)}] = uint64(attributes.Statistics.Queue.Drops)
	}
	for which, drops := range now {
		if c.queues != nil {
			c.dropped += drops - min(drops, c.queues[which])
		}
	}
	c.queues = now
	to[qdiscDrops] = c.dropped
	return nil
}

// ownNamespace returns the inode of the network namespace of this process.
func ownNamespace() (inode uint32, err error) {
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		return 0, fmt.Errorf("network namespace %q: %w", link, err)
	}
	return inode, nil
}
