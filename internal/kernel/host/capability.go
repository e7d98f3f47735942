// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Capability is a Linux capability by its number.
//
// Source: include/uapi/linux/capability.h.
type Capability uint

// The capabilities that nettap may need.
const (
	CapNetAdmin    Capability = 12
	CapSysPtrace   Capability = 19
	CapSysAdmin    Capability = 21
	CapSysResource Capability = 24
	CapSyslog      Capability = 34
	CapPerfmon     Capability = 38
	CapBPF         Capability = 39
)

func (c Capability) String() string {
	return map[Capability]string{
		CapNetAdmin:    "CAP_NET_ADMIN",
		CapSysPtrace:   "CAP_SYS_PTRACE",
		CapSysAdmin:    "CAP_SYS_ADMIN",
		CapSysResource: "CAP_SYS_RESOURCE",
		CapSyslog:      "CAP_SYSLOG",
		CapPerfmon:     "CAP_PERFMON",
		CapBPF:         "CAP_BPF",
	}[c]
}

// capabilities is a set of capabilities, one bit each.
type capabilities uint64

func (s capabilities) has(c Capability) bool {
	held := func(c Capability) bool { return s&(1<<c) != 0 }
	impliedBySysAdmin := c == CapBPF || c == CapPerfmon
	return held(c) || impliedBySysAdmin && held(CapSysAdmin)
}

// require returns an error matching [os.ErrPermission] that names the needed capabilities which
// are not in the set.
func (s capabilities) require(needed ...Capability) error {
	missing := slices.DeleteFunc(slices.Clone(needed), s.has)
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, c := range missing {
		names = append(names, c.String())
	}
	return fmt.Errorf("missing %s: run as root, or grant them (systemd: AmbientCapabilities=, Kubernetes: securityContext.capabilities.add): %w",
		strings.Join(names, ", "), os.ErrPermission)
}
