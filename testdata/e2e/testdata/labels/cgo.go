// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

// #include <unistd.h>
import "C"

var _ = C.getpid() // linked with C code
