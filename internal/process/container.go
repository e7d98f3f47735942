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

// container returns the id of the innermost container that the cgroup is in, and
// the uid of the Kubernetes pod; empty where there is none.
func container(cgroup string) (containerID, podUID string) {
	for name := range strings.SplitSeq(cgroup, "/") {
		// crio-conmon-ID.scope and libpod-conmon-ID.scope hold what watches a container from outside.
		if m := containerName.FindStringSubmatch(name); m != nil && !strings.Contains(name, "-conmon-") {
			containerID = m[1]
		}
		if m := podName.FindStringSubmatch(name); m != nil {
			podUID = strings.ReplaceAll(m[1], "_", "-")
		}
	}
	return containerID, podUID
}
