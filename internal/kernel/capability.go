package kernel

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// capability is a Linux capability by its number.
//
// Source: include/uapi/linux/capability.h.
type capability uint

const (
	capNetAdmin    capability = 12
	capSysPtrace   capability = 19
	capSysAdmin    capability = 21
	capSysResource capability = 24
	capSyslog      capability = 34
	capPerfmon     capability = 38
	capBPF         capability = 39
)

func (c capability) String() string {
	return map[capability]string{
		capNetAdmin:    "CAP_NET_ADMIN",
		capSysPtrace:   "CAP_SYS_PTRACE",
		capSysAdmin:    "CAP_SYS_ADMIN",
		capSysResource: "CAP_SYS_RESOURCE",
		capSyslog:      "CAP_SYSLOG",
		capPerfmon:     "CAP_PERFMON",
		capBPF:         "CAP_BPF",
	}[c]
}

// capabilities is a set of them, bit by bit.
type capabilities uint64

func (s capabilities) has(c capability) bool {
	held := func(c capability) bool { return s&(1<<c) != 0 }
	impliedBySysAdmin := c == capBPF || c == capPerfmon
	return held(c) || impliedBySysAdmin && held(capSysAdmin)
}

// require returns an error matching [os.ErrPermission] that names those of needed
// which are not in the set.
func (s capabilities) require(needed ...capability) error {
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
