// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// made is the directory with the release of the distribution, for tests that install it. root is a tar
// of a minimal Debian.
var made, root = os.Getenv("NETTAP_RELEASE"), os.Getenv("NETTAP_ROOT")

// machine is a minimal Debian in a directory.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	if made == "" || root == "" {
		t.Skip("make test-packages says where the release and a clean root are")
	}
	m := machine{t: t, root: t.TempDir()}
	m.run("tar", "--extract", "--numeric-owner", "--file", root, "--directory", m.root)
	return m
}

// run runs a command outside the root, and returns its output.
func (m machine) run(command ...string) string {
	m.t.Helper()
	output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output)
	}
	return string(output)
}

// inside runs a command inside the root, and returns its output.
func (m machine) inside(command ...string) string {
	m.t.Helper()
	return m.run(append([]string{"chroot", m.root}, command...)...)
}

// files returns mode and owner of each file in the root, without the files of the package managers and of
// the programs that add users.
func (m machine) files() map[string]string {
	m.t.Helper()
	own := regexp.MustCompile(`^(var/(lib/(dpkg|rpm|systemd)|log|cache)(/|$)|root/\.rpmdb|etc/(passwd|group|g?shadow|sub[ug]id|\.pwd\.lock)-?$|run(/|$))`)
	files := map[string]string{}
	listed := m.run("find", m.root, "-mindepth", "1", "-printf", `%P\t%M %u %g %l\n`)
	for line := range strings.Lines(listed) {
		path, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !own.MatchString(path) {
			files[path] = rest
		}
	}
	return files
}

// added returns the files that are new or have changed, with mode and owner, and fails the test if a file
// is gone.
func (m machine) added(before map[string]string) map[string]string {
	m.t.Helper()
	after := m.files()
	maps.DeleteFunc(after, func(path, rest string) bool { return before[path] == rest })
	for path := range before {
		if _, err := os.Lstat(filepath.Join(m.root, path)); err != nil {
			m.t.Errorf("%s is gone", path)
		}
	}
	return after
}

const configuration = "etc/otelcol-nettap/config.yaml"

// runs checks that the program runs, that its configuration is valid, and that its user exists.
func (m machine) runs() {
	m.t.Helper()
	if got, want := m.inside("otelcol-nettap", "--version"), "otelcol-nettap version "; !strings.HasPrefix(got, want) {
		m.t.Errorf("otelcol-nettap --version prints %q, want %q and the version", got, want)
	}
	m.inside("otelcol-nettap", "validate", "--config", "/"+configuration)
	if got := m.inside("getent", "passwd", "otelcol-nettap"); !regexp.MustCompile(
		`^otelcol-nettap:x:\d+:\d+:OpenTelemetry Collector with nettap:/var/lib/otelcol-nettap:/usr/sbin/nologin\n$`).MatchString(got) {
		m.t.Errorf("the user is %q", got)
	}
}

// change does what an administrator and the service do: it edits the configuration, whose new content it
// returns, and leaves data in the queue.
func (m machine) change() string {
	m.t.Helper()
	path := filepath.Join(m.root, configuration)
	content, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	changed := "# Changed.\n" + string(content)
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		m.t.Fatal(err)
	}
	unsent := filepath.Join(m.root, "var/lib/otelcol-nettap/queue")
	if err := os.MkdirAll(unsent, 0o700); err != nil {
		m.t.Fatal(err)
	}
	return changed
}

// unchanged checks that a file still has the content of change.
func (m machine) unchanged(path, want string) {
	m.t.Helper()
	got, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		m.t.Errorf("%s has lost what was changed (-want +got):\n%s", path, diff)
	}
}

// contents are the files that both packages have.
var contents = map[string]string{
	"etc/otelcol-nettap":                            "drwxr-xr-x root root ",
	"etc/otelcol-nettap/config.yaml":                "-rw-r--r-- root root ",
	"etc/otelcol-nettap/environment":                "-rw------- root root ",
	"usr/bin/otelcol-nettap":                        "-rwxr-xr-x root root ",
	"usr/lib/systemd/system/otelcol-nettap.service": "-rw-r--r-- root root ",
	"usr/lib/sysusers.d":                            "drwxr-xr-x root root ",
	"usr/lib/sysusers.d/otelcol-nettap.conf":        "-rw-r--r-- root root ",
	"usr/share/doc/otelcol-nettap":                  "drwxr-xr-x root root ",
	"usr/share/doc/otelcol-nettap/changelog.gz":     "-rw-r--r-- root root ",
	"usr/share/doc/otelcol-nettap/copyright":        "-rw-r--r-- root root ",
	"usr/share/doc/otelcol-nettap/licences.gz":      "-rw-r--r-- root root ",
	"usr/share/man/man8/otelcol-nettap.8.gz":        "-rw-r--r-- root root ",
}

// refuses checks that what the unit does first on a reload fails if the configuration is wrong, so that the
// service goes on with the one that it has.
func (m machine) refuses() {
	m.t.Helper()
	unit, err := os.ReadFile(filepath.Join(m.root, "usr/lib/systemd/system/otelcol-nettap.service"))
	if err != nil {
		m.t.Fatal(err)
	}
	var reload []string
	for _, line := range regexp.MustCompile(`(?m)^ExecReload=(.*)$`).FindAllStringSubmatch(string(unit), -1) {
		reload = append(reload, line[1])
	}
	if len(reload) != 2 || reload[1] != "/bin/kill -HUP $MAINPID" {
		m.t.Fatalf("a reload is %q", reload)
	}
	path := filepath.Join(m.root, configuration)
	right, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	for content, want := range map[string]bool{string(right): true, strings.Replace(string(right), "nettap:", "netpat:", 1): false} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
		output, err := exec.Command("chroot", append([]string{m.root}, strings.Fields(reload[0])...)...).CombinedOutput()
		if (err == nil) != want {
			m.t.Errorf("%s succeeds: %v, want %v: %s", reload[0], err == nil, want, output)
		}
	}
	if err := os.WriteFile(path, right, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// packageOf makes the packages of a version, with a small program in them, and returns the path of the one with the name.
func packageOf(t *testing.T, version, name string) string {
	t.Helper()
	r := testRelease(t, version)
	if err := os.MkdirAll(r.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.writePackages(r.programs[0]); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(r.directory, name)
}

// newest returns the path of the package of the distribution.
func newest(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(made, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is %v in %s: %v", pattern, found, made, err)
	}
	return found[0]
}

func TestDebIsInstalledUpgradedRemovedAndPurged(t *testing.T) {
	m := newMachine(t)
	before := m.files()
	dpkg := func(arguments ...string) string {
		t.Helper()
		return m.run(append([]string{"dpkg", "--root=" + m.root}, arguments...)...)
	}
	dpkg("--install", packageOf(t, "0.0.9", "otelcol-nettap_0.0.9_amd64.deb"))
	changed := m.change()
	dpkg("--install", newest(t, "*_amd64.deb"))
	m.runs()
	m.refuses()
	m.unchanged(configuration, changed)
	added := m.added(before)
	maps.DeleteFunc(added, func(path, _ string) bool { return strings.HasPrefix(path, "var/lib/otelcol-nettap") })
	if diff := cmp.Diff(contents, added); diff != "" {
		t.Errorf("the package has other files (-want +got):\n%s", diff)
	}
	if got, want := dpkg("--verify", "otelcol-nettap"), "??5?????? c /"+configuration+"\n"; got != want {
		t.Errorf("dpkg --verify says %q, want %q", got, want)
	}

	dpkg("--remove", "otelcol-nettap")
	left := slices.Sorted(maps.Keys(m.added(before)))
	want := []string{"etc/otelcol-nettap", "etc/otelcol-nettap/config.yaml", "etc/otelcol-nettap/environment", "var/lib/otelcol-nettap", "var/lib/otelcol-nettap/queue"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("after the removal other files are left (-want +got):\n%s", diff)
	}
	dpkg("--purge", "otelcol-nettap")
	if diff := cmp.Diff(map[string]string{}, m.added(before)); diff != "" {
		t.Errorf("the purge leaves files (-want +got):\n%s", diff)
	}
}

// manager is a systemctl for a machine without systemd. A link says whether the service is enabled, as with systemd, and
// a file has a line for each time that it was started since it was stopped.
const manager = `#!/bin/sh
link=/etc/systemd/system/multi-user.target.wants/otelcol-nettap.service
running=/run/otelcol-nettap
for verb; do case "$verb" in -*) ;; *) break ;; esac; done
case "$verb" in
is-enabled) test -h "$link" && echo enabled ;;
is-active) test -e "$running" ;;
enable | preset) mkdir -p "${link%/*}" && ln -sf /usr/lib/systemd/system/otelcol-nettap.service "$link" ;;
disable) rm -f "$link" ;;
start | restart) echo started >>"$running" ;;
try-restart) test ! -e "$running" || echo started >>"$running" ;;
stop) rm -f "$running" ;;
daemon-reload) ;;
*) echo "nobody has described systemctl $*" >&2 && exit 1 ;;
esac
`

// TestDebKeepsWhetherTheServiceRuns requires that upgrades, and removals that are followed by an installation, leave a
// service running that was enabled, and leave one alone that was not. That the real systemctl does so is seen by
// make test-systemd.
func TestDebKeepsWhetherTheServiceRuns(t *testing.T) {
	m := newMachine(t)
	dpkg := func(arguments ...string) {
		t.Helper()
		m.run(append([]string{"dpkg", "--root=" + m.root}, arguments...)...)
	}
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(m.root, path), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const link, running, policy = "etc/systemd/system/multi-user.target.wants/otelcol-nettap.service", "run/otelcol-nettap", "usr/sbin/policy-rc.d"
	require := func(after string, enabled bool, starts int) {
		t.Helper()
		_, err := os.Lstat(filepath.Join(m.root, link))
		started, _ := os.ReadFile(filepath.Join(m.root, running)) // there is no such file while it is stopped
		if got := strings.Count(string(started), "\n"); (err == nil) != enabled || got != starts {
			t.Errorf("after %s: enabled is %v, want %v; it was started %d times, want %d", after, err == nil, enabled, got, starts)
		}
	}
	if err := os.MkdirAll(filepath.Join(m.root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("usr/bin/systemctl", manager)
	first, second := packageOf(t, "0.0.8", "otelcol-nettap_0.0.8_amd64.deb"), packageOf(t, "0.0.9", "otelcol-nettap_0.0.9_amd64.deb")

	dpkg("--install", first)
	require("the installation", true, 1)
	dpkg("--install", second)
	require("the upgrade", true, 2)
	dpkg("--remove", "otelcol-nettap")
	require("the removal", true, 0)
	dpkg("--install", second)
	require("the removal and an installation", true, 1)

	write(policy, "#!/bin/sh\nexit 101\n")
	dpkg("--install", second)
	require("an upgrade where services must not be started", true, 1)
	if err := os.Remove(filepath.Join(m.root, policy)); err != nil {
		t.Fatal(err)
	}

	m.inside("systemctl", "stop", "otelcol-nettap.service")
	m.inside("systemctl", "disable", "otelcol-nettap.service")
	dpkg("--install", second)
	require("an upgrade of what is disabled", false, 0)
	dpkg("--remove", "otelcol-nettap")
	dpkg("--install", second)
	require("the removal of what is disabled and an installation", false, 0)

	m.inside("systemctl", "enable", "otelcol-nettap.service")
	dpkg("--purge", "otelcol-nettap")
	require("the purge", false, 0)
	dpkg("--install", first)
	require("the purge and an installation", true, 1)
}

func TestRpmIsInstalledUpgradedAndRemoved(t *testing.T) {
	m := newMachine(t)
	before := m.files()
	// The dependencies are not in the rpm database of a Debian.
	rpm := func(arguments ...string) string {
		t.Helper()
		return m.run(append([]string{"rpm", "--root", m.root, "--nodeps", "--nosignature"}, arguments...)...)
	}
	rpm("--install", packageOf(t, "0.0.9", "otelcol-nettap-0.0.9-1.x86_64.rpm"))
	changed := m.change()
	rpm("--upgrade", newest(t, "*.x86_64.rpm"))
	m.runs()
	m.unchanged(configuration, changed)
	added := m.added(before)
	maps.DeleteFunc(added, func(path, _ string) bool { return strings.HasPrefix(path, "var/lib/otelcol-nettap") })
	want := maps.Clone(contents)
	want["usr/share/licenses/otelcol-nettap/LICENSE"] = "-rw-r--r-- root root "
	want["usr/share/licenses/otelcol-nettap"], want["usr/share/licenses"] = "drwxr-xr-x root root ", "drwxr-xr-x root root "
	if diff := cmp.Diff(want, added); diff != "" {
		t.Errorf("the package has other files (-want +got):\n%s", diff)
	}

	rpm("--erase", "otelcol-nettap")
	m.unchanged(configuration+".rpmsave", changed)
	if _, err := os.Stat(filepath.Join(m.root, "usr/bin/otelcol-nettap")); !os.IsNotExist(err) {
		t.Errorf("the program is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.root, "var/lib/otelcol-nettap/queue")); err != nil {
		t.Errorf("what could not be sent is gone: %v", err)
	}
}

// TestPackagesRecommendCertificates requires that package managers install the root certificates, without which the
// Collector trusts no server.
func TestPackagesRecommendCertificates(t *testing.T) {
	if made == "" {
		t.Skip("make test-packages says where the release is")
	}
	for _, words := range [][]string{
		{"dpkg-deb", "--field", newest(t, "*_amd64.deb"), "Recommends"},
		{"rpm", "--query", "--recommends", "--nosignature", "--package", newest(t, "*.x86_64.rpm")},
	} {
		output, err := exec.Command(words[0], words[1:]...).Output()
		if got := strings.TrimSpace(string(output)); err != nil || got != "ca-certificates" {
			t.Errorf("%s recommends %q (%v), want ca-certificates", words[0], got, err)
		}
	}
}

// TestFilesAreThoseOfTheList checks the files of the release as docs/deployment.md says, and requires that the list has all.
func TestFilesAreThoseOfTheList(t *testing.T) {
	if made == "" {
		t.Skip("make test-packages says where the release is")
	}
	check := exec.Command("sha256sum", "--check", "SHA256SUMS")
	check.Dir = made
	output, err := check.CombinedOutput()
	files, _ := os.ReadDir(made) // an error says that there is none
	if got := strings.Count(string(output), ": OK\n"); err != nil || got != len(files)-1 {
		t.Errorf("of %d files beside the list %d are right: %v\n%s", len(files)-1, got, err, output)
	}
}

// TestUnitIsHardened requires an exposure of less than 3 of 10 from systemd-analyze security.
func TestUnitIsHardened(t *testing.T) {
	if made == "" {
		t.Skip("make test-packages installs systemd")
	}
	output, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=29", "--no-pager", "../../deploy/otelcol-nettap.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// TestPackagesAreForTheirArchitecture requires that the program in each package is built for the
// package's architecture.
func TestPackagesAreForTheirArchitecture(t *testing.T) {
	if made == "" {
		t.Skip("make test-packages says where the release is")
	}
	found, err := filepath.Glob(filepath.Join(made, "*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		directory := t.TempDir()
		if output, err := exec.Command("dpkg-deb", "--extract", path, directory).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		content, err := fs.ReadFile(os.DirFS(directory), "usr/bin/otelcol-nettap")
		if err != nil {
			t.Fatal(err)
		}
		machines := map[byte]string{0x3e: "amd64", 0xb7: "arm64"} // e_machine of ELF
		if got := machines[content[18]]; !strings.HasSuffix(path, "_"+got+".deb") {
			t.Errorf("%s has a program for %s", filepath.Base(path), got)
		}
	}
}
