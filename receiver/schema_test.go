// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// metadataFile contains the schema of the configuration, from which mdatagen makes
// receiver/config.schema.json for editors.
const metadataFile = "../metadata.yaml"

// schemaBlock matches the part of it that is generated here.
var schemaBlock = regexp.MustCompile(`(?m)^config:\n(?:  .*\n)*exported_configs:\n(?:  .*\n)*`)

// TestConfigurationHasASchema generates the schema from the configuration's types, their comments,
// and the defaults, as [TestConfigurationIsDocumented] does the documentation.
func TestConfigurationHasASchema(t *testing.T) {
	is, err := os.ReadFile(metadataFile)
	if err != nil {
		t.Fatal(err)
	}
	s := schema{documenter: documenter{comments: fieldComments(t)}}
	if err := yaml.Unmarshal(is, &s.described); err != nil {
		t.Fatal(err)
	}
	config := s.of("", "", reflect.ValueOf(createDefaultConfig()).Elem())
	attributes := s.of(attributesBlock, "What is said about a process.", reflect.ValueOf(metadata.DefaultResourceAttributesConfig()))
	block := encode(t, object{"config": config, "exported_configs": object{attributesBlock: attributes}})
	want := schemaBlock.ReplaceAllLiteralString(string(is), block)
	if *writeConfiguration {
		if err := os.WriteFile(metadataFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(is)); diff != "" {
		t.Errorf("the schema in metadata.yaml is not what the sources give: make generate writes it (-sources +file):\n%s", diff)
	}
}

// schema makes schemas of values that have their default.
type schema struct {
	documenter
	described struct {
		ResourceAttributes described `yaml:"resource_attributes"`
		Metrics            described `yaml:"metrics"`
		Events             described `yaml:"events"`
	}
}

type described map[string]struct {
	Description string `yaml:"description"`
}

type object = map[string]any

// attributesBlock is the same in each instrument, and only once in the schema.
const attributesBlock = "resource_attributes"

// encode writes short values on one line.
func encode(t *testing.T, value object) string {
	t.Helper()
	var root yaml.Node
	if err := root.Encode(value); err != nil {
		t.Fatal(err)
	}
	shorten(&root)
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(&root); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func shorten(n *yaml.Node) (depth int) {
	for _, child := range n.Content {
		depth = max(depth, 1+shorten(child))
	}
	if depth <= 2 {
		n.Style = yaml.FlowStyle
	}
	return depth
}

// of returns the schema of a value. block is the key of the block that contains it.
func (s *schema) of(block, description string, v reflect.Value) object {
	made := object{}
	if description != "" {
		made["description"] = description
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		made["type"], made["default"] = "duration", yamlOf(v)
		return made
	case percent:
		// The value is "5%" or 0, and mdatagen has no defaults for values with more than
		// one type.
		made["type"], made["description"] = "any", description+" The default is "+value.String()+"."
		return made
	}
	switch v.Kind() {
	case reflect.Struct:
		made["type"], made["properties"] = "object", s.properties(block, v)
	case reflect.Slice:
		made["type"], made["values"] = "slice", s.of(block, "", reflect.Zero(v.Type().Elem()))
		delete(made["values"].(object), "default")
		if v.Len() > 0 {
			made["default"] = v.Interface()
		}
	case reflect.Float64:
		made["type"], made["default"] = "double", v.Float()
	default:
		made["type"], made["default"] = v.Kind().String(), v.Interface()
	}
	return made
}

func (s *schema) properties(block string, v reflect.Value) object {
	all := object{}
	s.fields(v, func(typeName string, field reflect.StructField, key string, v reflect.Value) {
		description := sentence(field.Name, s.comments[typeName+"."+field.Name])
		for of, list := range map[string]described{
			"resource_attributes": s.described.ResourceAttributes, "metrics": s.described.Metrics, "events": s.described.Events,
		} {
			if of == block && list[key].Description != "" { // a field that is not in metadata.yaml keeps its own comment
				description = list[key].Description
			}
		}
		switch {
		case key == attributesBlock:
			all[key] = object{"$ref": key}
		// filters of the Collector, which are experimental
		case strings.HasPrefix(key, "events_") || strings.HasPrefix(key, "metrics_"):
		default:
			all[key] = s.of(key, description, v)
		}
	})
	return all
}
