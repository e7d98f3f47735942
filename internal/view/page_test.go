// SPDX-License-Identifier: Apache-2.0

package view

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The whole page is embedded, and no part of it is something that the policy forbids.
func TestPageIsSelfContained(t *testing.T) {
	f := newFeed()
	var names []string
	err := fs.WalkDir(page, "page/dist", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, "page/dist/")
		names = append(names, name)
		want := 200
		if name == "index.html" {
			want = 301 // it redirects to /
		}
		if status, _ := f.get(t, "/page/"+name); status != want {
			t.Errorf("/page/%s is answered %d, want %d", name, status, want)
		}
		if status, _ := f.get(t, "/"+name); status != 404 && name != "index.html" {
			t.Errorf("/%s is answered %d", name, status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "page.js", "page.css", "worker.js", "icon.svg", "LICENSES.txt"} {
		if !strings.Contains(strings.Join(names, " "), name) {
			t.Errorf("there is no %s", name)
		}
	}
	_, index := f.get(t, "/", "Accept", "text/html")
	for _, reference := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(index, -1) {
		if !strings.HasPrefix(reference[1], "/") || strings.HasPrefix(reference[1], "//") {
			t.Errorf("the page refers to %s", reference[1])
		}
		if strings.HasPrefix(reference[1], "/page/") {
			if status, _ := f.get(t, reference[1]); status != 200 {
				t.Errorf("the page refers to %s, which is answered %d", reference[1], status)
			}
		}
	}
	if inline := regexp.MustCompile(`<style|<script(?:>| [^>]*>[^<])| on\w+=| style=`).FindString(index); inline != "" {
		t.Errorf("the page has %q, which the policy forbids", inline)
	}
	for _, name := range []string{"page.js", "worker.js"} {
		if _, script := f.get(t, "/page/"+name); strings.Contains(script, "eval(") || strings.Contains(script, "new Function") {
			t.Errorf("%s makes code of text", name)
		}
	}
	_, licenses := f.get(t, "/page/LICENSES.txt")
	for _, library := range []string{"preact", "uplot"} {
		if !strings.Contains(licenses, library) {
			t.Errorf("the notice of %s is missing", library)
		}
	}
}

// What happened a moment ago is in the last slot, which tells how much of it has passed.
func TestLastSlotIsTheOneThatNowIs(t *testing.T) {
	f := newFeed()
	f.now = time.UnixMilli(begun.UnixMilli() / coarseStep * coarseStep)
	f.losses = []loss{{symbol: "f", reason: "no_socket", class: "loss", packets: 3}}
	f.second() // the first reading
	f.second()
	f.losses[0].packets += 4
	s := f.state(t, "")
	if s.Slots.LastS != 3 || s.Slots.FirstMS+int64(s.Slots.Count-1)*coarseStep != f.now.UnixMilli()/coarseStep*coarseStep {
		t.Errorf("at %d the slots are %+v", f.now.UnixMilli(), s.Slots)
	}
	packets := s.Drops[0].Series.Packets
	if got := packets[len(packets)-1]; got < 4 {
		t.Errorf("in the last slot there are %v packets, want the 4 of a second ago", got)
	}
}
