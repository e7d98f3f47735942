// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7756021b/nettap/internal/child"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	arm64 = "arm64"

	// image is where the machine has the image's root.
	image = "image"

	// said is the file with what the program has said.
	said = "/tmp/log"
)

// jobOfProgram is what the machine does. The deb and the image have the same program.
const jobOfProgram = `
mkdir -p /usr/bin /var/lib/otelcol-nettap
echo 127.0.0.1 localhost >/etc/hosts
ln /` + image + `/otelcol-nettap /usr/bin/otelcol-nettap
export PATH=$PATH:/usr/bin NETTAP_GUEST=yes OTLP_INSECURE=true GOGC=off GOMEMLIMIT=600MiB
/tests/installed.test -test.v -test.timeout 15m -test.run '^TestProgram$' 2>&1
`

// TestARM64 boots a machine for which this one has to emulate each instruction. It runs TestProgram with the
// program and the configuration of the deb, and with the image.
func TestARM64(t *testing.T) {
	if made == "" {
		t.Skip("make test-arm64 says where the release is")
	}
	t.Chdir("../..")
	plan, err := vm.ReadPlan(filepath.Join("testdata", "kernels.txt"), *arm64Kernels)
	if err != nil {
		t.Fatal(err)
	}
	plan.Modules = nil
	deb, unpacked, tests := t.TempDir(), imageRoot(t, ofRelease(t, "*.oci.tar")), t.TempDir()
	command(t, "dpkg-deb", "--extract", ofRelease(t, "*_"+arm64+".deb"), deb)
	requireSame(t, filepath.Join(deb, "usr/bin/otelcol-nettap"), filepath.Join(unpacked, "otelcol-nettap"))
	if _, err := vm.Output(vm.GoCommand(t.Context(), arm64, "test", "-c", "-ldflags=-w", "-o", tests, "./internal/installed")); err != nil {
		t.Fatal(err)
	}
	for _, kernel := range plan.Kernels {
		t.Run(strings.ReplaceAll(kernel.Title(), " ", "_"), func(t *testing.T) {
			boot(t, plan, kernel, machine{"TestProgram", vm.Testing, jobOfProgram, func(a *vm.Archive) error {
				a.Directory(image)
				a.Directory("tests")
				return errors.Join(addTree(a, image, unpacked), a.Tree(".", deb, "etc"), a.Tree("tests", tests, "installed.test"))
			}})
		})
	}
}

// imageRoot unpacks the image for arm64 of an archive, and returns the directory.
//
// Source: image-layout.md of the Open Container Initiative's image specification.
func imageRoot(t *testing.T, archive string) string {
	t.Helper()
	layout, root := t.TempDir(), t.TempDir()
	command(t, "tar", "--extract", "--file", archive, "--directory", layout)
	type descriptor struct {
		Digest   string
		Platform struct{ Architecture string }
	}
	type document struct{ Manifests, Layers []descriptor }
	blob := func(d descriptor) string {
		return filepath.Join(layout, "blobs", strings.Replace(d.Digest, ":", "/", 1))
	}
	read := func(path string) (d document) {
		content, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(content, &d)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return d
	}
	for _, index := range read(filepath.Join(layout, "index.json")).Manifests {
		for _, manifest := range read(blob(index)).Manifests {
			if manifest.Platform.Architecture != arm64 {
				continue
			}
			for _, layer := range read(blob(manifest)).Layers {
				command(t, "tar", "--extract", "--file", blob(layer), "--directory", root)
			}
		}
	}
	return root
}

func requireSame(t *testing.T, paths ...string) {
	t.Helper()
	var first []byte
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = content
		}
		if !bytes.Equal(first, content) {
			t.Fatalf("%s is another program than %s", path, paths[0])
		}
	}
}

// addTree adds all that is in a directory of this machine.
func addTree(a *vm.Archive, directory, root string) error {
	entries, err := os.ReadDir(root)
	for _, entry := range entries {
		err = errors.Join(err, a.Tree(directory, root, entry.Name()))
	}
	return err
}

// TestProgram runs in the virtual machine that TestARM64 boots.
func TestProgram(t *testing.T) {
	if os.Getenv("NETTAP_GUEST") == "" {
		t.Skip("this test is run by TestARM64")
	}
	for _, words := range [][]string{{"otelcol-nettap", "--version"}, {"chroot", "/" + image, "/otelcol-nettap", "--version"}} {
		if got, want := command(t, words...), "otelcol-nettap version "; !strings.HasPrefix(got, want) {
			t.Errorf("%v prints %q, want %q and the version", words, got, want)
		}
	}
	command(t, "otelcol-nettap", "validate", "--config", configuration)

	g := guest{t, startBackend(t), []string{"tail", "-n", "30", said}}
	program := startProgram(t)
	g.collects()
	for name, part := range map[string]func(guest){
		"counts traffic": guest.countsTraffic, "reports an accept": guest.reportsAnAccept,
		"counts drops": guest.countsDrops, "reports a failed call": guest.reportsAFailedCall,
	} {
		t.Run(name, func(t *testing.T) { part(guest{t, g.backend, g.log}) })
	}
	objects := kerneltest.ObjectsOf(t, program.Process.Pid)
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("the program ends with %v:\n%s", err, g.run(g.log...))
	}
	objects.AwaitGone(t, func() {})
}

// startProgram starts the program with the configuration of the package.
func startProgram(t *testing.T) *exec.Cmd {
	t.Helper()
	log, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	program := exec.Command("otelcol-nettap", "--config", configuration)
	program.Stdout, program.Stderr = log, log
	if err := child.Start(program); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Process.Kill() }) // if it has not ended
	return program
}
