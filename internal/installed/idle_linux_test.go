// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// day is what happens on an idle machine in a day: administrators look after it, programs log, and time is
// asked for.
const day = `
for i in 1 2 3 4 5 6 7 8; do ssh admin@localhost true; done
echo 'ls -l; id; exit' | ssh -tt admin@localhost
printf 'systemctl status --no-pager cron; exit\n' | ssh -tt admin@localhost
ssh admin@localhost 'sudo -n journalctl --lines 5; sudo -n systemctl list-timers'
ssh nobody-here@localhost true
ssh -o PubkeyAuthentication=no admin@localhost true
scp -q admin@localhost:/etc/hosts /run/hosts
ssh-keyscan localhost
su - admin -c 'id; getent hosts deb.debian.org; getent group'
logger from the test
systemd-cat echo from the test
curl --silent http://deb.debian.org/
python3 -c 'import urllib.request; urllib.request.urlopen("http://deb.debian.org/").read()'
apt-get update
apt-get --simulate dist-upgrade
ss --tcp --udp --listening --processes --numeric
ip addr
ip route
ping -c 1 deb.debian.org
hostnamectl
timedatectl
timedatectl timesync-status
loginctl
busctl --no-pager list
systemctl daemon-reload
systemctl restart cron rsyslog systemd-timesyncd systemd-journald systemd-logind systemd-udevd ssh
systemctl reload ssh
udevadm trigger --settle
journalctl --rotate
journalctl --flush
ifdown --force eth0 && ifup eth0
`

// idles requires that of all calls of an idle day none is reported as failed.
func (g guest) idles() {
	g.prepareLogins()
	known := len(g.failures())
	for line := range strings.Lines(day) {
		g.happens("sh", "-c", strings.TrimSpace(line))
	}
	timers, err := filepath.Glob("/lib/systemd/system/*.timer") // systemctl would wait in vain until systemd has read all units
	if err != nil || len(timers) == 0 {
		g.Fatalf("there are no timers: %v", err)
	}
	for _, timer := range timers {
		g.happens("systemctl", "start", strings.TrimSuffix(filepath.Base(timer), ".timer")+".service")
	}
	os.Remove("/run/cron")
	g.wait("cron has run", func() bool { _, err := os.Stat("/run/cron"); return err == nil })
	last := fmt.Sprintf("process.pid:%v ", g.fail().attributes["process.pid"]) // all that happened before is reported by now
	for _, failure := range g.failures()[known:] {
		if !strings.Contains(failure, last) && !toNobody.MatchString(failure) {
			g.Errorf("a failure is reported: %s", failure)
		}
	}
	own := get("127.0.0.1:8888/metrics")
	for _, limited := range regexp.MustCompile(`(?m)^otelcol_nettap_events_rate_limited.*reason="failed".* [1-9].*$`).FindAllString(own, -1) {
		g.Errorf("some failures are not reported: %s", limited)
	}
}

// toNobody matches a failure that is one: systemd answers a systemctl that has already ended.
var toNobody = regexp.MustCompile(`^sendmsg EPIPE of systemd: .*network\.local\.address:/run/systemd/private`)

// failures describes the spans with errors.
func (g guest) failures() (found []string) {
	for _, s := range g.spansWith(attributes{}) {
		if s.attributes["error.type"] == nil || !s.ParentSpanID().IsEmpty() {
			continue
		}
		took := s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime())
		found = append(found, fmt.Sprint(s.Name(), " ", s.attributes["error.type"], " of ", s.attributes["process.executable.name"], ": ", took, " ", s.attributes))
	}
	return found
}

// happens runs a command of which it does not matter whether it succeeds.
func (g guest) happens(words ...string) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), 10*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	g.Logf("%s: %v\n%s", words[len(words)-1], err, output)
}

// prepareLogins makes a user who can log in with a key.
func (g guest) prepareLogins() {
	g.run("useradd", "--create-home", "--shell", "/bin/bash", "admin")
	g.run("sh", "-c", "umask 077; mkdir -p ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && "+
		"printf 'StrictHostKeyChecking no\\nBatchMode yes\\n' >~/.ssh/config && "+
		"install -d -o admin -m 700 ~admin/.ssh && install -o admin -m 600 ~/.ssh/id_ed25519.pub ~admin/.ssh/authorized_keys && "+
		"echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin")
}
