// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestKernelNamespacesReachEachOther(t *testing.T) {
	Require(t)
	a, b := Namespaces(t)

	for name, address := range map[string]netip.Addr{"IPv4": b.IPv4, "IPv6": b.IPv6} {
		t.Run(name, func(t *testing.T) {
			var listener net.Listener
			InNamespace(t, b.Name, func() {
				var err error
				if listener, err = net.Listen("tcp", netip.AddrPortFrom(address, 0).String()); err != nil {
					t.Fatal(err)
				}
			})
			defer listener.Close()
			InNamespace(t, a.Name, func() {
				connection, err := net.DialTimeout("tcp", listener.Addr().String(), time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				connection.Close()
			})
		})
	}
}
