// SPDX-License-Identifier: Apache-2.0

package process

import (
	"regexp"
	"strings"
)

// Container runtimes name the cgroup of a container after its id, 64 hexadecimal
// digits: as it is ("/docker/ID", Kubernetes with the cgroupfs driver), or between
// the runtime's name and ".scope" under systemd. The kubelet names the cgroup of
// a pod after its uid, with "_" for "-" under systemd; that of a static pod has no
// dashes.
var (
	containerName = regexp.MustCompile(`^(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?$`)
	podName       = regexp.MustCompile(`(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice|$)`)
)

// claim is what the name of a cgroup says: that it is of a container, or of a pod.
type claim struct {
	cgroup      string // path
	containerID string
	podUID      string
}

// claims returns what the names on the path of a cgroup say, the outermost first.
func claims(cgroup string) []claim {
	var all []claim
	end := 0
	for name := range strings.SplitSeq(cgroup, "/") {
		end += len(name)
		c := claim{cgroup: cgroup[:end]}
		// crio-conmon-ID.scope and libpod-conmon-ID.scope hold what watches a container from outside.
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

// container returns the id of the innermost container that the cgroup is in, and
// the uid of the Kubernetes pod; empty where there is none. It believes every name.
func container(cgroup string) (containerID, podUID string) {
	return believed(cgroup, func(claim) bool { return true }, nil)
}

// believed returns what the names on the path of a cgroup say of its container and pod.
// Who may make cgroups may call them anything: the innermost name that is root's wins, and
// where there is none the outermost that nobody else has.
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
