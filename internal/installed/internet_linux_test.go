// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// internet is what an idle machine uses of the internet, on the machine itself: names, the time, and an archive
// of packages that has nothing new. It has an address in IPv6 as well, to which there is no route.
func internet(t *testing.T) {
	t.Helper()
	packet := func(port string, reply func([]byte) []byte) {
		connection, err := net.ListenPacket("udp4", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		go func() {
			request := make([]byte, 1500)
			for {
				n, from, err := connection.ReadFrom(request)
				if err != nil {
					return
				}
				_, _ = connection.WriteTo(reply(request[:n]), from) // whoever asks would see that there is no answer
			}
		}()
	}
	packet("53", name)
	packet("123", ntp)
	listener, err := net.Listen("tcp4", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: archive()}
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(func() { server.Close() })
}

// name answers a question for an address.
func name(request []byte) []byte {
	var message dnsmessage.Message
	if err := message.Unpack(request); err != nil || len(message.Questions) != 1 {
		return nil
	}
	message.Response, message.RecursionAvailable = true, true
	message.Additionals = nil
	question := message.Questions[0]
	head := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: 60}
	switch question.Type {
	case dnsmessage.TypeA:
		message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
	case dnsmessage.TypeAAAA:
		message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}}}
	}
	answer, err := message.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// ntp answers with the machine's own time.
//
// Source: RFC 5905, section 7.3.
func ntp(request []byte) []byte {
	const version4Server, era = 4<<3 | 4, 2_208_988_800 // from 1900 to 1970, in seconds
	if len(request) < 48 {
		return nil
	}
	answer := make([]byte, 48)
	answer[0], answer[1] = version4Server, 1
	copy(answer[12:], "IDLE")
	copy(answer[24:32], request[40:48])
	now := time.Now()
	for _, offset := range []int{16, 32, 40} {
		binary.BigEndian.PutUint32(answer[offset:], uint32(now.Unix()+era))
		binary.BigEndian.PutUint32(answer[offset+4:], uint32(uint64(now.Nanosecond())<<32/1e9))
	}
	return answer
}

// archive serves a Debian archive with one package.
func archive() http.Handler {
	const packages = "Package: idle\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nFilename: idle.deb\nSize: 1\n" +
		"SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nDescription: does nothing\n"
	release := fmt.Sprintf("Origin: Debian\nSuite: stable\nCodename: bookworm\nDate: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %x %d main/binary-amd64/Packages\n",
		time.Now().UTC().Format(time.RFC1123), sha256.Sum256([]byte(packages)), len(packages))
	mux := http.NewServeMux()
	for path, content := range map[string]string{"Release": release, "main/binary-amd64/Packages": packages} {
		mux.HandleFunc("/debian/dists/bookworm/"+path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		})
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	return mux
}
