// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.yaml.in/yaml/v3"
)

// configurationDoc is generated from the configuration's types, their comments, and the defaults.
const configurationDoc = "../docs/configuration.md"

var writeConfiguration = flag.Bool("write-configuration", false, "write docs/configuration.md")

func TestConfigurationIsDocumented(t *testing.T) {
	d := documenter{comments: fieldComments(t)}
	d.block("", reflect.ValueOf(createDefaultConfig()).Elem(), 1)
	for _, missing := range d.missing {
		t.Errorf("%s has no comment", missing)
	}
	text := configurationHead + d.defaults.String() + configurationMiddle + d.keys.String()
	if *writeConfiguration {
		if err := os.WriteFile(configurationDoc, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(is)); diff != "" {
		t.Errorf("docs/configuration.md is not what the sources give: make generate writes it (-sources +file):\n%s", diff)
	}
}

const configurationHead = `<!-- Written by make generate, from receiver/*config.go: change the comments there. -->

# Configuration

Everything has a default, and these are the defaults:

` + "```yaml" + `
receivers:
  nettap:
`

const configurationMiddle = "```" + `

An instrument runs when it is enabled and a pipeline of its signal uses the receiver (traffic, drops, listeners and connections: metrics;
accepts: logs; calls: traces), or for the view, if there is one. In each instrument's block ` + "`resource_attributes`, `metrics` and `events`" + ` turn
single items on and off, as in other receivers; [telemetry.md](telemetry.md) lists them:

` + "```yaml" + `
    traffic:
      metrics:
        process.network.io: {attributes: [network.io.direction, network.interface.name, network.transport]}
      resource_attributes:
        process.command_line: {enabled: true}
` + "```" + `

## For all instruments

`

// documenter walks through a configuration.
type documenter struct {
	comments       map[string]string // by type and field
	defaults, keys strings.Builder
	missing        []string
}

// elsewhere are blocks that docs/telemetry.md documents.
var elsewhere = map[string]bool{"resource_attributes": true, "metrics": true, "events": true}

func (d *documenter) block(path string, value reflect.Value, depth int) {
	type child struct {
		key   string
		value reflect.Value
	}
	var blocks []child
	d.fields(value, func(typeName string, field reflect.StructField, key string, v reflect.Value) {
		if elsewhere[key] {
			return
		}
		comment, ok := d.comments[typeName+"."+field.Name]
		if !ok {
			d.missing = append(d.missing, typeName+"."+field.Name)
		}
		if v.Kind() == reflect.Struct {
			blocks = append(blocks, child{key, v})
			return
		}
		shown := yamlOf(v)
		fmt.Fprintf(&d.defaults, "%s%s: %s\n", strings.Repeat("  ", depth+1), key, shown)
		fmt.Fprintf(&d.keys, "- **`%s`** (`%s`): %s\n", key, shown, sentence(field.Name, comment))
	})
	for _, b := range blocks {
		at := strings.TrimPrefix(path+"."+b.key, ".")
		fmt.Fprintf(&d.defaults, "%s%s:\n", strings.Repeat("  ", depth+1), b.key)
		fmt.Fprintf(&d.keys, "\n%s `%s`\n\n", strings.Repeat("#", min(2+strings.Count(at, "."), 4)), at)
		if comment := d.comments[value.Type().Name()+"."+fieldOf(value, b.key)]; comment != "" {
			fmt.Fprintf(&d.keys, "%s\n\n", sentence(fieldOf(value, b.key), comment))
		}
		d.block(at, b.value, depth+1)
	}
}

// fields visits the fields that a user can set. Of the Collector's own settings for servers it
// visits only the endpoint, as the Collector documents the others.
func (d *documenter) fields(value reflect.Value, visit func(typeName string, field reflect.StructField, key string, v reflect.Value)) {
	if server, ok := value.Interface().(confighttp.ServerConfig); ok {
		field := reflect.StructField{Name: "Endpoint"}
		d.comments["ServerConfig.Endpoint"] = `Endpoint is where it listens, as "127.0.0.1:8777"; empty is nowhere. The other keys of ` +
			"[confighttp](https://pkg.go.dev/go.opentelemetry.io/collector/config/confighttp) (`tls`, `auth`, limits and timeouts) stand beside it."
		visit("ServerConfig", field, "endpoint", reflect.ValueOf(server.NetAddr.Endpoint))
		return
	}
	for i := range value.NumField() {
		field := value.Type().Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		switch {
		case !field.IsExported():
		case key == "":
			d.fields(value.Field(i), visit)
		default:
			visit(value.Type().Name(), field, key, value.Field(i))
		}
	}
}

// fieldOf returns the name of the field that has a key.
func fieldOf(value reflect.Value, key string) string {
	for i := range value.NumField() {
		if tag, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("mapstructure"), ","); tag == key {
			return value.Type().Field(i).Name
		}
	}
	return ""
}

// sentence returns a comment without the field's name, which the key replaces.
func sentence(name, comment string) string {
	comment = regexp.MustCompile(`^(?:`+name+` |`+name+`, )(?:is |are )?`).ReplaceAllString(strings.Join(strings.Fields(comment), " "), "")
	if comment == "" {
		return ""
	}
	comment = strings.ToUpper(comment[:1]) + comment[1:]
	return strings.TrimSuffix(comment, ".") + "."
}

func yamlOf(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		text := d.String()
		return regexp.MustCompile(`(\D)0s$`).ReplaceAllString(regexp.MustCompile(`m0s$`).ReplaceAllString(text, "m"), "$1")
	}
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "[]"
	}
	text, err := yaml.Marshal(v.Interface())
	if err != nil {
		panic(err)
	}
	if v.Kind() == reflect.Slice {
		return "[" + strings.ReplaceAll(strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll("\n"+string(text), "\n- ", ", "), ", ")), "\n", "") + "]"
	}
	return strings.TrimSpace(string(text))
}

// fieldComments returns the comment of each field of a configuration.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			of, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			fields, ok := of.Type.(*ast.StructType)
			if !ok || !strings.HasSuffix(of.Name.Name, "Config") {
				return true
			}
			for _, field := range fields.Fields.List {
				for _, ident := range field.Names {
					if text := strings.TrimSpace(field.Doc.Text() + field.Comment.Text()); text != "" {
						comments[of.Name.Name+"."+ident.Name] = text
					}
				}
			}
			return true
		})
	}
	return comments
}
