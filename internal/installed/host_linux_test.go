// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/vm"
)

// made is the directory with the release of the distribution, and root a tar of a Debian with systemd.
var made, root = os.Getenv("NETTAP_RELEASE"), os.Getenv("NETTAP_ROOT")

var (
	kernels      = flag.String("kernel", `^bookworm-security amd64 linux-image-6\.1\.[^ ]*$`, "the kernels of testdata/kernels.txt to boot, as a regular expression")
	arm64Kernels = flag.String("arm64-kernel", `^trixie-backports arm64 linux-image-6\.18\.`, "likewise, of TestARM64")
	parameters   = flag.String("parameters", "", "more `words` for the kernel's command line")
	parts        = flag.String("parts", "", "the parts of TestGuest to run, as a regular expression")
)

// modules are what the machine needs for its disk and network before systemd runs.
var modules = []string{"virtio_pci", "virtio_blk", "ext4", "virtio_net", "af_packet", "autofs4", "binfmt_misc"}

// devices are the machine's disk and its network, which has a DHCP server, and nothing outside. With a second
// processor, which is emulated by the same thread, each change of the kernel's code takes up to a tenth of a second.
func devices(disk string) []string {
	return []string{
		"-smp", "1",
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + disk, "-device", "virtio-blk-pci,drive=disk",
		"-netdev", "user,id=net,restrict=on,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile=",
	}
}

// job continues with the machine's disk instead of the initramfs.
const job = `
mkdir /disk
mount -t ext4 /dev/vda /disk
umount /sys/kernel/tracing /sys/fs/cgroup /sys/kernel/security /sys /tmp /run
mount -o move /dev /disk/dev
umount /proc
exec switch_root /disk /lib/systemd/systemd
`

// TestDebian boots a Debian with systemd, which runs TestGuest and switches the machine off.
func TestDebian(t *testing.T) {
	if made == "" || root == "" {
		t.Skip("make test-systemd says where the release and a Debian are")
	}
	t.Chdir("../..")
	plan, err := vm.ReadPlan(filepath.Join("testdata", "kernels.txt"), *kernels)
	if err != nil {
		t.Fatal(err)
	}
	plan.Modules = modules
	for _, kernel := range plan.Kernels {
		kernel.Parameters = append(append(kernel.Parameters, "systemd.wants=idle-run.service", "systemd.mask=serial-getty@ttyS0.service"),
			strings.Fields(*parameters)...)
		t.Run(strings.ReplaceAll(kernel.Title(), " ", "_"), func(t *testing.T) {
			boot(t, plan, kernel, machine{"TestGuest", devices(newDisk(t, addTests)), job, func(*vm.Archive) error { return nil }})
		})
	}
}

// machine is a virtual machine that runs a test.
type machine struct {
	test    string
	options []string // of qemu
	job     string
	fill    func(*vm.Archive) error
}

func boot(t *testing.T, plan vm.Plan, kernel vm.Kernel, m machine) {
	t.Helper()
	guest, err := vm.NewStore(vm.DefaultStore()).Guest(t.Context(), plan, kernel)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	passed := false
	began := time.Now()
	err = guest.Boot(ctx, t.TempDir(), m.options, []byte(m.job), m.fill, func(line string) {
		fmt.Printf("%s %4.0f | %s\n", guest.Release, time.Since(began).Seconds(), line)
		passed = passed || strings.HasPrefix(line, "--- PASS: "+m.test+" ")
	})
	if err != nil || !passed {
		t.Errorf("the tests in the guest have not passed: %v", err)
	}
}

// newDisk makes the file system of a machine, a Debian to which add adds files, and returns its path.
func newDisk(t *testing.T, add func(t *testing.T, tree string)) string {
	t.Helper()
	directory := t.TempDir()
	tree := filepath.Join(directory, "root")
	if err := os.MkdirAll(filepath.Join(tree, "tests"), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "--extract", "--numeric-owner", "--file", root, "--directory", tree)
	add(t, tree)
	disk := filepath.Join(directory, "disk")
	command(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", "-O", "^has_journal", "-d", tree, disk, "2G")
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	return disk
}

// addTests adds the settings of the machine, and this test and the packages in /tests.
func addTests(t *testing.T, tree string) {
	t.Helper()
	variables := fmt.Sprintf("NETTAP_GUEST=yes\nNETTAP_PARTS=%s\nHOME=/root\n", *parts)
	if err := os.WriteFile(filepath.Join(tree, "tests/environment"), []byte(variables), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, content := range settings {
		if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	this, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, this, filepath.Join(tree, "tests/installed.test"), 0o755)
	addPackages(t, filepath.Join(tree, "tests"))
}

// addPackages puts the deb into a directory, and a later version of it whose default configuration is another one.
func addPackages(t *testing.T, directory string) {
	t.Helper()
	tree := t.TempDir()
	command(t, "dpkg-deb", "--raw-extract", ofRelease(t, "*_amd64.deb"), tree)
	// The machine would take long to decompress it.
	command(t, "dpkg-deb", "-Znone", "--build", tree, filepath.Join(directory, "first.deb"))
	for path, edit := range map[string][2]string{
		"DEBIAN/control":                 {"\nVersion: ", "\nVersion: 9"},
		"etc/otelcol-nettap/config.yaml": {"receivers:", "# This is from a later version.\nreceivers:"},
	} {
		path = filepath.Join(tree, path)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(content), edit[0], edit[1], 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "dpkg-deb", "-Znone", "--build", tree, filepath.Join(directory, "second.deb"))
}

// ofRelease returns the path of the only file of the release whose name matches a pattern.
func ofRelease(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(made, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is %v in %s: %v", pattern, found, made, err)
	}
	return found[0]
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
}

// command runs a command and returns its output.
func command(t *testing.T, words ...string) string {
	t.Helper()
	output, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, output)
	}
	return string(output)
}
