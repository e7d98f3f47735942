// SPDX-License-Identifier: Apache-2.0

package view

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hosts decides which Host headers are valid. A foreign page can make its name lead to our address
// (DNS rebinding), and would then have our origin. But its name cannot be an address or localhost.
type hosts struct {
	loopback bool            // only this machine can reach the server
	allowed  map[string]bool // further names, in lower case
}

func newHosts(address net.Addr, allowed []string) hosts {
	h := hosts{loopback: IsLoopback(address), allowed: map[string]bool{}}
	for _, name := range allowed {
		h.allowed[strings.ToLower(name)] = true
	}
	return h
}

// IsLoopback reports whether only this machine can reach an address on which a server listens.
func IsLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback() // other addresses are sockets in the file system
}

// isOurs reports whether a Host header is valid. Its port is ignored, since it may be forwarded.
func (h hosts) isOurs(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // there is no port
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.ToLower(name)
	if name == "localhost" || name != "" && h.allowed[name] {
		return true
	}
	address, err := netip.ParseAddr(name)
	return err == nil && (!h.loopback || address.Unmap().IsLoopback())
}

// guard refuses requests that do more than read, and requests with a foreign Host header.
func (h hosts) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		switch {
		case !h.isOurs(r.Host):
			fail(w, r, http.StatusForbidden, "the Host header is no name of this server: add it to view.allowed_hosts if it should be")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			fail(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are answered")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// setHeaders lets a browser load nothing from other sites, and show nothing of ours inside other
// pages.
func setHeaders(header http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
			"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
		"Cache-Control":                "no-store",
	} {
		header.Set(name, value)
	}
}
