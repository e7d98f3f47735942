// SPDX-License-Identifier: Apache-2.0

package view

import (
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
)

// page has the files for browsers, which make generate writes from internal/view/page.
//
//go:embed page/dist
var page embed.FS

// index is the answer to curl for /.
const index = `nettap: what moves, is lost, comes in and takes long on this machine.

  /nettop            packets and bytes by process and interface
  /dropwatch         packets dropped, by place in the kernel
  /tcp_connections   accepted TCP connections
  /connections       refused and closed connections, and who listens
  /packets           single dropped packets, with drops.records
  /tcp               connects, failures and retransmits by process, with connections.enabled
  /queues            how full accept queues are, with listeners.enabled
  /durations         round trips and waits by process, with their metrics
  /socket-trace      socket calls that were slow or failed, as trees

  ?follow            go on; ?interval=1s how often (5s)
  ?wide              more columns
  ?sort= ?n=         order, and how many lines
  ?filter=           process:nginx port:443 peer:10.0.0.0/8 iface:eth0 container:3f2a
                     /regular expression/ word; -process:curl is all others

  /api/v1/state      all of it as JSON, also ?range=1m
  /api/v1/events     the same as server-sent events, as is /api/events
  /                  in a browser: a page with all of it

  curl '127.0.0.1:8777/nettop?follow&n=10'
`

// Handler returns the handler for a server that listens on address. allowed are further names by
// which it may be called.
func (v *View) Handler(address net.Addr, allowed []string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", serveRoot)
	mux.Handle("/page/", http.StripPrefix("/page", serveFiles()))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fail(w, r, http.StatusNotFound, "there is no such path") })
	mux.HandleFunc("/api/v1/state", v.serveState)
	mux.HandleFunc("/api/v1/events", v.serveEvents)
	mux.HandleFunc("/api/events", v.serveEvents)
	mux.HandleFunc("/api/v1/calls/{id}", v.serveCall)
	for _, t := range tables {
		mux.HandleFunc(t.path, func(w http.ResponseWriter, r *http.Request) { v.serveTable(w, r, t) })
	}
	return newHosts(address, allowed).guard(mux)
}

func serveRoot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, index)
		return
	}
	http.ServeFileFS(w, r, page, "page/dist/index.html")
}

func serveFiles() http.Handler {
	files, err := fs.Sub(page, "page/dist")
	if err != nil {
		panic(err) // it is embedded
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := fs.Stat(files, strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil || info.IsDir() {
			fail(w, r, http.StatusNotFound, "there is no such path")
			return
		}
		server.ServeHTTP(w, r)
	})
}

// fail answers with one sentence, below /api as JSON and elsewhere as text.
func fail(w http.ResponseWriter, r *http.Request, status int, sentence string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		answer(w, status, map[string]string{"error": sentence})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, sentence+"\n")
}

func answer(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// paramsOf returns the parameters of a request, or answers with what is wrong with them.
func paramsOf(w http.ResponseWriter, r *http.Request, allowed, sorts []string) (p params, ok bool) {
	p, err := parseParams(r.URL.RawQuery, allowed, sorts)
	if err != nil {
		fail(w, r, http.StatusBadRequest, err.Error())
		return p, false
	}
	return p, true
}

// stateParams are the parameters of the state and of the events.
var stateParams = []string{"range", "filter", "n"}

func (v *View) serveState(w http.ResponseWriter, r *http.Request) {
	p, ok := paramsOf(w, r, stateParams, nil)
	if !ok {
		return
	}
	defer v.watch()()
	if !v.await(r.Context(), v.sequence()+1) { // so that the state is the present one
		return
	}
	v.mu.Lock()
	state := v.state(question{p.scale, p.filter, p.n})
	v.mu.Unlock()
	answer(w, http.StatusOK, state)
}

func (v *View) serveCall(w http.ResponseWriter, r *http.Request) {
	if _, ok := paramsOf(w, r, nil, nil); !ok {
		return
	}
	call, ok := v.callWithTree(r.PathValue("id"))
	if !ok {
		fail(w, r, http.StatusNotFound, "there is no such call (any more)")
		return
	}
	answer(w, http.StatusOK, call)
}
