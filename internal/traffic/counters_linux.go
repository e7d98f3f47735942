// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/prometheus/procfs"
)

// counters reads the interfaces' own counters in every network namespace that has a process, from
// /proc/PID/net/dev, which needs no setns. Our own /proc can be used in a container too, because
// nettap only runs in the initial pid namespace.
type counters struct{ fs procfs.FS }

func newCounters() (*counters, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &counters{fs: fs}, nil
}

func namespaceInode(link string) (inode uint32, err error) {
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		return 0, fmt.Errorf("namespace link %q: %w", link, err)
	}
	return inode, nil
}

// read returns the counters of each namespace's interfaces by their names. A namespace that has
// lost its process since the survey is left out.
func (c *counters) read(namespaces map[uint64]bpfNamespaceEntry, epoch uint64) map[uint64]map[string]counter {
	all := make(map[uint64]map[string]counter)
	for netns, entry := range namespaces {
		if entry.Epoch != epoch {
			continue
		}
		if interfaces, err := c.readNamespace(entry); err == nil {
			all[netns] = interfaces
		}
	}
	return all
}

var errMoved = errors.New("the process is in another network namespace now")

// readNamespace reads the counters that a process sees. The process may enter another namespace at
// any time, or end so that another process gets its pid.
func (c *counters) readNamespace(entry bpfNamespaceEntry) (map[string]counter, error) {
	process, err := c.fs.Proc(int(entry.Pid))
	if err != nil {
		return nil, err
	}
	if err := requireNamespace(entry); err != nil {
		return nil, err
	}
	lines, err := process.NetDev()
	if err != nil {
		return nil, err
	}
	interfaces := make(map[string]counter, len(lines))
	for name, line := range lines {
		interfaces[name] = counter{
			bpfDirectionTRANSMIT: {packets: line.TxPackets, bytes: line.TxBytes},
			bpfDirectionRECEIVE:  {packets: line.RxPackets, bytes: line.RxBytes},
		}
	}
	return interfaces, requireNamespace(entry)
}

func requireNamespace(entry bpfNamespaceEntry) error {
	link, err := os.Readlink(fmt.Sprintf("%s/%d/ns/net", procfs.DefaultMountPoint, entry.Pid))
	if err != nil {
		return err
	}
	inode, err := namespaceInode(link)
	if err == nil && inode != entry.Inode {
		err = errMoved
	}
	return err
}

// processless returns the inode numbers of namespaces that exist without a process, because they
// are mounted, as `ip netns add` does it. What their interfaces have counted so far cannot be
// read.
func (c *counters) processless(s *snapshot) map[uint32]bool {
	inodes := make(map[uint32]bool)
	for _, file := range []string{"1/mountinfo", "self/mountinfo"} {
		f, err := os.Open(filepath.Join(procfs.DefaultMountPoint, file))
		if err != nil {
			continue
		}
		mounts, _ := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("nsfs"))
		f.Close()
		for _, mount := range mounts {
			if !strings.HasPrefix(mount.Root, "net:") {
				continue
			}
			if inode, err := namespaceInode(mount.Root); err == nil {
				inodes[inode] = true
			}
		}
	}
	for _, entry := range s.namespaces {
		delete(inodes, entry.Inode)
	}
	return inodes
}
