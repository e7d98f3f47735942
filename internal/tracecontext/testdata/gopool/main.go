// SPDX-License-Identifier: Apache-2.0

// Command gopool makes a request over HTTP/1 and one over HTTP/2, keeps both
// connections, and waits for the end of its input.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"
)

func main() {
	plain := httptest.NewServer(http.NotFoundHandler())
	request(plain)
	encrypted := httptest.NewUnstartedServer(http.NotFoundHandler())
	encrypted.EnableHTTP2 = true
	encrypted.StartTLS()
	request(encrypted)
	time.Sleep(100 * time.Millisecond) // until the goroutines that served the requests wait
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

func request(server *httptest.Server) {
	response, err := server.Client().Get(server.URL)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}
