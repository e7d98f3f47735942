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

// hostProcess is one in the host's network namespace. Our own /proc will do, also in a
// container: we only run in the initial pid namespace.
const hostProcess = "/proc/1"

// kernelCounters reads the counters that the kernel itself has of dropped packets in a
// network namespace.
type kernelCounters struct {
	process string // the directory in /proc of one that is in it
	queues  map[queue]uint64
	dropped uint64 // by queues, since the first reading
}

// queue is one of an interface, at which packets wait to be sent.
type queue struct{ ifindex, handle int }

// read returns all counters by their names. The inode is that of the network namespace.
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
		return nil // as snmp6 without IPv6
	} else if err != nil {
		return err
	}
	defer file.Close()
	if err := read(to, file); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readQueues adds up what queues have dropped, where we are in the same network namespace.
// Those that are gone meanwhile stay in the sum.
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
			continue // what it drops is in its parent's count
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

// ownNamespace is the inode of the network namespace that we are in.
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
