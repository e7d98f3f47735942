// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// repository is where documented commands are run.
const repository = "../.."

// decision is how a documented command is tested. Either it is run or because says why not.
type decision struct {
	// in returns the command that runs a script in the place where the documented command belongs.
	in func(script string) []string

	// before and after are parts of the script, around the documented command.
	before, after string

	// until is in a line that the script prints, and ends it. If it is empty the script has to succeed.
	until string

	because string
}

// alone runs a script in namespaces of its own, so that what it does to the machine ends with it.
func alone(script string) []string {
	return []string{"unshare", "--net", "--mount", "sh", "-e", "-c", "ip link set lo up\n" + script}
}

const (
	// installation makes empty directories into which files can be installed.
	installation = "mount -t tmpfs none /etc; mount -t tmpfs none /usr/local; mkdir -p /etc/systemd/system /etc/otelcol-nettap /usr/local/bin"

	// service makes the directory that the service has, and finds the program.
	service = "mount -t tmpfs none /var/lib; mkdir /var/lib/otelcol-nettap; PATH=$PATH:$PWD/build"

	byPackages = "make test-packages does it with the packages, in roots of their own"
	noSystemd  = "systemd does not run in CI; make test-packages checks the unit with systemd-analyze, and make test-systemd runs it"
	noEngine   = "there is no container engine and no registry in CI; make test-packages unpacks the image and runs it"
	wholly     = "it would change the whole machine"
	developers = "it is for developers, and CI does it in other words"
)

// decisions returns what is decided about each documented command but those of make and go run. beside
// is a Collector that runs make run's configuration in namespaces of its own.
func decisions(beside *Collector) map[string]decision {
	there := func(script string) []string {
		return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", beside.PID()), "sh", "-e", "-c", script}
	}
	return map[string]decision{
		"curl '127.0.0.1:8777/nettop?follow'":                                               {in: there, until: `^  PID   UID DEV `},
		"curl '127.0.0.1:8777/dropwatch?interval=1s&wide'":                                  {in: there},
		"curl '127.0.0.1:8777/tcp_connections?filter=port:443'":                             {in: there, until: `^ *UID +CMD +PID +PORT +IP_SOURCE`},
		"curl -G 127.0.0.1:8777/socket-trace --data-urlencode 'filter=process:curl' -d n=3": {in: there},
		"curl '127.0.0.1:8777/connections?follow&filter=port:22'":                           {in: there, until: `^TIME +EVENT`},
		"curl -s localhost:8888/metrics | grep nettap_hook_active":                          {in: there, until: `^otelcol_nettap_hook_active\{.*\} 1$`},

		"OTLP_ADDRESS=0.0.0.0:4317 METRICS_ENDPOINT=http://victoriametrics:8428/opentelemetry/v1/metrics TRACES_ENDPOINT=jaeger:4317 " +
			"otelcol-nettap --config deploy/gateway.yaml": {
			in: alone, before: service, until: "Everything is ready",
		},
		"otelcol-nettap --config deploy/service.yaml --config deploy/counts.yaml": {
			in: alone, before: service, until: "Everything is ready",
		},
		"setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps -all,+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog " +
			"--ambient-caps -all,+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog --bounding-set -all,+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog " +
			"build/otelcol-nettap --config deploy/config.yaml": { // nobody may not have access to the directories above the repository
			in: alone, before: "mount -t tmpfs none /mnt; cp --parents build/otelcol-nettap deploy/config.yaml /mnt; cd /mnt", until: "Everything is ready",
		},
		"install -m 755 build/otelcol-nettap /usr/local/bin/": {
			in: alone, before: installation, after: "PATH=/usr/local/bin:$PATH; otelcol-nettap --version", until: "^otelcol-nettap version ",
		},
		"install -m 644 -D deploy/service.yaml /etc/otelcol-nettap/config.yaml": { // the unit names that path
			in: alone, before: installation, after: "ls $(sed -n 's/^ExecStart=.* --config //p' deploy/otelcol-nettap.service)", until: "^/etc/otelcol-nettap/config.yaml$",
		},
		"install -m 644 deploy/otelcol-nettap.service /etc/systemd/system/": {
			in: alone, before: installation, after: "ls /etc/systemd/system", until: "^otelcol-nettap.service$",
		},
		"echo OTLP_ENDPOINT=gateway.example:4317 >>/etc/otelcol-nettap/environment": { // the unit reads that file, and the configuration uses that variable
			in: alone, before: installation, until: "^gateway.example:4317, or else localhost:4317$",
			after: `. "$(sed -n 's/^EnvironmentFile=-//p' deploy/otelcol-nettap.service)"
				echo "$OTLP_ENDPOINT, or else $(sed -n 's/.*{env:OTLP_ENDPOINT:-\(.*\)}$/\1/p' deploy/service.yaml)"`,
		},
		"mv /var/lib/otelcol-nettap/queue /var/lib/otelcol-nettap/queue.damaged": {
			in: alone, until: "Everything is ready",
			before: service + `; mkdir /var/lib/otelcol-nettap/queue; head -c 32768 /dev/zero >/var/lib/otelcol-nettap/queue/exporter_otlp_grpc__logs
				otelcol-nettap --config deploy/service.yaml 2>&1 | grep "invalid database"`,
			after: "exec otelcol-nettap --config deploy/service.yaml",
		},
		"mount -t cgroup2 none /sys/fs/cgroup": {in: alone, after: "cat /sys/fs/cgroup/cgroup.controllers"},
		"mount -t cgroup2 none /sys/fs/cgroup/unified": {
			in: alone, before: "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified", after: "cat /sys/fs/cgroup/unified/cgroup.controllers",
		},
		"ip -s link": {in: alone, until: "RX: "},
		"nstat":      {in: alone},

		"sysctl kernel.kptr_restrict=1":                    {because: wholly},
		"sysctl kernel.bpf_stats_enabled=1":                {because: wholly},
		"ethtool -S":                                       {because: "only network cards have such counters"},
		"systemctl restart otelcol-nettap":                 {because: noSystemd},
		"systemctl enable --now otelcol-nettap":            {because: noSystemd},
		"systemd-analyze security":                         {because: byPackages},
		"apt-get install ./otelcol-nettap_0.1.0_amd64.deb": {because: byPackages},
		"sha256sum --check":                                {because: byPackages},
		"sha256sum --check SHA256SUMS":                     {because: byPackages},
		"systemctl reload otelcol-nettap":                  {because: noSystemd},
		"skopeo copy oci-archive:otelcol-nettap_0.1.0.oci.tar docker://registry.example/otelcol-nettap:0.1.0 --all": {because: noEngine},
		"podman load":      {because: noEngine},
		"docker load":      {because: noEngine},
		"ctr image import": {because: noEngine},
		"helm install otelcol-nettap deploy/helm/otelcol-nettap --namespace nettap --create-namespace " +
			"--set image.repository=registry.example/otelcol-nettap --set otlp.endpoint=gateway.example:4317": {because: "make test-chart renders the chart with these values"},
		"go get github.com/seed-7756021b/nettap/receiver/pproflabels": {because: "it is for another repository"},
		"go test ./...":   {because: developers},
		"go test -update": {because: developers},
		"go mod tidy":     {because: developers},
	}
}

// beginsCommand matches a code span that is a command.
var beginsCommand = regexp.MustCompile(`^(make|(apt-get|cat|ctr image|curl|dnf|docker|dpkg|echo|ethtool|go (get|mod|run|test)|grep|helm|ip|iptables|journalctl|jq|kubectl|` +
	`mount|nft|nstat|perf|ping|podman|rpm|setpriv|sha256sum|skopeo|ss|sudo|sysctl|systemctl|systemd-analyze|tc|umount|unshare|bpftool)( .+|$))`)

// onlyNamed are code spans that are the name of a program and not a command.
var onlyNamed = []string{"curl", "ping", "go get", "make check-names"}

// outputs match the first lines of indented blocks that are not commands.
var outputs = regexp.MustCompile(`^(sshd\[\d+\] uid 0|192\.0\.2\.99 was refused|sum of |sum by |sum\(|seen = exported|recvfrom  4\.0 ms|connect  127 s|demo-client +HTTP GET)`)

// documentedCommands returns each command of the documents, with the documents that have it.
func documentedCommands(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for file, text := range documents(t) {
		for _, block := range blocks(file, text) {
			if block.language == "sh" || block.language == "" && !outputs.MatchString(block.text) {
				for _, command := range commandsOf(block.text) {
					found[command] = append(found[command], file)
				}
			} else if block.language != "" && !slices.Contains([]string{"yaml", "c", "go", "jsonc", "mermaid"}, block.language) {
				t.Errorf("%s has a block of %s, for which it is not decided how it is tested", file, block.language)
			}
		}
		for _, words := range spans(text) {
			if beginsCommand.MatchString(words) && !slices.Contains(onlyNamed, words) {
				found[words] = append(found[words], file)
			}
		}
	}
	return found
}

// TestDocumentedCommands runs the commands of the documents, or knows why it does not.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	environment := append(os.Environ(), "CURL_HOME="+curlFails(t))
	c := &Collector{t: t, directory: t.TempDir()}
	c.launch(append(alone(`exec "$@"`), "sh", binary, "--config", example)...)
	c.awaitReady()
	decided := decisions(c)
	commands := documentedCommands(t)
	for command := range decided {
		if commands[command] == nil {
			t.Errorf("no document has %q", command)
		}
	}
	for _, command := range slices.Sorted(maps.Keys(commands)) {
		t.Run(command, func(t *testing.T) {
			name, arguments, _ := strings.Cut(command, " ")
			d, known := decided[command]
			switch {
			case name == "make":
				requireTarget(t, strings.Fields(arguments))
			case strings.HasPrefix(command, "go run ./"), strings.HasPrefix(command, "go test ") && strings.Contains(command, " -run "):
				requireFlags(t, command)
			case !known:
				t.Errorf("%v: it is not decided how this is tested", commands[command])
			case d.because == "":
				d.run(t, environment, command)
			case name == "sysctl":
				key, _, _ := strings.Cut(arguments, "=")
				if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	c.Stop()
}

// curlFails returns a directory with a configuration of curl with which it fails if a server answers
// with an error.
func curlFails(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, ".curlrc"), []byte("fail\nsilent\nshow-error\nno-buffer\nmax-time = 60\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return directory
}

// run runs the command until it has printed what it should.
func (d decision) run(t *testing.T, environment []string, documented string) {
	t.Helper()
	words := d.in(strings.Join([]string{d.before, documented, d.after}, "\n"))
	command := exec.CommandContext(t.Context(), words[0], words[1:]...)
	command.Dir, command.Env = repository, environment
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	command.Stdout, command.Stderr = input, input
	err = command.Start()
	input.Close()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.AfterFunc(patience, func() { command.Cancel() }) //nolint:errcheck // it may have ended
	defer deadline.Stop()
	var printed strings.Builder
	until := regexp.MustCompile(d.until)
	for lines := bufio.NewScanner(io.TeeReader(output, &printed)); lines.Scan(); {
		if d.until != "" && until.MatchString(lines.Text()) {
			command.Cancel() //nolint:errcheck // it may have ended
			command.Wait()   //nolint:errcheck // it was killed
			return
		}
	}
	if err := command.Wait(); err != nil {
		t.Errorf("%v\n%s", err, printed.String())
	} else if d.until != "" {
		t.Errorf("it did not print %q, but\n%s", d.until, printed.String())
	}
}

// notInCI says why targets of make that are documented are not part of CI.
var notInCI = map[string]string{
	"bench":                 "it takes 15 minutes; bench-check does a part of it",
	"bench-record":          "the same",
	"bench-scale":           "it takes 8 minutes, and it draws pictures for people",
	"benchmarks":            "it prints figures for people",
	"demo":                  "it does not end; TestDistributionSeesWhatApplicationsSay runs the same programs",
	"footprint":             "it prints figures for people",
	"fuzz":                  "it takes as long as one lets it; its seeds are run by test-unit",
	"headers":               "check says when it has something to do",
	"jaeger":                "test-gateway builds it",
	"run":                   "it does not end; TestDistributionPrintsTheExample runs the same",
	"sizing":                "it takes 3 minutes, and a machine on which little else happens; a test of internal/bench checks the tables",
	"test-arm64":            "it takes minutes to build; it is run before a release",
	"test-selftests":        "it takes minutes; it is run before a release",
	"test-selftests-guests": "the same",
	"test-systemd":          "the same",
}

var (
	ruleHead = regexp.MustCompile(`(?m)^([a-z0-9-]+):(?:[^=\n].*)?$`)
	calls    = regexp.MustCompile(`(?m)(?:^make|\$\(MAKE\)|\.ci/tests)((?: [a-zA-Z0-9=-]+)+)`)
)

// requireTarget requires that make has the target, and that CI runs it or there is a reason why not.
func requireTarget(t *testing.T, words []string) {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(filepath.Join(repository, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{} // by target: the targets that it needs, and its recipe
	heads := ruleHead.FindAllStringSubmatchIndex(string(makefile), -1)
	for i, head := range heads {
		end := len(makefile)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		rules[string(makefile[head[2]:head[3]])] = string(makefile[head[3]:end])
	}
	for _, word := range words {
		if variable, _, set := strings.Cut(word, "="); set {
			if !strings.Contains(string(makefile), "$("+variable+")") {
				t.Errorf("the Makefile does not use %s", variable)
			}
			continue
		}
		if _, exists := rules[word]; !exists {
			t.Errorf("the Makefile has no target %s", word)
		} else if reason := notInCI[word]; inCI(string(ci), rules)[word] != (reason == "") {
			t.Errorf("CI runs %s: %v, and the reason why it does not is %q", word, reason != "", reason)
		}
	}
}

// inCI returns the targets that the script of CI makes, and those that they need or make.
func inCI(script string, rules map[string]string) map[string]bool {
	made := map[string]bool{}
	var follow func(text string)
	follow = func(text string) {
		for _, call := range calls.FindAllStringSubmatch(text, -1) {
			for target := range strings.FieldsSeq(call[1]) {
				rule, exists := rules[target]
				if !exists || made[target] {
					continue
				}
				made[target] = true
				needs, recipe, _ := strings.Cut(rule, "\n")
				needs, _, _ = strings.Cut(strings.TrimPrefix(needs, ":"), "#")
				follow("make" + needs + "\n" + recipe)
			}
		}
	}
	follow(script)
	return made
}

var (
	flags    = regexp.MustCompile(` -([a-z-]+)`)
	runs     = regexp.MustCompile(` -run ([A-Za-z]+)`)
	kernels  = regexp.MustCompile(` -kernel '([^']+)'`)
	packages = regexp.MustCompile(`\./[a-z0-9/]+`)
)

// requireFlags requires that the program or test has the flags, that the test exists, and that the
// plan has the kernel.
func requireFlags(t *testing.T, command string) {
	t.Helper()
	directory := filepath.Join(repository, packages.FindString(command))
	if strings.HasPrefix(command, "go run ") {
		usage, _ := exec.Command("go", "run", "./"+directory, "-h").CombinedOutput() // this is an error to package flag
		for _, flag := range flags.FindAllStringSubmatch(command, -1) {
			if !strings.Contains(string(usage), "\n  -"+flag[1]) {
				t.Errorf("it has no flag %s:\n%s", flag[1], usage)
			}
		}
	}
	if test := runs.FindStringSubmatch(command); test != nil {
		if err := exec.Command("grep", "-rq", "--include=*_test.go", "^func "+test[1]+"(", filepath.Join(repository, "internal"), directory).Run(); err != nil {
			t.Errorf("there is no %s", test[1])
		}
	}
	if kernel := kernels.FindStringSubmatch(command); kernel != nil {
		plan, err := os.ReadFile(filepath.Join(repository, "testdata/kernels.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^kernel .*` + kernel[1]).Match(plan) {
			t.Errorf("there is no kernel %s", kernel[1])
		}
	}
}
