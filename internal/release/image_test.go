// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// readImage returns the index of an archive, which has an image for each architecture.
func readImage(t *testing.T, archive string) v1.ImageIndex {
	t.Helper()
	directory := t.TempDir()
	if output, err := exec.Command("tar", "--extract", "--file", archive, "--directory", directory).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	written, err := layout.FromPath(directory)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := written.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// unpack writes the files of an image to a directory and returns their names and modes.
func unpack(t *testing.T, image v1.Image, directory string) map[string]string {
	t.Helper()
	content := mutate.Extract(image)
	defer content.Close()
	files := map[string]string{}
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = fmt.Sprintf("%s %d:%d %s", header.FileInfo().Mode(), header.Uid, header.Gid, header.ModTime.UTC().Format(time.DateOnly))
		path := filepath.Join(directory, header.Name)
		if header.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = writeFrom(reader, path, header.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeFrom(reader io.Reader, path string, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, reader)
	return errors.Join(err, file.Close())
}

func TestImageHasTheProgramAndNothingElse(t *testing.T) {
	r := testRelease(t, "0.1.0")
	if err := os.Mkdir(r.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.writeImage(); err != nil {
		t.Fatal(err)
	}
	index := readImage(t, filepath.Join(r.directory, "otelcol-nettap_0.1.0.oci.tar"))
	if err := validate.Index(index); err != nil {
		t.Errorf("the image is not as the Open Container Initiative describes: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var architectures []string
	for _, descriptor := range manifest.Manifests {
		architectures = append(architectures, descriptor.Platform.String())
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"etc":                               "drwxr-xr-x 0:0 2023-11-14",
			"etc/group":                         "-rw-r--r-- 0:0 2023-11-14",
			"etc/passwd":                        "-rw-r--r-- 0:0 2023-11-14",
			"etc/ssl":                           "drwxr-xr-x 0:0 2023-11-14",
			"etc/ssl/certs":                     "drwxr-xr-x 0:0 2023-11-14",
			"etc/ssl/certs/ca-certificates.crt": "-rw-r--r-- 0:0 2023-11-14",
			"otelcol-nettap":                    "-rwxr-xr-x 0:0 2023-11-14",
		}
		if diff := cmp.Diff(want, unpack(t, image, t.TempDir())); diff != "" {
			t.Errorf("the image has other files (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, architectures); diff != "" {
		t.Errorf("the image is for others (-want +got):\n%s", diff)
	}
}

// configurationInside is the configuration in the container, with directories of the host below /host as in the
// DaemonSet.
const configurationInside = `
receivers: {nettap: {root_path: /host}}
exporters: {nop: }
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics: {receivers: [nettap], exporters: [nop]}
    logs: {receivers: [nettap], exporters: [nop]}
    traces: {receivers: [nettap], exporters: [nop]}
`

// mounts is a script that makes the mounts of a container runtime and of the DaemonSet, which are read-only with all that
// is mounted below them.
const mounts = `set -e
mount --make-rprivate /
mkdir -p "$0/proc" "$0/sys" "$0/host/sys" "$0/host/etc"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /sys "$0/host/sys"
mount --rbind /etc "$0/host/etc"
cut -d ' ' -f 5 /proc/self/mountinfo | grep "^$0/host/" | while read -r below; do mount -o remount,bind,ro "$below"; done
exec chroot "$0" /otelcol-nettap --config /etc/otelcol-nettap/config.yaml`

func TestImageRunsInAContainersRoot(t *testing.T) {
	if made == "" {
		t.Skip("make test-packages says where the release is")
	}
	index := readImage(t, newest(t, "*.oci.tar"))
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(images.Manifests[0].Digest) // amd64
	if err != nil {
		t.Fatal(err)
	}
	directory, port := t.TempDir(), freePort(t)
	unpack(t, image, directory)
	if err := os.MkdirAll(filepath.Join(directory, "etc/otelcol-nettap"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, configuration), fmt.Appendf(nil, configurationInside, port), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command("unshare", "--mount", "sh", "-c", mounts, directory)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { _ = command.Process.Kill() })
	awaitHealth(t, port, ended, log.Name())
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end on SIGTERM")
	}
	written, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(written), "instrument runs"); got < 4 {
		t.Errorf("%d instruments run, want traffic, drops, accepts and calls:\n%s", got, written)
	}
	for line := range strings.Lines(string(written)) {
		if fields := strings.Split(line, "\t"); len(fields) > 1 && fields[1] != "info" {
			t.Errorf("it warns of %s", line)
		}
	}
}

// awaitHealth waits until the Collector's health check says that all components run.
func awaitHealth(t *testing.T, port int, ended <-chan error, log string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		select {
		case err := <-ended:
			written, _ := os.ReadFile(log)
			t.Fatalf("it ends with %v:\n%s", err, written)
		case <-time.After(100 * time.Millisecond):
		}
		response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)) //nolint:noctx // the client has a timeout
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	written, _ := os.ReadFile(log)
	t.Fatalf("it is not healthy after three minutes:\n%s", written)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
