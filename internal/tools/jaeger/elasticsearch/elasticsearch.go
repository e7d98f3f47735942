// SPDX-License-Identifier: Apache-2.0

// Package elasticsearch stands for the client of Elasticsearch when Jaeger is built: the client would take
// more time to compile than all else, and no test uses it.
package elasticsearch

import (
	"errors"
	"net/http"

	"github.com/elastic/go-elasticsearch/v9/esapi"
)

// Config is what Jaeger sets.
type Config struct {
	Addresses                                 []string
	Username, Password                        string
	DiscoverNodesOnStart, CompressRequestBody bool
	Header                                    http.Header
	Transport                                 http.RoundTripper
}

// Client is what Jaeger uses.
type Client struct{ Indices *esapi.Indices }

// NewClient returns an error.
func NewClient(Config) (*Client, error) {
	return nil, errors.New("this Jaeger was built without Elasticsearch")
}
