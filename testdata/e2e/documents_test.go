// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestBlocks(t *testing.T) {
	got := blocks("a.md", "Text:\n\n    make a \\\n        b   # a remark\n    make c\n\n```yaml\nkey:\n    value\n```\nText.\n\n    d\n")
	want := []documented{
		{file: "a.md", text: "make a \\\n    b   # a remark\nmake c\n"},
		{file: "a.md", language: "yaml", text: "key:\n    value\n"},
		{file: "a.md", text: "d\n"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(documented{})); diff != "" {
		t.Errorf("blocks() differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"make a b", "make c"}, commandsOf(got[0].text)); diff != "" {
		t.Errorf("commandsOf() differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"make a", "a b"}, spans("`make a`, `a\nb`\n```c\n`c`\n```\n")); diff != "" {
		t.Errorf("spans() differs (-want +got):\n%s", diff)
	}
}

// complete has what a documented part of a configuration may leave out.
const complete = `
receivers: {nettap: }
exporters: {nop: , otlp_grpc: {endpoint: "backend.example:4317"}}
service: {pipelines: {metrics: {receivers: [nettap], exporters: [nop]}}}
`

// named replaces what documents name as an example.
var named = strings.NewReplacer(
	"<instrument>:\n  metrics", "drops:\n  metrics",
	"<instrument>:\n  events", "accepts:\n  events",
	"<metric_name>", "nettap.packet.dropped",
	"<event_name>", "nettap.connection.accepted",
)

// TestDistributionTakesWhatIsDocumented lets the distribution validate each block of YAML in the
// documents. A block is the beginning of a configuration, or the part of the receiver's that its first
// keys say.
func TestDistributionTakesWhatIsDocumented(t *testing.T) {
	t.Parallel()
	seen := 0
	for file, text := range documents(t) {
		for _, block := range blocks(file, text) {
			if block.language != "yaml" {
				continue
			}
			seen++
			t.Run(filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				var parsed map[string]any
				if err := yaml.Unmarshal([]byte(named.Replace(block.text)), &parsed); err != nil {
					t.Fatalf("%v\n%s", err, block.text)
				}
				if file == "receiver/README.md" {
					requireModule(t, parsed)
					return
				}
				config, err := yaml.Marshal(placed(parsed))
				if err != nil {
					t.Fatal(err)
				}
				path, learned := filepath.Join(t.TempDir(), "config.yaml"), filepath.Join(t.TempDir(), "learned.yaml")
				whole := strings.ReplaceAll(string(config), "/var/lib/nettap/learned.yaml", learned)
				for name, content := range map[string]string{path: whole, learned: "expect: [{ports: [22]}]\n"} {
					if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if output, err := exec.Command(binary, "validate", "--config", "yaml:"+complete, "--config", path).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s\n%s", err, output, config)
				}
			})
		}
	}
	if seen < 10 {
		t.Errorf("the documents have only %d blocks of YAML", seen)
	}
}

// placed returns the configuration of which the documents have a part.
func placed(part map[string]any) map[string]any {
	whole := []string{"receivers", "processors", "exporters", "service"}
	first := slices.Sorted(maps.Keys(part))[0]
	switch {
	case slices.Contains(whole, first):
		return part
	case first == "nettap":
		return map[string]any{"receivers": part}
	default:
		return map[string]any{"receivers": map[string]any{"nettap": part}}
	}
}

// requireModule requires that ocb builds the distribution with the module that is documented.
func requireModule(t *testing.T, documented map[string]any) {
	t.Helper()
	content, err := os.ReadFile("../../builder-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var builder struct{ Receivers []map[string]any }
	if err := yaml.Unmarshal(content, &builder); err != nil {
		t.Fatal(err)
	}
	own := builder.Receivers[0]
	delete(own, "path") // where the module is here
	if diff := cmp.Diff(map[string]any{"receivers": []any{own}}, documented); diff != "" {
		t.Errorf("what ocb is told differs (-want +got):\n%s", diff)
	}
}
