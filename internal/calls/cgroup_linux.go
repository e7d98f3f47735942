// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// maxCgroups is how many cgroups the filter can have: those that it names, and all below them.
const maxCgroups = 4096

// refreshCgroups brings the filter up to date with the cgroups that exist now.
func (c *Calls) refreshCgroups() error {
	filter := c.options.Filter
	if len(filter.Cgroups)+len(filter.Containers) == 0 {
		return nil
	}
	present, version, err := c.processes.Cgroups(c.cgroupsAt, filter.wantsCgroup)
	if err != nil {
		return fmt.Errorf("filter by cgroup: %w", err)
	}
	if version == c.cgroupsAt {
		return nil
	}
	gone := maps.Clone(c.cgroups)
	for _, id := range present {
		delete(gone, id)
		if c.cgroups[id] {
			continue
		}
		if err := c.object.Maps[bpfMapCgroups].Put(id, uint8(1)); err != nil {
			return fmt.Errorf("filter by cgroup, of which %d can be told apart: %w", maxCgroups, err)
		}
		c.cgroups[id] = true
	}
	for id := range gone {
		if err := c.object.Maps[bpfMapCgroups].Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("filter by cgroup: %w", err)
		}
		delete(c.cgroups, id)
	}
	c.cgroupsAt = version
	return nil
}

// wantsCgroup reports whether the filter names a cgroup, one above it, or its container.
func (f Filter) wantsCgroup(path, containerID string) bool {
	if containerID != "" && slices.Contains(f.Containers, containerID) {
		return true
	}
	return slices.ContainsFunc(f.Cgroups, func(named string) bool {
		named = "/" + strings.Trim(named, "/")
		return path == named || named == "/" || strings.HasPrefix(path, named+"/")
	})
}
