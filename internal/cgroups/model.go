// SPDX-License-Identifier: Apache-2.0

// Package cgroups follows cgroups as they are made and removed, so that the path of a
// cgroup is known after its removal. Each receiver loads it once. Kernel side:
// bpf/cgroups.bpf.c.
package cgroups

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/seed-7756021b/nettap/internal/process"
)

// idBytes is the size of a record before the path.
const idBytes = 8

// decode decodes a record: struct cgroup_change, which ends after its path. The ring pads it to a
// multiple of 8 bytes.
func decode(record []byte) (process.CgroupChange, error) {
	if len(record) < idBytes {
		return process.CgroupChange{}, fmt.Errorf("decode the change of a cgroup: the record has %d bytes", len(record))
	}
	path, _, _ := strings.Cut(string(record[idBytes:]), "\x00")
	return process.CgroupChange{ID: binary.NativeEndian.Uint64(record), Path: path}, nil
}
