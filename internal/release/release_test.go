// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// testRelease returns a release of a small program, which depends on a module.
func testRelease(t *testing.T, version string) *release {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if output, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./testdata/program").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	modules, err := moduleCache()
	if err != nil {
		t.Fatal(err)
	}
	return &release{
		version: version, time: time.Unix(1_700_000_000, 0).UTC(), repository: "../..", directory: filepath.Join(t.TempDir(), "release"),
		modules: modules, programs: []program{{"amd64", path}, {"arm64", path}},
	}
}

// TestReleaseIsTheSameEachTime makes a release twice, in different directories, and requires the same
// bytes.
func TestReleaseIsTheSameEachTime(t *testing.T) {
	first := testRelease(t, "0.1.0")
	want, err := first.make()
	if err != nil {
		t.Fatal(err)
	}
	second := testRelease(t, "0.1.0")
	for i, p := range second.programs {
		content, err := os.ReadFile(p.path)
		if err != nil {
			t.Fatal(err)
		}
		second.programs[i].path = filepath.Join(t.TempDir(), "elsewhere")
		if err := os.WriteFile(second.programs[i].path, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	local := time.Local
	time.Local = time.FixedZone("elsewhere", 3*60*60)
	defer func() { time.Local = local }()
	got, err := second.make()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the second release differs (-first +second):\n%s", diff)
	}
	var names []string
	for line := range strings.Lines(got) {
		names = append(names, strings.Fields(line)[1])
	}
	wantNames := []string{
		"otelcol-nettap-0.1.0-1.aarch64.rpm", "otelcol-nettap-0.1.0-1.x86_64.rpm", "otelcol-nettap_0.1.0.oci.tar",
		"otelcol-nettap_0.1.0_amd64.cdx.json", "otelcol-nettap_0.1.0_amd64.deb",
		"otelcol-nettap_0.1.0_arm64.cdx.json", "otelcol-nettap_0.1.0_arm64.deb",
	}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Errorf("the release has other files (-want +got):\n%s", diff)
	}
}

func TestSoftwareIsWhatTheProgramSaysOfItself(t *testing.T) {
	r := testRelease(t, "0.1.0")
	if err := os.Mkdir(r.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.writeSoftware(r.programs[0]); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(r.directory, "otelcol-nettap_0.1.0_amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(file, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(r.programs[0].path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@" + info.GoVersion}
	for _, dependency := range info.Deps {
		want = append(want, "pkg:golang/"+dependency.Path+"@"+dependency.Version)
	}
	var got []string
	for _, component := range *bom.Components {
		got = append(got, component.PackageURL)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the list differs from the program's (-want +got):\n%s", diff)
	}
}

// TestLicences requires that the licence of each module is included, and that a module without one is an
// error.
func TestLicences(t *testing.T) {
	r := testRelease(t, "0.1.0")
	licences, err := r.licences(r.programs[0])
	if err != nil {
		t.Fatal(err)
	}
	info, err := modulesOf(r.programs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, dependency := range info.Deps {
		if title := "---- " + dependency.Path + " " + dependency.Version + ": "; !strings.Contains(string(licences), title) {
			t.Errorf("there is no licence of %s", dependency.Path)
		}
	}
	r.modules = t.TempDir()
	if err := os.MkdirAll(filepath.Join(r.modules, info.Deps[0].Path+"@"+info.Deps[0].Version), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.licences(r.programs[0]); err == nil {
		t.Error("a module without a licence is taken")
	}
}

func TestCertificatesAreRoots(t *testing.T) {
	content, count := certificates(), 0
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !certificate.IsCA {
			t.Errorf("certificate %d is none of an authority: %v", count, err)
		}
		content, count = rest, count+1
	}
	if count < 100 {
		t.Errorf("the image has %d certificates, want those of all public authorities", count)
	}
}
