// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

// A process may choose any name.
func TestHostileNamesAreText(t *testing.T) {
	f := newFeed()
	evil := fed{
		pid: 1, comm: "\x1b[2J<img src=x onerror=alert(1)>\u202e\n", dev: "lo\x07", amounts: amounts{1, 1, 1, 1},
		more: map[string]string{
			"service.name": "</script>\x1b]0;x\x07", "process.command_line": "a\x1b[31m\u2066 --password hunter2",
			"process.executable.name": "\x1b[7m<b>", "container.id": "\x1b[5m<i>", "k8s.pod.uid": "\u202e<u>\r", "host.id": "\x1b[3m<s>",
		},
	}
	f.accept(evil, "127.0.0.1:80", "127.0.0.1:4000")
	f.callWith(map[string]string{
		"network.peer.address": "/run/\x1b[2J<a>\n.sock", "network.transport": "\x1b[4m", "thread.name": "\x1b[8m<p>", "nettap.call.syscall": "\x07",
		"nettap.call.blocked.on": "\x1b[9m", "nettap.wait.kind": "\x1b[2m",
	}, evil, "failed", "E\x1b[0m", span{-1, "\x1b[1mroot", 0, 5})
	f.notice(&evil, "nettap.connection.closed", "\x1b[2J<img src=x>[1] ended\n", "127.0.0.1:80", "127.0.0.1:9")
	f.notice(&evil, "nettap.packet.dropped", "\x1b[2J<img src=x>\u202e", "", "")
	f.measure(&evil, "\x1b[31m<em>\n")
	paths := []string{"/api/v1/state"}
	for _, t := range tables {
		paths = append(paths, t.path+"?wide")
	}
	for _, path := range paths {
		if path == "/nettop?wide" || path == "/dropwatch?wide" {
			path += "&interval=1s" // it waits
		}
		seconds := []func(){func() {
			f.processes = []fed{evil}
			f.losses = append(f.losses, loss{symbol: "\x1b[31mf", reason: "\x1b", class: "loss", packets: 1, iface: "\x1b[0m", by: &evil})
		}}
		if !strings.Contains(path, "interval") { // a request without it does not wait
			seconds[0]()
			seconds = nil
		}
		body := f.during(t, path, seconds...)
		for _, r := range body {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s answers with %q in\n%q", path, r, body)
				break
			}
		}
		if strings.HasPrefix(path, "/api") && strings.ContainsAny(body, "<>") {
			t.Errorf("%s answers with markup:\n%s", path, body)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("%s answers with a secret", path)
		}
		evil.amounts.add(amounts{1, 1, 1, 1})
	}
}

func TestHosts(t *testing.T) {
	loopback, anywhere := &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4zero}
	for name, test := range map[string]struct{ loopback, anywhere bool }{
		"localhost":                {true, true},
		"LOCALHOST:8777":           {true, true},
		"127.0.0.1":                {true, true},
		"127.0.0.1:9000":           {true, true},
		"[::1]":                    {true, true},
		"[::1]:1":                  {true, true},
		"192.0.2.7:8777":           {false, true},
		"[2001:db8::7]":            {false, true},
		"nettap.example":           {true, true},
		"nettap.example:8777":      {true, true},
		"evil.example":             {false, false},
		"evil.example:8777":        {false, false},
		"localhost.evil.example":   {false, false},
		"127.0.0.1.evil.example:1": {false, false},
		"":                         {false, false},
	} {
		got := struct{ loopback, anywhere bool }{
			newHosts(loopback, []string{"Nettap.example"}).isOurs(name), newHosts(anywhere, []string{"nettap.example"}).isOurs(name),
		}
		if got != test {
			t.Errorf("Host %q: %+v, want %+v", name, got, test)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFeed()
	for name, test := range map[string]struct {
		url    string
		header []string
		status int
		says   string
	}{
		"a foreign host":        {"/nettop", []string{"Host", "evil.example"}, 403, "the Host header is no name of this server"},
		"a foreign host, API":   {"/api/v1/state", []string{"Host", "evil.example:8777"}, 403, `{"error":"the Host header`},
		"a method":              {"/api/v1/state", []string{"Method", "POST"}, 405, "only GET and HEAD"},
		"no such path":          {"/etc/passwd", nil, 404, "there is no such path"},
		"no such path, API":     {"/api/v2/state", nil, 404, `{"error":"there is no such path"}`},
		"out of the page":       {"/../view.go", nil, 307, ""},
		"no such call":          {"/api/v1/calls/9", nil, 404, "there is no such call"},
		"a parameter":           {"/nettop?colour=red", nil, 400, `parameter "colour": there is none here; there are follow, interval, wide, sort, n, filter`},
		"an interval":           {"/nettop?interval=1ms", nil, 400, `parameter interval: "1ms" is no whole number of seconds from 1s to 1h`},
		"a sort":                {"/dropwatch?sort=pid", nil, 400, `parameter sort: "pid" is none of packets, symbol`},
		"a number":              {"/nettop?n=0", nil, 400, `parameter n: "0" is no number from 1 to 100000`},
		"a flag":                {"/nettop?follow=maybe", nil, 400, `parameter follow: "maybe" is none of true, false`},
		"twice":                 {"/nettop?n=1&n=2", nil, 400, "parameter n: it is given more than once"},
		"a port":                {"/nettop?filter=port:http", nil, 400, `parameter filter: "http" is no port`},
		"a regular expression":  {"/nettop?filter=/(/", nil, 400, `parameter filter: /(/ is no regular expression`},
		"an open one":           {"/nettop?filter=process:/a", nil, 400, `parameter filter: a / is not closed`},
		"a long filter":         {"/nettop?filter=" + strings.Repeat("a", 1001), nil, 400, `parameter filter: it has more than 1000 bytes`},
		"a range":               {"/api/v1/state?range=2h", nil, 400, `{"error":"parameter range: \"2h\" is none of 1m, 15m"}`},
		"an escape in a filter": {"/nettop?filter=port:%1b[31m", nil, 400, `parameter filter: "\x1b[31m" is no port`},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := f.get(t, test.url, test.header...)
			if status != test.status || !strings.Contains(body, test.says) {
				t.Errorf("answered %d %s, want %d with %s", status, body, test.status, test.says)
			}
			if strings.HasPrefix(test.url, "/api") && !json.Valid([]byte(body)) {
				t.Errorf("answered %q, which is no JSON", body)
			}
		})
	}
}

func TestRootIsForPeopleAndForCurl(t *testing.T) {
	f := newFeed()
	if _, body := f.get(t, "/"); !strings.HasPrefix(body, "nettap: ") || !strings.Contains(body, "/nettop") {
		t.Errorf("curl is told %q", body)
	}
	if _, body := f.get(t, "/", "Accept", "text/html,*/*"); !strings.HasPrefix(strings.ToLower(body), "<!doctype html>") {
		t.Errorf("a browser is told %q", body)
	}
}

func TestHeaders(t *testing.T) {
	header := http.Header{}
	setHeaders(header)
	if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
		t.Errorf("the policy is %q", csp)
	}
}

func TestWithoutSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"mysql --password hunter2 -h db":                 "mysql --password *** -h db",
		"mysql --password=hunter2 -h db":                 "mysql --password=*** -h db",
		"app --db-password 'two words' x":                "app --db-password *** x",
		"app token=abc next":                             "app token=*** next",
		"env API_KEY=abc AWS_SECRET_ACCESS_KEY=d run":    "env API_KEY=*** AWS_SECRET_ACCESS_KEY=*** run",
		"curl -H Authorization: Bearer abc.def http://x": "curl -H Authorization: *** *** http://x",
		"curl https://user:hunter2@host/p":               "curl https://user:***@host/p",
		"psql postgres://u:p%40ss@db:5432/x":             "psql postgres://u:***@db:5432/x",
		"vault login -token s.abc":                       "vault login -token ***",
		"nginx: worker process":                          "nginx: worker process",
		"sleep 5":                                        "sleep 5",
	} {
		if got := withoutSecrets(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"", "process:nginx -port:80", `/a b/ "c d"`, "peer:10.0.0.0/8", `iface:/\//`} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		parsed, err := parseFilter(text)
		if err == nil {
			parsed.all(func(term *term) bool { return term.isIn(text) || term.isPort(End{}) || term.isPeer(End{Address: text}) })
		}
	})
}
