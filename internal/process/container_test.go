// SPDX-License-Identifier: Apache-2.0

package process

import "testing"

func TestContainer(t *testing.T) {
	const (
		id    = containerID
		other = "c8b38413c88eefe063b8cd3f01c16be5e3bda9693a19a68a88807baca9feb937"
		uid   = "12345678-1234-1234-1234-123456789012"
		uid_  = "12345678_1234_1234_1234_123456789012"
		hash  = "8dbc5577e3e1a4d5ef6e2c4e0a4bba79"
	)
	for name, test := range map[string]struct {
		cgroup, wantID, wantPod string
	}{
		"the root":                      {cgroup: "/"},
		"nothing known":                 {cgroup: ""},
		"a service":                     {cgroup: "/system.slice/nginx.service"},
		"a user's session":              {cgroup: "/user.slice/user-1000.slice/session-3.scope"},
		"docker with cgroupfs":          {cgroup: "/docker/" + id, wantID: id},
		"docker with systemd":           {cgroup: "/system.slice/docker-" + id + ".scope", wantID: id},
		"systemd inside docker":         {cgroup: "/docker/" + id + "/system.slice/nginx.service", wantID: id},
		"docker beside cgroup v1":       {cgroup: "/" + id, wantID: id},
		"nerdctl":                       {cgroup: "/system.slice/nerdctl-" + id + ".scope", wantID: id},
		"containerd without Kubernetes": {cgroup: "/default/" + id, wantID: id},
		"podman":                        {cgroup: "/machine.slice/libpod-" + id + ".scope/container", wantID: id},
		"podman without root": {
			cgroup: "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container", wantID: id,
		},
		"podman with cgroupfs": {cgroup: "/libpod_parent/libpod-" + id, wantID: id},
		"podman in a pod of its own": {
			cgroup: "/machine.slice/machine-libpod_pod_" + other + ".slice/libpod-" + id + ".scope", wantID: id,
		},
		"podman's monitor is outside of the container": {cgroup: "/machine.slice/libpod-conmon-" + id + ".scope"},
		"Kubernetes, containerd, systemd, burstable": {
			cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + id + ".scope",
			wantID: id, wantPod: uid,
		},
		"Kubernetes, containerd, systemd, guaranteed": {
			cgroup: "/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + id + ".scope", wantID: id, wantPod: uid,
		},
		"Kubernetes, containerd below its own service": {
			cgroup: "/system.slice/containerd.service/kubepods-besteffort-pod" + uid_ + ".slice:cri-containerd:" + id,
			wantID: id, wantPod: uid,
		},
		"Kubernetes, CRI-O, systemd": {
			cgroup: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/crio-" + id + ".scope/container",
			wantID: id, wantPod: uid,
		},
		"CRI-O's monitor is in the pod but outside of the container": {
			cgroup:  "/kubepods.slice/kubepods-pod" + uid_ + ".slice/crio-conmon-" + id + ".scope",
			wantPod: uid,
		},
		"Kubernetes, docker, systemd": {
			cgroup: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/docker-" + id + ".scope",
			wantID: id, wantPod: uid,
		},
		"Kubernetes with cgroupfs, burstable":  {cgroup: "/kubepods/burstable/pod" + uid + "/" + id, wantID: id, wantPod: uid},
		"Kubernetes with cgroupfs, guaranteed": {cgroup: "/kubepods/pod" + uid + "/" + id, wantID: id, wantPod: uid},
		"Kubernetes with cgroupfs, CRI-O":      {cgroup: "/kubepods/burstable/pod" + uid + "/crio-" + id, wantID: id, wantPod: uid},
		"a static pod":                         {cgroup: "/kubepods/burstable/pod" + hash + "/" + id, wantID: id, wantPod: hash},
		"a static pod under systemd": {
			cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/cri-containerd-" + id + ".scope",
			wantID: id, wantPod: hash,
		},
		"the pod itself": {cgroup: "/kubepods/burstable/pod" + uid, wantPod: uid},
		"kind: Kubernetes in docker, the innermost counts": {
			cgroup: "/docker/" + other + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/" +
				"kubelet-kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + id + ".scope",
			wantID: id, wantPod: uid,
		},
		"kind with cgroupfs": {cgroup: "/docker/" + other + "/kubelet/kubepods/pod" + uid + "/" + id, wantID: id, wantPod: uid},
		"relative to another container": {
			cgroup: "/../cri-containerd-" + id + ".scope", wantID: id,
		},
		"digits that are too few or too many": {cgroup: "/docker/" + id[:63] + "/x-" + id + "0.scope"},
		"capital digits are no id":            {cgroup: "/docker/F75AFF467357C5D0DDD47CB7AD87ED38746E018992586FF66198A5C11218F634"},
		"a service with an id in its name":    {cgroup: "/system.slice/backup-" + id + ".service"},
	} {
		t.Run(name, func(t *testing.T) {
			gotID, gotPod := container(test.cgroup)
			if gotID != test.wantID || gotPod != test.wantPod {
				t.Errorf("container(%q) = %q, %q, want %q, %q", test.cgroup, gotID, gotPod, test.wantID, test.wantPod)
			}
		})
	}
}

func FuzzContainer(f *testing.F) {
	f.Add("/kubepods/burstable/pod" + podUID + "/" + containerID)
	f.Add("/system.slice/containerd.service/kubepods-pod" + podUID + ".slice:cri-containerd:" + containerID)
	f.Fuzz(func(t *testing.T, cgroup string) {
		id, pod := container(cgroup)
		if len(id) != 0 && len(id) != 64 || len(pod) != 0 && len(pod) != 32 && len(pod) != 36 {
			t.Errorf("container(%q) = %q, %q", cgroup, id, pod)
		}
	})
}
