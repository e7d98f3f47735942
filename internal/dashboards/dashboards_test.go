// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

var update = flag.Bool("update", false, "write deploy/grafana")

const (
	grafana = "../../deploy/grafana"
	rules   = "../../deploy/prometheus/nettap.rules.yaml"
)

func TestDashboardsAreWritten(t *testing.T) {
	for _, d := range dashboards {
		path := filepath.Join(grafana, d.file+".json")
		want, err := d.grafana()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what this package describes, go test -update writes it (-want +got):\n%s", path, diff)
		}
	}
}

// expressions returns the expressions of the files in deploy/grafana by panel, with variables that match
// everything.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(grafana, "*.json"))
	if err != nil || len(paths) != len(dashboards) {
		t.Fatalf("there are %d dashboards, want %d: %v", len(paths), len(dashboards), err)
	}
	chosen := strings.NewReplacer("$host", ".*", "$process", ".*", "$__rate_interval", "20s", "$__range", "1m")
	all := map[string]string{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(content, &read); err != nil {
			t.Fatal(err)
		}
		for _, panel := range read.Panels {
			for _, target := range panel.Targets {
				all[read.Title+": "+panel.Title] = chosen.Replace(target.Expr)
			}
		}
	}
	return all
}

// TestExpressionsAreRight lets Prometheus's parser read every expression.
func TestExpressionsAreRight(t *testing.T) {
	prometheus := parser.NewParser(parser.Options{})
	for panel, expression := range expressions(t) {
		if _, err := prometheus.ParseExpr(expression); err != nil {
			t.Errorf("%s: %v", panel, err)
		}
	}
	alerts(t)
}

// alerts returns the alerts of deploy/prometheus, read by Prometheus's own code.
func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errors := rulefmt.ParseFile(rules, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errors {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) != 1 {
		t.Fatalf("%s does not have one group", rules)
	}
	return groups.Groups[0].Rules
}

// notInAnchors matches what GitHub leaves out of a heading when it makes the anchor of it.
var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// TestAlertsLeadToTheDocuments requires that each alert has a link to a part of the documents that is there.
func TestAlertsLeadToTheDocuments(t *testing.T) {
	for _, alert := range alerts(t) {
		path, found := strings.CutPrefix(alert.Annotations["runbook_url"], "https://github.com/seed-7756021b/nettap/blob/main/")
		path, anchor, _ := strings.Cut(path, "#")
		text, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil || !found {
			t.Errorf("%s: %v", alert.Alert, err)
			continue
		}
		anchors := []string{""}
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
			anchors = append(anchors, strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-"))
		}
		if !slices.Contains(anchors, anchor) {
			t.Errorf("%s: %s has no #%s, but %q", alert.Alert, path, anchor, anchors)
		}
	}
}
