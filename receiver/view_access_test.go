// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
)

// certificate writes a certificate for 127.0.0.1. It returns the paths of the certificate and its
// key, and a pool that trusts it.
func certificate(t *testing.T) (certFile, keyFile string, trusted *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted = x509.NewCertPool()
	trusted.AddCert(parsed)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, trusted
}

// password is an extension that authenticates requests by a password, as basicauth and others do.
type password struct {
	component.StartFunc
	component.ShutdownFunc
}

func (password) Authenticate(ctx context.Context, sources map[string][]string) (context.Context, error) {
	for _, name := range []string{"Authorization", "authorization"} {
		if values := sources[name]; len(values) == 1 && values[0] == "Bearer open sesame" {
			return ctx, nil
		}
	}
	return ctx, errors.New("no")
}

// withExtension is a Collector with an extension.
type withExtension struct{ component.Host }

func (withExtension) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{component.MustNewID("password"): password{}}
}

// TestViewIsBehindTLSAndAuth requires that the view supports what the Collector's HTTP servers support: a
// certificate, and extensions that authenticate. A request that is not authenticated gets nothing, not
// even the page.
func TestViewIsBehindTLSAndAuth(t *testing.T) {
	certFile, keyFile, trusted := certificate(t)
	r := withView(t, "127.0.0.1:0", onUnsupportedError, fakeMetrics())
	more := fmt.Sprintf("view: {tls: {cert_file: %q, key_file: %q}, auth: {authenticator: password}}", certFile, keyFile)
	if err := load(t, more, r.shared.config); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), withExtension{componenttest.NewNopHost()}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	address := r.shared.viewServer.listening.String()
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	for name, test := range map[string]struct {
		path, bearer, host string
		want               int
	}{
		"who knows the password":          {"/api/v1/state", "open sesame", "", http.StatusOK},
		"who knows it, with a browser":    {"/", "open sesame", "", http.StatusOK},
		"who does not":                    {"/api/v1/state", "please", "", http.StatusUnauthorized},
		"who says nothing":                {"/nettop", "", "", http.StatusUnauthorized},
		"the page":                        {"/page/page.js", "", "", http.StatusUnauthorized},
		"who knows it, by another's name": {"/api/v1/state", "open sesame", "evil.example", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = test.host
			if test.bearer != "" {
				request.Header.Set("Authorization", "Bearer "+test.bearer)
			}
			answer, err := trusting.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != test.want {
				t.Errorf("it is answered %d, want %d", answer.StatusCode, test.want)
			}
		})
	}
	trusting.CloseIdleConnections()
	plain, err := http.Get("http://" + address + "/api/v1/state")
	if err == nil {
		defer plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS it is answered %d", plain.StatusCode)
		}
	}
}

// TestViewNeedsItsAuthenticator requires that a missing extension is an error at the start, and that the
// server does not run without it.
func TestViewNeedsItsAuthenticator(t *testing.T) {
	r := withView(t, "127.0.0.1:0", onUnsupportedError, fakeMetrics())
	if err := load(t, "view: {auth: {authenticator: password}}", r.shared.config); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), componenttest.NewNopHost()); err == nil {
		t.Error("it starts without its authenticator")
		_ = r.Shutdown(t.Context())
	}
}
