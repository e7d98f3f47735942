// SPDX-License-Identifier: Apache-2.0

package dashboards

import "encoding/json"

// object is a JSON object.
type object = map[string]any

// Grafana's grid is 24 units wide. Two panels are side by side.
const (
	width  = 12
	height = 8
)

// grafana returns the dashboard as JSON that Grafana can import. When it is imported, the user chooses a
// data source of type prometheus, which VictoriaMetrics can be, too.
func (d dashboard) grafana() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "${source}"}
	var panels []object
	for i, p := range d.panels {
		panels = append(panels, p.grafana(i, source))
	}
	content, err := json.MarshalIndent(object{
		"uid": "nettap-" + d.file, "title": d.title, "tags": []string{"nettap"}, "editable": true, "schemaVersion": 39,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "",
		"links": []object{{
			"title": "nettap", "type": "dashboards", "tags": []string{"nettap"}, "asDropdown": true, "keepTime": true, "includeVars": true,
		}},
		"templating": object{"list": d.variables(source)},
		"panels":     panels,
	}, "", "  ")
	return append(content, '\n'), err
}

func (d dashboard) variables(source object) []object {
	variables := []object{
		{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
		choice("host", "Host", "label_values(nettap_interface_io_bytes_total, host_id)", source),
	}
	if d.process {
		variables = append(variables, choice("process", "Process",
			`label_values(process_network_io_bytes_total{host_id=~"$host"}, process_executable_name)`, source))
	}
	return variables
}

// choice returns a variable of which the user can choose several values or all.
func choice(name, label, query string, source object) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source, "query": query, "refresh": 2, "sort": 1,
		"multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
	}
}

func (p panel) grafana(index int, source object) object {
	target := object{"refId": "A", "datasource": source, "expr": p.expression, "legendFormat": p.legend}
	kind := p.kind
	if kind == "" {
		kind = lines
	}
	if kind == table {
		target["instant"], target["format"] = true, "table"
	}
	return object{
		"id": index + 1, "type": kind, "title": p.title, "description": p.description, "datasource": source,
		"gridPos":     object{"x": index % 2 * width, "y": index / 2 * height, "w": width, "h": height},
		"fieldConfig": object{"defaults": object{"unit": p.unit}, "overrides": []object{}},
		"targets":     []object{target},
	}
}
