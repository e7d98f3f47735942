// SPDX-License-Identifier: Apache-2.0

// Package esapi has the types of [elasticsearch.Client].
package esapi

import (
	"io"
	"net/http"
)

// Indices is what Jaeger uses to write the templates of its indices.
type Indices struct {
	PutIndexTemplate func(name string, body io.Reader) (*http.Response, error)
}
