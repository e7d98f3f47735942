// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A user to whom a cgroup is delegated may make cgroups below it, with any name.
func TestDelegatedCgroupsForgeNoContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give cgroups away")
	}
	const user = "/user.slice/user-1000.slice/user@1000.service"
	docker := func(id string) string { return "/docker-" + id + ".scope" }
	victim, rootless, unique := containerID, strings.Repeat("b", 64), strings.Repeat("c", 64)
	pod := "/kubepods.slice/kubepods-pod" + strings.ReplaceAll(podUID, "-", "_") + ".slice"
	root := t.TempDir()
	for path, uid := range map[string]int{
		"/system.slice" + docker(victim):                                0,
		user + docker(victim):                                           1000,
		"/system.slice" + docker(victim) + docker(unique):               1000,
		user + "/a" + docker(rootless):                                  1000,
		user + "/b" + docker(rootless):                                  1000,
		user + "/c" + docker(unique[:63]+"d"):                           1000,
		user + "/c" + docker(unique[:63]+"d") + docker(victim):          1000,
		user + "/d" + docker(unique[:63]+"e"):                           1000,
		user + "/d" + docker(unique[:63]+"e") + docker(unique[:63]+"f"): 1000,
		user + "/e/" + filepath.Base(pod):                               1000,
		pod:                                                             0,
	} {
		makeCgroup(t, root, path)
		if err := os.Lchown(filepath.Join(root, path), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		cgroup, wantContainer, wantPod string
	}{
		"the container itself":                             {cgroup: "/system.slice" + docker(victim), wantContainer: victim},
		"a cgroup in the container":                        {cgroup: "/system.slice" + docker(victim) + "/init", wantContainer: victim},
		"a user's cgroup of the same name":                 {cgroup: user + docker(victim)},
		"another name inside of the container":             {cgroup: "/system.slice" + docker(victim) + docker(unique), wantContainer: victim},
		"one of two users' of the same name":               {cgroup: user + "/a" + docker(rootless)},
		"a rootless container":                             {cgroup: user + "/c" + docker(unique[:63]+"d"), wantContainer: unique[:63] + "d"},
		"the container's name inside of a rootless one":    {cgroup: user + "/c" + docker(unique[:63]+"d") + docker(victim), wantContainer: unique[:63] + "d"},
		"any name inside of a rootless one":                {cgroup: user + "/d" + docker(unique[:63]+"e") + docker(unique[:63]+"f"), wantContainer: unique[:63] + "e"},
		"a pod":                                            {cgroup: pod + docker(unique[:63]+"0"), wantContainer: unique[:63] + "0", wantPod: podUID},
		"a user's cgroup of a pod's name":                  {cgroup: user + "/e/" + filepath.Base(pod)},
		"the container that is gone, by a path of its own": {cgroup: "/gone" + docker(unique[:63]+"1"), wantContainer: unique[:63] + "1"},
		"a user's that is gone":                            {cgroup: user + "/gone" + docker(victim)},
		"by a relative path":                               {cgroup: "/../.." + docker(unique[:63]+"d"), wantContainer: unique[:63] + "d"},
		"a name that several have, by a relative path":     {cgroup: "/../.." + docker(victim)},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(root)
			tree.next = time.Time{}
			container, pod := tree.container(test.cgroup)
			if container != test.wantContainer || pod != test.wantPod {
				t.Errorf("the container is %q and the pod %q, want %q and %q", container, pod, test.wantContainer, test.wantPod)
			}
		})
	}
}
