// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePackages(t *testing.T) {
	got := parsePackages(`Package: linux-image-6.1.0-56-cloud-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Description: Linux 6.1 for x86-64 cloud (signed)
 The Linux kernel 6.1 and modules.

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)

`)
	want := []debianPackage{
		{name: "linux-image-6.1.0-56-cloud-amd64", version: "6.1.192-2"},
		{name: "linux-image-7.3.4+deb13-cloud-amd64", version: "7.3.4-1~bpo13+1",
			needs: []string{"linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"},
			lists: []string{"linux-base-7.3.4+deb13-cloud-amd64"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(debianPackage{})); diff != "" {
		t.Errorf("parsePackages() differs (-want +got):\n%s", diff)
	}
}

func TestNewestFirst(t *testing.T) {
	order := map[string]int{"7.2.9-1": 1, "7.2.12-1": 2, "7.3.4-1": 3}
	inArchive := debianPackage{name: "linux-image-7.3.4", version: "7.3.4-1", needs: []string{"linux-binary-7.3.4"}}

	got := newestFirst([]debianPackage{
		{name: "linux-image-7.2.9", version: "7.2.9-1"},
		inArchive,
		{name: "linux-image-7.2.12", version: "7.2.12-1"},
		parseFile(inArchive.file()),
	}, func(a, b string) bool { return order[a] > order[b] })
	want := []debianPackage{
		inArchive,
		{name: "linux-image-7.2.12", version: "7.2.12-1"},
		{name: "linux-image-7.2.9", version: "7.2.9-1"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(debianPackage{})); diff != "" {
		t.Errorf("newestFirst() differs (-want +got):\n%s", diff)
	}
}
