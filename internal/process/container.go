// SPDX-License-Identifier: Apache-2.0

package process

import (
	"regexp"
	"strings"
)

// Container runtimes name the cgroup of a container after its id, which has 64 hexadecimal digits:
// just the id ("/docker/ID", Kubernetes with the cgroupfs driver), or under systemd the id between
// the runtime's name and ".scope". The kubelet names the cgroup of a pod after its uid, under
// systemd with "_" in place of "-". The uid of a static pod has no dashes.
var (
	containerName = regexp.MustCompile(`^(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?$`)
	podName       = regexp.MustCompile(`(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice|$)`)
)

// claim is what the name of a cgroup claims: that it is of a container, or of a pod.
type claim struct {
	cgroup      string // path
	containerID string
	podUID      string
}

// claims returns the claims of the names on the path of a cgroup, the outermost first.
func claims(cgroup string) []claim {
	var all []claim
	end := 0
	for name := range strings.SplitSeq(cgroup, "/") {
		end += len(name)
		c := claim{cgroup: cgroup[:end]}
		// crio-conmon-ID.scope and libpod-conmon-ID.scope contain the monitor of a
		// container, which is outside it.
		if m := containerName.FindStringSubmatch(name); m != nil && !strings.Contains(name, "-conmon-") {
			c.containerID = m[1]
		}
		if m := podName.FindStringSubmatch(name); m != nil {
			c.podUID = strings.ReplaceAll(m[1], "_", "-")
		}
		if c.containerID != "" || c.podUID != "" {
			all = append(all, c)
		}
		end++
	}
	return all
}

// container returns the id of the innermost container of a cgroup, and the uid of the Kubernetes
// pod; empty if there is none. It trusts every name.
func container(cgroup string) (containerID, podUID string) {
	return believed(cgroup, func(claim) bool { return true }, nil)
}

// believed returns the container and the pod according to the names on the path of a cgroup.
// Whoever may make cgroups may choose their names. So the innermost name counts whose cgroup
// belongs to root, and if there is none, the outermost name that no other cgroup has.
func believed(cgroup string, isRoots, isOnly func(claim) bool) (containerID, podUID string) {
	for _, c := range claims(cgroup) {
		roots := isRoots(c)
		if c.containerID != "" && (roots || containerID == "" && isOnly(claim{cgroup: c.cgroup, containerID: c.containerID})) {
			containerID = c.containerID
		}
		if c.podUID != "" && (roots || podUID == "" && isOnly(claim{cgroup: c.cgroup, podUID: c.podUID})) {
			podUID = c.podUID
		}
	}
	return containerID, podUID
}
